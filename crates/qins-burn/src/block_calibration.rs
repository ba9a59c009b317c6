//! Calibration for error feedback, one block at a time.

use std::{
    collections::{BTreeMap, HashMap},
    error::Error as StdError,
    fmt,
    sync::Arc,
};

use burn::tensor::{Device, Tensor};
use qins_model::{CalibrationTexts, LinearKind, LinearSpec, linears};
use qins_quant::{Calibration, Effort, Feedback, Hessian, HessianError, checkpoint::Checkpoint};

use crate::{
    Error, Projections,
    blocks::Blocks,
    decoder::{CausalLm, Decoder},
    generate::expect_readable,
    layer::ActivationStats,
};

/// λ: what is added to the diagonal of the moments, as a share of its mean. On held-out text of five models 0.01 to 0.1 are alike.
const DAMPING: f64 = 0.1;

/// Tokens of texts that are read together, unless one has more.
const TOGETHER: usize = 512;

/// The weight of first positions in the moments of what queries, keys and values are computed from. Nearly every query attends to the
/// first position, which is one of hundreds in the texts: without this weight its error grows by 9 to 19 dB.
const FIRST_SHARE: f64 = 0.2;

/// The second moments of the inputs of a plain model's linears on some texts, for [`Conversion`](qins_model::Conversion).
///
/// The texts are read by one block after the other, and what is known of a block is dropped when another is asked for. In memory are,
/// at a time, the texts' hidden states, the plain weights of one block, and for each of its four inputs a matrix of its
/// channels in `f64`, and one or two in `f32`: beside 16,000 tokens, 2 GB for a model with 3072 channels and an MLP of 8192.
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
    /// The inputs of block `next`: of the texts, and of their first tokens.
    hidden: Vec<Texts>,
    first_hidden: Option<Texts>,
    next: usize,
    /// The inputs of block `next − 1`, or of the head, by the first linear that has them.
    inputs: BTreeMap<String, Inputs>,
}

/// Texts that are read together.
struct Texts {
    /// The number of tokens of each.
    lens: Vec<usize>,
    /// Their hidden states, `[tokens, hidden]`, one text after the other.
    hidden: Tensor<2>,
}

/// Where a linear is.
struct Place {
    /// The order in which to ask.
    index: usize,
    /// Its block, or for the head the number of blocks.
    block: usize,
    /// The first linear that has its input.
    input: String,
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
        let place = |(index, spec): (usize, &LinearSpec)| {
            let first = spec.kind.first_of_input();
            let block = spec.module.strip_prefix("model.layers.").and_then(|rest| rest.split('.').next()?.parse().ok());
            let block = match (block, spec.kind) {
                (Some(block), _) => block,
                (None, LinearKind::Head) => config.layers.len(),
                // The rows of an embedding are looked up; one that is tied to the head has the inputs of a head too.
                (None, LinearKind::Embedding) if config.tie_word_embeddings => config.layers.len(),
                (None, _) => return None,
            };
            let input = spec.module.replace(spec.kind.name(), first.name());
            Some((spec.module.clone(), Place { index, block, input }))
        };
        let mut linears: HashMap<String, Place> = specs.iter().enumerate().filter_map(place).collect();
        // What is known last is asked for last: the inputs of the head, though an embedding is the first in the list.
        for place in linears.values_mut().filter(|place| place.block == config.layers.len()) {
            place.index += specs.len();
        }
        let mut calibration = Self {
            blocks,
            effort,
            texts: texts.clone(),
            firsts: all_firsts,
            linears,
            hidden: Vec::new(),
            first_hidden: None,
            next: 0,
            inputs: BTreeMap::new(),
        };
        calibration.restart();
        Ok(calibration)
    }

    /// Returns to the inputs of the first block.
    fn restart(&mut self) {
        let outer = self.blocks.outer();
        let mut groups: Vec<Vec<&[u32]>> = Vec::new();
        for ids in &self.texts {
            match groups.last_mut() {
                Some(group) if group.iter().map(|ids| ids.len()).sum::<usize>() + ids.len() <= TOGETHER => {
                    group.push(ids)
                }
                _ => groups.push(vec![ids]),
            }
        }
        let embedded = |texts: &[&[u32]]| Texts {
            lens: texts.iter().map(|ids| ids.len()).collect(),
            hidden: outer.embed(&texts.concat()),
        };
        self.hidden = groups.iter().map(|group| embedded(group)).collect();
        // In a model in which positions attend to themselves alone.
        self.first_hidden = Some(embedded(&[&self.firsts]));
        self.next = 0;
        self.inputs.clear();
    }

    /// Reads on until the inputs of `block` are known.
    fn read(&mut self, block: usize) -> Result<(), Error> {
        if block + 1 < self.next {
            self.restart();
        }
        while self.next <= block {
            self.inputs.clear();
            if self.next == self.blocks.config().layers.len() {
                self.read_head()?;
            } else {
                self.read_block()?;
            }
            self.next += 1;
        }
        Ok(())
    }

    fn read_block(&mut self) -> Result<(), Error> {
        let [mut texts, mut firsts] = self.blocks.block(self.next)?;
        let of_texts = record(&mut texts, |kind| kind == kind.first_of_input())?;
        let of_firsts = record(&mut firsts, |kind| kind == LinearKind::Q)?;
        self.hidden.iter_mut().for_each(|group| read(&texts, group));
        self.first_hidden.iter_mut().for_each(|all| read(&firsts, all));
        let of_firsts: HashMap<String, ActivationStats> = of_firsts.into_iter().collect();
        for (module, stats) in of_texts {
            let Some(mut moments) = stats.take_products()? else { continue };
            let name = module.replacen("model.layers.0.", &format!("model.layers.{}.", self.next), 1);
            let first = of_firsts.get(&module).map(ActivationStats::take_products).transpose()?.flatten();
            if let Some(first) = first {
                moments.mix(&first, FIRST_SHARE).map_err(|e| failed(&name, e))?;
            }
            self.inputs.insert(name, Inputs::Moments(moments));
        }
        Ok(())
    }

    fn read_head(&mut self) -> Result<(), Error> {
        let outer = self.blocks.outer();
        let name = if outer.lm_head.is_some() { "lm_head" } else { "model.embed_tokens" };
        let stats = ActivationStats::of_products();
        self.hidden.iter().for_each(|texts| stats.add(&outer.normed(texts.hidden.clone())));
        self.inputs.extend(stats.take_products()?.map(|moments| (name.to_owned(), Inputs::Moments(moments))));
        Ok(())
    }

    /// The inputs of a linear.
    fn inputs(&mut self, module: &str) -> Result<Option<(String, &mut Inputs)>, Error> {
        let Some(Place { block, input, .. }) = self.linears.get(module) else { return Ok(None) };
        let (block, input) = (*block, input.clone());
        self.read(block)?;
        Ok(self.inputs.get_mut(&input).map(|inputs| (input, inputs)))
    }
}

impl Calibration for BlockCalibration<'_> {
    fn place(&self, module: &str) -> Option<usize> {
        self.linears.get(module).map(|place| place.index)
    }

    fn importance(&mut self, module: &str) -> Result<Option<Arc<[f32]>>, Box<dyn StdError + Send + Sync>> {
        Ok(match self.inputs(module)? {
            None => None,
            Some((name, Inputs::Moments(moments))) => {
                Some(moments.mean_squares().map_err(|e| failed(&name, e))?.into())
            }
            Some((_, Inputs::Factored(feedback))) => Some(Arc::clone(feedback.importance())),
        })
    }

    fn feedback(&mut self, module: &str) -> Result<Option<Arc<Feedback>>, Box<dyn StdError + Send + Sync>> {
        let effort = self.effort;
        let Some((name, inputs)) = self.inputs(module)? else { return Ok(None) };
        if let Inputs::Moments(moments) = inputs {
            let moments = std::mem::replace(moments, Hessian::new(0));
            let feedback = moments.into_feedback(DAMPING, effort).map_err(|e| failed(&name, e))?;
            *inputs = Inputs::Factored(Arc::new(feedback));
        }
        match inputs {
            Inputs::Moments(_) => Ok(None),
            Inputs::Factored(feedback) => Ok(Some(Arc::clone(feedback))),
        }
    }
}

impl fmt::Debug for BlockCalibration<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlockCalibration").field("texts", &self.texts.len()).finish_non_exhaustive()
    }
}

/// Records the inputs of the linears of these roles.
fn record(model: &mut Decoder, wanted: impl Fn(LinearKind) -> bool) -> Result<Vec<(String, ActivationStats)>, Error> {
    let mut all = Vec::new();
    model.layers.iter_mut().enumerate().try_for_each(|(i, layer)| {
        layer.visit_projections(&format!("model.layers.{i}"), &mut |kind, name, projection| {
            if wanted(kind) {
                let stats = ActivationStats::of_products();
                projection.stats = Some(stats.clone());
                all.push((name.to_owned(), stats));
            }
            Ok(())
        })
    })?;
    Ok(all)
}

/// Hidden states after a model's blocks.
fn read(model: &Decoder, texts: &mut Texts) {
    let mut caches: Vec<_> = texts.lens.iter().map(|n| model.cache(*n)).collect();
    let sequences = texts.lens.iter().zip(&mut caches).map(|(n, cache)| (*n, model.regime(*n), cache)).collect();
    // Within the thread pool, as prefill is.
    texts.hidden = rayon::scope(|_| model.through_blocks(texts.hidden.clone(), sequences));
}

fn failed(module: &str, error: HessianError) -> Error {
    match error {
        HessianError::NotFinite { channel, found } => {
            Error::Inputs { module: module.to_owned(), channel, found: found as f32 }
        }
        error => Error::Moments { module: module.to_owned(), source: error },
    }
}
