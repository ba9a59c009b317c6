//! Calibration for error feedback, one block at a time.

use std::{collections::HashMap, error::Error as StdError, fmt, iter, slice, sync::Arc};

use burn::tensor::Device;
use qins_model::{CalibrationTexts, LinearKind, LinearSpec, ModelConfig, linears};
use qins_quant::{Calibration, Effort, EncodedTensor, Feedback, Hessian, HessianError, checkpoint::Checkpoint};

use crate::{
    Error, Projections,
    blocks::{Blocks, ONLY},
    decoder::{Decoder, Midway, Site, both},
    device,
    generate::expect_readable,
};

/// λ: what is added to the diagonal of the moments, as a share of its mean. On held-out text of five models 0.01 to 0.1 are alike.
const DAMPING: f64 = 0.1;

/// Tokens of texts that are read together, unless one has more. Each time all weights are unpacked, and all sums of moments read and written.
const TOGETHER: usize = 2048;

/// The weight of first positions in the moments of what queries, keys and values are computed from. Nearly every query attends to the
/// first position, which is one of hundreds in the texts: without this weight its error grows by 9 to 19 dB.
const FIRST_SHARE: f64 = 0.2;

/// The second moments of the inputs of a plain model's linears on some texts, for [`Conversion`](qins_model::Conversion).
///
/// The texts are read by one block after the other, and what is known of a linear's inputs is dropped when others are asked for. In
/// memory are, at a time, the texts' hidden states and inputs, the plain weights of one block, and a matrix of those inputs' channels in
/// `f64` and one or two in `f32`: beside 16,000 tokens, 2 GB for a model with 3072 channels and an MLP of 8192.
///
/// Once it is told of a linear's [encoded weights](Calibration::encoded), the texts are also read with the linears that are encoded so far,
/// and each linear makes up for their errors: see [`Hessian::add_pair`]. That takes the hidden states and inputs once more, one more matrix of
/// the channels in `f64` and two in `f32`, and, while moments are summed, some 0.3 GB for 2,048 tokens of 8192 channels.
///
/// ```no_run
/// use qins_burn::{Backend, BlockCalibration, Checkpoint, Effort, Files, Scheme, Targets};
/// use qins_model::{CalibrationTexts, Conversion};
///
/// let checkpoint = Checkpoint::open(Files::Directory("SmolLM2-135M".into()))?;
/// // 10,000 tokens or more in total.
/// let texts = CalibrationTexts { texts: vec![vec![1, 306, 471], vec![1, 910, 338]], firsts: Vec::new() };
/// let mut calibration = BlockCalibration::new(&checkpoint, &texts, Effort::Good, &Backend::default().device()?)?;
/// let conversion = Conversion::of(&checkpoint)?.scheme(Scheme::Q4).targets(Targets::All);
/// conversion.calibration(&mut calibration).write("SmolLM2-135M-q4")?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct BlockCalibration<'a> {
    blocks: Blocks<'a>,
    effort: Effort,
    texts: Vec<Vec<u32>>,
    /// First tokens of texts, each a sequence of its own.
    firsts: Vec<u32>,
    /// By the names of linears.
    linears: HashMap<String, Place>,
    /// `None` before anything is read.
    reading: Option<Reading>,
}

/// Where a linear is.
struct Place {
    /// The order in which to ask.
    index: usize,
    /// Its name in a model of its block alone; `None` for the head.
    alone: Option<String>,
    /// The step of the computation whose inputs it has: four in each block, then the head.
    step: usize,
}

/// How far the texts are read.
struct Reading {
    step: usize,
    /// The step of the head.
    head: usize,
    plain: Stream,
    /// With the linears that are encoded so far; `None` before the first.
    encoded: Option<Stream>,
    /// Of this step, once they are asked for.
    inputs: Option<Inputs>,
}

/// A model's computation.
#[derive(Clone)]
struct Stream {
    /// Of its block alone; and the same, sharing its weights, in which every position attends to itself alone.
    block: [Decoder; 2],
    texts: Vec<Texts>,
    /// In the second of these.
    firsts: Texts,
}

/// Texts that are read together, one after the other.
#[derive(Clone)]
struct Texts {
    /// The number of tokens of each.
    lens: Vec<usize>,
    midway: Midway,
}

enum Inputs {
    Moments(Hessian),
    Factored(Arc<Feedback>),
}

impl<'a> BlockCalibration<'a> {
    /// For the model of `checkpoint`, on these texts, with what `effort` needs. Nothing is read yet, but the embedding.
    ///
    /// # Errors
    /// When the model is not supported or encoded, there are no texts, or the model cannot read one of them.
    pub fn new(
        checkpoint: &'a Checkpoint,
        CalibrationTexts { texts, firsts }: &CalibrationTexts,
        effort: Effort,
        device: &Device,
    ) -> Result<Self, Error> {
        if texts.is_empty() {
            return Err(Error::NoTexts);
        }
        qins_quant::expect_source(checkpoint)?;
        let blocks = Blocks::open(checkpoint, device)?;
        let mut all_firsts: Vec<u32> = texts.iter().filter_map(|text| text.first()).chain(firsts).copied().collect();
        all_firsts.sort_unstable();
        all_firsts.dedup();
        let config = blocks.config();
        texts.iter().try_for_each(|ids| expect_readable(config, 0, ids))?;
        all_firsts.iter().try_for_each(|id| expect_readable(config, 0, &[*id]))?;
        let specs = linears(config);
        let head = head(config);
        let place = |index: usize, spec: &LinearSpec| {
            let site = match spec.kind {
                LinearKind::Q | LinearKind::K | LinearKind::V => Some(Site::Attention),
                LinearKind::O => Some(Site::Output),
                LinearKind::Gate | LinearKind::Up => Some(Site::Mlp),
                LinearKind::Down => Some(Site::Down),
                LinearKind::Head => None,
                // The rows of an embedding are looked up; one that is tied to the head has the inputs of a head too.
                LinearKind::Embedding if config.tie_word_embeddings => None,
                LinearKind::Embedding | LinearKind::Other => return None,
            };
            // What is known last is asked for last: the inputs of the head.
            let Some(site) = site else { return Some(Place { index: index + specs.len(), alone: None, step: head }) };
            let (block, rest) = spec.module.strip_prefix("model.layers.")?.split_once('.')?;
            let step = Site::ALL.len() * block.parse::<usize>().ok()? + site as usize;
            Some(Place { index, alone: Some(format!("{ONLY}{rest}")), step })
        };
        let linears =
            specs.iter().enumerate().filter_map(|(index, spec)| Some((spec.module.clone(), place(index, spec)?)));
        let linears = linears.collect();
        Ok(Self { blocks, effort, texts: texts.clone(), firsts: all_firsts, linears, reading: None })
    }

    /// The inputs of the first block's first linears.
    fn begin(&self) -> Result<Reading, Error> {
        let (outer, block) = (self.blocks.outer(), self.blocks.block(0)?);
        let mut groups: Vec<Vec<&[u32]>> = Vec::new();
        for ids in &self.texts {
            match groups.last_mut() {
                Some(group) if group.iter().map(|ids| ids.len()).sum::<usize>() + ids.len() <= TOGETHER => {
                    group.push(ids);
                }
                _ => groups.push(vec![ids]),
            }
        }
        let embedded = |texts: &[&[u32]]| Texts {
            lens: texts.iter().map(|ids| ids.len()).collect(),
            midway: block[0].begin(outer.embed(&texts.concat())),
        };
        let (texts, firsts) = (groups.iter().map(|group| embedded(group)).collect(), embedded(&[&self.firsts]));
        let head = head(self.blocks.config());
        Ok(Reading { step: 0, head, plain: Stream { block, texts, firsts }, encoded: None, inputs: None })
    }

    /// Reads on until the inputs of a linear are known.
    fn inputs(&mut self, module: &str) -> Result<Option<&mut Inputs>, Error> {
        let Some(&Place { step, .. }) = self.linears.get(module) else { return Ok(None) };
        let mut reading = match self.reading.take().filter(|reading| reading.step <= step) {
            Some(reading) => reading,
            None => self.begin()?,
        };
        while reading.step < step {
            reading.advance(&self.blocks)?;
        }
        if reading.inputs.is_none() {
            reading.inputs = Some(Inputs::Moments(reading.moments().map_err(|e| failed(module, e))?));
        }
        Ok(self.reading.insert(reading).inputs.as_mut())
    }
}

/// The step of the head.
fn head(config: &ModelConfig) -> usize {
    Site::ALL.len() * config.layers.len()
}

impl Reading {
    /// Where the computation is; `None` at the head.
    fn site(&self) -> Option<Site> {
        (self.step < self.head).then(|| Site::ALL[self.step % Site::ALL.len()])
    }

    fn advance(&mut self, blocks: &Blocks<'_>) -> Result<(), Error> {
        let Some(site) = self.site() else { return Ok(()) };
        self.inputs = None;
        self.step += 1;
        let (side_by_side, plain, encoded) = (self.side_by_side(), &mut self.plain, self.encoded.as_mut());
        // So that one has work for all threads where the other has not.
        both(side_by_side, || plain.advance(site), || encoded.map(|encoded| encoded.advance(site)));
        let streams = iter::once(&mut self.plain).chain(&mut self.encoded);
        if site == Site::Down && self.step < self.head {
            let block = blocks.block(self.step / Site::ALL.len())?;
            streams.for_each(|stream| stream.enter(&block));
        } else if site == Site::Down {
            streams.for_each(|stream| stream.leave(blocks.outer()));
        }
        Ok(())
    }

    fn side_by_side(&self) -> bool {
        self.plain.block[0].side_by_side()
    }

    /// The moments of the inputs.
    fn moments(&self) -> Result<Hessian, Failure> {
        let of = |texts: &dyn Fn(&Stream) -> &[Texts]| {
            // Not at the head: an embedding that is tied to it may be asked for first.
            let encoded = self.encoded.as_ref().filter(|_| self.site().is_some());
            let [plain, encoded] = [Some(&self.plain), encoded].map(|stream| stream.map(texts));
            let read = |texts: &Texts| device::read(texts.midway.inputs.clone());
            let plain = plain.unwrap_or_default();
            let mut moments = Hessian::new(plain.first().map_or(0, |texts| texts.midway.inputs.dims()[1]));
            for (i, texts) in plain.iter().enumerate() {
                match encoded.map(|encoded| &encoded[i]) {
                    None => moments.add(&read(texts)?)?,
                    Some(encoded) => {
                        let (plain, encoded) = both(self.side_by_side(), || read(texts), || read(encoded));
                        moments.add_pair(&plain?, &encoded?)?;
                    }
                }
            }
            Ok::<_, Failure>(moments)
        };
        let mut moments = of(&|stream| &stream.texts)?;
        if self.site() == Some(Site::Attention) {
            moments.mix(&of(&|stream| slice::from_ref(&stream.firsts))?, FIRST_SHARE)?;
        }
        Ok(moments)
    }
}

impl Stream {
    /// Through the linears of a site, to the next one.
    fn advance(&mut self, site: Site) {
        let [of_texts, of_firsts] = &self.block;
        let advance = |model: &Decoder, texts: &mut Texts| {
            // Within the thread pool, as prefill is.
            texts.midway = rayon::scope(|_| model.advance(site, texts.midway.clone(), &texts.lens));
        };
        self.texts.iter_mut().for_each(|texts| advance(of_texts, texts));
        advance(of_firsts, &mut self.firsts);
    }

    /// Into the next block.
    fn enter(&mut self, block: &[Decoder; 2]) {
        self.block.clone_from(block);
        for texts in self.texts.iter_mut().chain(iter::once(&mut self.firsts)) {
            texts.midway = block[0].begin(texts.midway.x.clone());
        }
    }

    /// To the head.
    fn leave(&mut self, outer: &Decoder) {
        self.texts.iter_mut().for_each(|texts| texts.midway.inputs = outer.normed(texts.midway.x.clone()));
    }

    /// Puts an encoded linear in the place of the plain one.
    fn encode(&mut self, alone: &str, encoded: &EncodedTensor) -> Result<(), Error> {
        self.block.iter_mut().try_for_each(|model| {
            model.visit_projections("model", &mut |_, name, projection| {
                if name == alone {
                    *projection = projection.encoded_as(encoded.clone());
                }
                Ok(())
            })
        })
    }
}

impl Calibration for BlockCalibration<'_> {
    fn place(&self, module: &str) -> Option<usize> {
        self.linears.get(module).map(|place| place.index)
    }

    fn importance(&mut self, module: &str) -> Result<Option<Arc<[f32]>>, Box<dyn StdError + Send + Sync>> {
        Ok(match self.inputs(module)? {
            None => None,
            Some(Inputs::Moments(moments)) => {
                Some(moments.mean_squares().map_err(|e| failed(module, e.into()))?.into())
            }
            Some(Inputs::Factored(feedback)) => Some(Arc::clone(feedback.importance())),
        })
    }

    fn feedback(&mut self, module: &str) -> Result<Option<Arc<Feedback>>, Box<dyn StdError + Send + Sync>> {
        let effort = self.effort;
        let Some(inputs) = self.inputs(module)? else { return Ok(None) };
        if let Inputs::Moments(moments) = inputs {
            let moments = std::mem::replace(moments, Hessian::new(0));
            let feedback = moments.into_feedback(DAMPING, effort).map_err(|e| failed(module, e.into()))?;
            *inputs = Inputs::Factored(Arc::new(feedback));
        }
        match inputs {
            Inputs::Moments(_) => Ok(None),
            Inputs::Factored(feedback) => Ok(Some(Arc::clone(feedback))),
        }
    }

    fn follows(&self, module: &str) -> bool {
        self.effort != Effort::Fast && self.linears.get(module).is_some_and(|place| place.alone.is_some())
    }

    fn encoded(&mut self, module: &str, encoded: &EncodedTensor) -> Result<(), Box<dyn StdError + Send + Sync>> {
        let (true, Some(reading), Some(place)) = (self.follows(module), &mut self.reading, self.linears.get(module))
        else {
            return Ok(());
        };
        match &place.alone {
            Some(alone) if place.step == reading.step => {
                let plain = &reading.plain;
                Ok(reading.encoded.get_or_insert_with(|| plain.clone()).encode(alone, encoded)?)
            }
            _ => Ok(()),
        }
    }
}

impl fmt::Debug for BlockCalibration<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlockCalibration").field("texts", &self.texts.len()).finish_non_exhaustive()
    }
}

/// Why inputs have no moments.
enum Failure {
    Moments(HessianError),
    Device(Error),
}

impl From<HessianError> for Failure {
    fn from(error: HessianError) -> Self {
        Self::Moments(error)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Device(error)
    }
}

fn failed(module: &str, error: Failure) -> Error {
    match error {
        Failure::Device(error) => error,
        Failure::Moments(HessianError::NotFinite { channel, found }) => {
            Error::Inputs { module: module.to_owned(), channel, found: found as f32 }
        }
        Failure::Moments(error) => Error::Moments { module: module.to_owned(), source: error },
    }
}
