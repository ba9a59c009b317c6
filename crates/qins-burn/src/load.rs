//! Loads a checkpoint, one matrix at a time: when a model is encoded while loading, the plain model is never in memory as
//! a whole.

use std::{
    cell::RefCell,
    collections::{BTreeSet, HashMap},
    path::Path,
};

use burn::{
    module::Param,
    nn::RmsNorm,
    tensor::{Device, Tensor, TensorData},
};
use qins_model::{LinearKind, LinearSpec, ModelConfig, ModelTensor, NormSpec, Policy, check, tensors};
use qins_quant::{
    EncodedTensor, Error as QuantError, FloatDtype, Scheme,
    checkpoint::{Checkpoint, Plain},
};

use crate::{
    Error, Projection,
    decoder::{Attention, Block, Decoder, Mlp},
    device::one_stream,
};

/// What was loaded of a checkpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoadReport {
    /// Tensors in the model.
    pub applied: usize,
    /// Tensors that the model does not use.
    pub unused: Vec<String>,
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

/// Loads a model, and encodes plain linears by `policy`, if given.
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
    check(checkpoint, &config)?;
    if policy.is_some() && checkpoint.quantization().is_some() {
        let message = "expected a plain checkpoint to encode, found one that is encoded already";
        return Err(QuantError::file(checkpoint.config_path(), message).into());
    }
    let loader = Loader {
        checkpoint,
        policy,
        device,
        tied: config.tie_word_embeddings,
        epsilon: config.rms_norm_eps,
        used: BTreeSet::new(),
        report: LoadReport::default(),
    };
    let loader = RefCell::new(loader);
    let model =
        assemble(config, |spec| loader.borrow_mut().linear(spec), |spec| loader.borrow_mut().norm(spec), progress)?;
    let report = loader.into_inner().finish();
    Ok(Loaded { model, report })
}

/// Assembles a model from its linears and norms.
pub(crate) fn assemble(
    config: ModelConfig,
    mut linear: impl FnMut(&LinearSpec) -> Result<Projection, Error>,
    mut norm: impl FnMut(&NormSpec) -> Result<RmsNorm, Error>,
    mut progress: impl FnMut(usize, usize),
) -> Result<Decoder, Error> {
    let (mut linears, mut norms) = (HashMap::new(), HashMap::new());
    let all = tensors(&config);
    let total = all.iter().filter(|tensor| matches!(tensor, ModelTensor::Linear(_))).count();
    for tensor in &all {
        match tensor {
            ModelTensor::Linear(spec) => {
                progress(linears.len(), total);
                linears.insert(spec.module.as_str(), linear(spec)?);
            }
            ModelTensor::Norm(spec) => drop(norms.insert(spec.module.as_str(), norm(spec)?)),
        }
    }
    progress(total, total);
    // The list has every tensor of the blocks, since both follow from the same configuration.
    let mut linear = |module: &str| linears.remove(module).expect("a linear of the model's own list of tensors");
    let mut norm = |module: &str| norms.remove(module).expect("a norm of the model's own list of tensors");
    let block = |layer: usize| {
        let name = |last: &str| format!("model.layers.{layer}.{last}");
        Block {
            input_layernorm: norm(&name("input_layernorm")),
            self_attn: Attention::new(
                &config,
                ["q_proj", "k_proj", "v_proj", "o_proj"].map(|last| linear(&name(&format!("self_attn.{last}")))),
            ),
            post_attention_layernorm: norm(&name("post_attention_layernorm")),
            mlp: Mlp::new(
                &config,
                ["gate_proj", "up_proj", "down_proj"].map(|last| linear(&name(&format!("mlp.{last}")))),
            ),
        }
    };
    let layers = (0..config.num_hidden_layers).map(block).collect();
    let embed_tokens = linear("model.embed_tokens");
    let lm_head = (!config.tie_word_embeddings).then(|| linear("lm_head"));
    let last = norm("model.norm");
    Ok(Decoder::new(config, embed_tokens, layers, last, lm_head))
}

struct Loader<'a> {
    checkpoint: &'a Checkpoint,
    policy: Option<&'a Policy>,
    device: &'a Device,
    /// Whether the embedding is tied to the head.
    tied: bool,
    /// Of every norm.
    epsilon: f64,
    /// Stored tensors read so far.
    used: BTreeSet<String>,
    report: LoadReport,
}

impl Loader<'_> {
    fn linear(&mut self, spec: &LinearSpec) -> Result<Projection, Error> {
        let before = self.report.weight_bytes();
        let projection = self.projection(spec)?;
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
            self.used.insert(name.clone());
            let Some(recipe) = self.policy.and_then(|policy| policy.recipe(spec)) else {
                expect_finite(plain.dtype, plain.bytes, plain.path, &name)?;
                self.report.plain_bytes += plain.bytes.len();
                return Ok(Projection::from_bytes(plain.bytes, spec.shape, plain.dtype, self.device));
            };
            EncodedTensor::encode_as(&finite(&plain, &name)?, spec.shape, plain.dtype, &recipe)
                .and_then(|encoded| encoded.file_bytes(recipe.is_coded()).map(|bytes| (encoded, bytes)))
                .map_err(|e| QuantError::tensor(plain.path, name, e))?
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
        self.used.extend(checkpoint.tensors_of_module(module)?);
        let encoded = checkpoint.encoded(module)?;
        // Every other scheme decodes to finite weights, whatever its codes.
        if encoded.scheme() == Scheme::Lossless {
            let tensor = format!("{module}.weight_packed");
            let source = encoded.source();
            expect_finite(source, &encoded.bytes_of_rows(0..spec.shape[0]), checkpoint.path_of(&tensor), &tensor)?;
        }
        Ok((encoded, checkpoint.bytes_of_module(module)?))
    }

    fn norm(&mut self, spec: &NormSpec) -> Result<RmsNorm, Error> {
        let (name, plain) = (spec.tensor(), spec.plain(self.checkpoint)?);
        let gamma = Tensor::from_data(TensorData::new(finite(&plain, &name)?, [spec.width]), self.device);
        self.report.plain_bytes += plain.bytes.len();
        self.used.insert(name);
        Ok(RmsNorm { gamma: Param::from_tensor(gamma), epsilon: self.epsilon })
    }

    fn finish(mut self) -> LoadReport {
        let (used, unused): (Vec<_>, Vec<_>) = self.checkpoint.tensors().partition(|name| self.used.contains(*name));
        self.report.applied = used.len();
        self.report.unused = unused.into_iter().map(str::to_owned).collect();
        self.report
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
