//! Loads a checkpoint, one matrix at a time: when a model is encoded while loading, the plain model is never in memory as
//! a whole.

use std::{cell::RefCell, collections::HashMap, path::Path};

use burn::{
    module::Param,
    nn::RmsNorm,
    tensor::{Device, Tensor, TensorData},
};
use qins_model::{
    LinearKind, LinearSpec, ModelConfig, ModelTensor, Policy, Unused, VectorSpec, check, linears, tensors, unused,
};
use qins_quant::{
    Calibration, EncodedTensor, Error as QuantError, FloatDtype, Scheme,
    checkpoint::{Checkpoint, Plain},
};

use crate::{
    BlockCalibration, Error, Projection,
    decoder::{Attention, Block, Decoder, Mlp, Norms},
    device::one_stream,
};

/// What was loaded of a checkpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoadReport {
    /// Tensors that the model does not use.
    pub unused: Vec<Unused>,
    /// Linears that were encoded in the checkpoint or while loading.
    pub encoded: Vec<String>,
    /// Weights in encoded linears.
    pub encoded_weights: usize,
    /// Bytes in a file of the encoded linears, parameters included.
    pub encoded_bytes: usize,
    /// Bytes of all other tensors, in the checkpoint's types.
    pub plain_bytes: usize,
    /// Bytes of an embedding that is not tied to the head: the only weights that are not read for every token.
    pub embedding_bytes: usize,
}

impl LoadReport {
    /// Bytes of all weights.
    pub fn weight_bytes(&self) -> usize {
        self.encoded_bytes + self.plain_bytes
    }

    /// Bytes of the weights that are read for every token.
    pub fn bytes_per_token(&self) -> usize {
        self.weight_bytes() - self.embedding_bytes
    }

    /// Bits per encoded weight, parameters included; `None` if nothing is encoded.
    pub fn bits_per_weight(&self) -> Option<f64> {
        (self.encoded_weights > 0).then(|| self.encoded_bytes as f64 * 8.0 / self.encoded_weights as f64)
    }
}

/// A loaded model and its report.
#[derive(Debug)]
pub struct Loaded {
    /// The model.
    pub model: Decoder,
    /// What was loaded.
    pub report: LoadReport,
}

/// Loads a model, and encodes plain linears by `policy`, if given. With a calibration in the policy, each block is also loaded plain
/// by itself, to read the texts.
/// `progress` is called with the number of linears loaded and their total.
///
/// # Errors
/// When the model is not supported, a tensor is missing, of the wrong shape or not finite, or when
/// there is a policy and the checkpoint is already encoded.
pub fn load(
    checkpoint: &Checkpoint,
    policy: Option<&Policy>,
    device: &Device,
    progress: impl FnMut(usize, usize),
) -> Result<Loaded, Error> {
    one_stream();
    let config = ModelConfig::of(checkpoint)?;
    if policy.is_some() && checkpoint.quantization().is_some() {
        let message = "expected a plain checkpoint to encode, found one that is encoded already";
        return Err(QuantError::file(checkpoint.config_path(), message).into());
    }
    // Before any weight is read, but those that are stored twice.
    check(checkpoint, &config)?;
    let unused = unused(checkpoint, &config)?;
    let calibration = match policy.and_then(|policy| Some((policy, policy.calibration.as_ref()?))) {
        None => None,
        Some((policy, texts)) => Some(BlockCalibration::new(checkpoint, texts, policy.recipe.options.effort, device)?),
    };
    let all = linears(&config);
    let mut order = all.clone();
    // As a calibration is asked; without one embedding and head first, which are the largest, since each is in memory more than once for a moment.
    match &calibration {
        Some(calibration) => order.sort_by_key(|spec| calibration.place(&spec.module)),
        None => order.sort_by_key(|spec| !matches!(spec.kind, LinearKind::Embedding | LinearKind::Head)),
    }
    let loader = Loader { policy, calibration, ..Loader::plain(checkpoint, &config, device) };
    let loader = RefCell::new(loader);
    let linear = |spec: &LinearSpec| loader.borrow_mut().linear(spec);
    let model = assemble(config, &order, linear, |spec| loader.borrow_mut().vector(spec), progress)?;
    let mut report = LoadReport { unused, ..loader.into_inner().report };
    report.encoded.sort_by_cached_key(|module| all.iter().position(|spec| spec.module == *module));
    Ok(Loaded { model, report })
}

/// Assembles a model from its linears, in the `order` that they are asked for, and its vectors, which are biases and the stored weights of
/// norms.
pub(crate) fn assemble(
    config: ModelConfig,
    order: &[LinearSpec],
    mut linear: impl FnMut(&LinearSpec) -> Result<Projection, Error>,
    mut vector: impl FnMut(&VectorSpec) -> Result<Tensor<1>, Error>,
    mut progress: impl FnMut(usize, usize),
) -> Result<Decoder, Error> {
    let total = order.len();
    let mut parts = Parts { linears: HashMap::new(), norms: HashMap::new() };
    for (loaded, spec) in order.iter().enumerate() {
        progress(loaded, total);
        parts.linears.insert(spec.module.clone(), linear(spec)?);
    }
    for tensor in tensors(&config) {
        match tensor {
            ModelTensor::Linear(_) => {}
            ModelTensor::Bias(spec) => {
                let module = spec.name.trim_end_matches(".bias");
                let linear = parts.linear(module).with_bias(Some(Param::from_tensor(vector(&spec)?)));
                parts.linears.insert(module.to_owned(), linear);
            }
            ModelTensor::Norm(spec) => {
                let weight = vector(&spec)?;
                let gamma = Param::from_tensor(if config.norm_plus_one { weight.add_scalar(1.0) } else { weight });
                parts.norms.insert(spec.name, RmsNorm { gamma, epsilon: config.rms_norm_eps });
            }
        }
    }
    progress(total, total);
    let layers = (0..config.layers.len()).map(|layer| parts.block(&config, layer)).collect();
    let embed_tokens = parts.linear("model.embed_tokens");
    let lm_head = (!config.tie_word_embeddings).then(|| parts.linear("lm_head"));
    let last = parts.norms.remove("model.norm.weight").expect("the last norm of the model's own list of tensors");
    Ok(Decoder::new(config, embed_tokens, layers, last, lm_head))
}

/// A model's linears by their modules, and norms by the names of their weights, as far as they are not yet in place.
struct Parts {
    linears: HashMap<String, Projection>,
    norms: HashMap<String, RmsNorm>,
}

impl Parts {
    fn linear(&mut self, module: &str) -> Projection {
        // The list has every linear of the blocks, since both follow from the same configuration.
        self.linears.remove(module).expect("a linear of the model's own list of tensors")
    }

    fn block(&mut self, config: &ModelConfig, layer: usize) -> Block {
        let name = |last: &str| format!("model.layers.{layer}.{last}");
        let mut norm = |last: &str| self.norms.remove(&format!("{}.weight", name(last)));
        let qk_norms = ["self_attn.q_norm", "self_attn.k_norm"].map(&mut norm);
        let (attention, mlp) = config.norms.names();
        let [attention_norms, mlp_norms] = [attention, mlp].map(|names| {
            let [before, after] = names.map(|name| name.and_then(&mut norm));
            Norms { before, after }
        });
        let attention =
            ["q_proj", "k_proj", "v_proj", "o_proj"].map(|last| self.linear(&name(&format!("self_attn.{last}"))));
        let mlp = ["gate_proj", "up_proj", "down_proj"].map(|last| self.linear(&name(&format!("mlp.{last}"))));
        Block {
            attention_norms,
            self_attn: Attention::new(config, config.layers[layer], attention, qk_norms),
            mlp_norms,
            mlp: Mlp::new(config, mlp),
            factor: config.factors.residual,
        }
    }
}

pub(crate) struct Loader<'a> {
    checkpoint: &'a Checkpoint,
    policy: Option<&'a Policy>,
    calibration: Option<BlockCalibration<'a>>,
    device: &'a Device,
    /// Whether the embedding is tied to the head.
    tied: bool,
    report: LoadReport,
}

impl<'a> Loader<'a> {
    /// Loads what is in `checkpoint`, of a model with this configuration, as it is.
    pub(crate) fn plain(checkpoint: &'a Checkpoint, config: &ModelConfig, device: &'a Device) -> Self {
        let tied = config.tie_word_embeddings;
        Self { checkpoint, policy: None, calibration: None, device, tied, report: LoadReport::default() }
    }

    pub(crate) fn linear(&mut self, spec: &LinearSpec) -> Result<Projection, Error> {
        let before = self.report.weight_bytes();
        let projection = self.projection(spec)?;
        // It has been copied or encoded: without this the file would be in memory beside it.
        self.checkpoint.release();
        if spec.kind == LinearKind::Embedding && !self.tied {
            self.report.embedding_bytes = self.report.weight_bytes() - before;
        }
        Ok(projection)
    }

    fn projection(&mut self, spec: &LinearSpec) -> Result<Projection, Error> {
        let (encoded, bytes) = if self.checkpoint.is_encoded(&spec.module) {
            self.encoded(spec)?
        } else {
            let (name, plain) = spec.plain(self.checkpoint)?;
            let Some(recipe) = self.policy.and_then(|policy| policy.recipe(spec)) else {
                expect_finite(plain.dtype, plain.bytes, plain.path, &name)?;
                self.report.plain_bytes += plain.bytes.len();
                return Ok(Projection::from_bytes(plain.bytes, spec.shape, plain.dtype, self.device));
            };
            let weights = finite(&plain, &name)?;
            let recipe = match &mut self.calibration {
                None => recipe,
                Some(calibration) => (recipe.calibrated(&spec.module, calibration))
                    .map_err(|e| QuantError::tensor(plain.path, &name, e))?,
            };
            let encoded = EncodedTensor::encode_as(&weights, spec.shape, plain.dtype, &recipe)
                .and_then(|encoded| encoded.file_bytes(recipe.is_coded()).map(|bytes| (encoded, bytes)))
                .map_err(|e| QuantError::tensor(plain.path, &name, e))?;
            if let Some(calibration) = &mut self.calibration {
                (calibration.encoded(&spec.module, &encoded.0))
                    .map_err(|e| QuantError::tensor(plain.path, &name, e))?;
            }
            encoded
        };
        self.report.encoded.push(spec.module.clone());
        self.report.encoded_weights += spec.shape[0] * spec.shape[1];
        self.report.encoded_bytes += bytes;
        Ok(Projection::new(encoded, self.device))
    }

    /// A linear that is encoded in the checkpoint, and its bytes there.
    fn encoded(&mut self, spec: &LinearSpec) -> Result<(EncodedTensor, usize), Error> {
        let (checkpoint, module) = (self.checkpoint, &spec.module);
        // Before anything of that shape is allocated.
        spec.expect_encoded_shape(checkpoint)?;
        let encoded = checkpoint.encoded(module)?;
        // Every other scheme decodes to finite weights, whatever its codes.
        if encoded.scheme() == Scheme::Lossless {
            let tensor = format!("{module}.weight_packed");
            let source = encoded.source();
            expect_finite(source, &encoded.bytes_of_rows(0..spec.shape[0]), checkpoint.path_of(&tensor), &tensor)?;
        }
        Ok((encoded, checkpoint.bytes_of_module(module)?))
    }

    pub(crate) fn vector(&mut self, spec: &VectorSpec) -> Result<Tensor<1>, Error> {
        let plain = spec.plain(self.checkpoint)?;
        let vector = Tensor::from_data(TensorData::new(finite(&plain, &spec.name)?, [spec.width]), self.device);
        self.report.plain_bytes += plain.bytes.len();
        Ok(vector)
    }
}

/// The tensor's elements.
fn finite(plain: &Plain<'_>, name: &str) -> Result<Vec<f32>, Error> {
    expect_finite(plain.dtype, plain.bytes, plain.path, name)?;
    Ok(plain.widen())
}

/// One NaN in a weight would make every logit NaN.
fn expect_finite(dtype: FloatDtype, bytes: &[u8], path: &Path, name: &str) -> Result<(), Error> {
    match dtype.first_non_finite(bytes) {
        None => Ok(()),
        Some((index, value)) => {
            let message = format!("expected finite weights, found {value} at element {index}");
            Err(QuantError::tensor(path, name, message).into())
        }
    }
}
