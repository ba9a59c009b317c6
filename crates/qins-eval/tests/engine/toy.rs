//! A bigram model: the logits after token t are row t of the sum of all its linears, each `[VOCABULARY, VOCABULARY]`. It encodes
//! real weights with real schemes, and every metric can be computed by hand. Its faults make the evaluation fail.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use qins_eval::{Arithmetic, EvalLoader, EvalModel, GenerateOptions, ModelError, OnToken, Scoring, WeightSizes};
use qins_model::{LinearSpec, ModelConfig, ModelSource, Policy, linears, random_weights, tensors};
use qins_quant::{EncodedTensor, FloatDtype, checkpoint::Files, kv::KvScheme};
use safetensors::{Dtype, tensor::TensorView};
use serde_json::json;

pub(crate) const VOCABULARY: usize = 16;

/// Something that is wrong with an engine.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Fault {
    None,
    /// Every call of `score` gives other logits.
    NotDeterministic,
    /// `restore` leaves the encoded weights in place.
    RestoreDoesNothing,
    /// The call of `score` with this number fails, counted from 0.
    ScoreFails(usize),
}

/// Loads [`Bigram`]s, and counts them.
pub(crate) struct Loader {
    pub(crate) fault: Fault,
    pub(crate) loads: AtomicUsize,
}

impl Loader {
    pub(crate) fn new(fault: Fault) -> Self {
        Self { fault, loads: AtomicUsize::new(0) }
    }
}

impl EvalLoader for Loader {
    fn load(&self, source: &ModelSource, policy: Option<&Policy>) -> Result<Box<dyn EvalModel>, ModelError> {
        self.loads.fetch_add(1, Ordering::Relaxed);
        Ok(Box::new(Bigram::new(source, policy, self.fault)?))
    }
}

pub(crate) struct Bigram {
    config: ModelConfig,
    plain: BTreeMap<String, Vec<f32>>,
    weights: BTreeMap<String, Vec<f32>>,
    sizes: WeightSizes,
    bf16: bool,
    fault: Fault,
    scored: AtomicUsize,
}

impl Bigram {
    pub(crate) fn new(source: &ModelSource, policy: Option<&Policy>, fault: Fault) -> Result<Self, ModelError> {
        let config = ModelConfig::of(&source.checkpoint)?;
        let mut plain = BTreeMap::new();
        for spec in linears(&config) {
            let weights = spec.plain(&source.checkpoint)?.1.widen();
            plain.insert(spec.module, weights);
        }
        let weights = plain.clone();
        let (sizes, scored) = (WeightSizes::default(), AtomicUsize::new(0));
        let mut model = Self { config, plain, weights, sizes, bf16: false, fault, scored };
        model.apply(policy.unwrap_or(&Policy::new(none(), qins_quant::Scheme::Q8)))?;
        model.plain = model.weights.clone();
        Ok(model)
    }

    fn logits(&self, token: u32) -> Vec<f32> {
        let row = token as usize * VOCABULARY..(token as usize + 1) * VOCABULARY;
        let mut logits = vec![0.0; VOCABULARY];
        for weights in self.weights.values() {
            logits.iter_mut().zip(&weights[row.clone()]).for_each(|(logit, w)| *logit += w);
        }
        // Towards zero, which is as coarse as bf16 is.
        if self.bf16 {
            logits.iter_mut().for_each(|logit| *logit = f32::from_bits(logit.to_bits() & 0xffff_0000));
        }
        logits
    }
}

fn none() -> qins_model::Targets {
    qins_model::Targets::Kinds([].into())
}

impl EvalModel for Bigram {
    fn config(&self) -> &ModelConfig {
        &self.config
    }

    fn sizes(&self) -> WeightSizes {
        self.sizes
    }

    fn generate(
        &self,
        prompts: &[(&[u32], GenerateOptions)],
        on_token: &mut OnToken<'_>,
    ) -> Result<(), (usize, ModelError)> {
        for (i, (prompt, options)) in prompts.iter().enumerate() {
            let failed = |message: &str| (i, message.into());
            let mut choice = options.sampler.start().map_err(|e| (i, e.into()))?;
            let mut read = prompt.to_vec();
            for _ in 0..options.max_new_tokens {
                let logits = self.logits(*read.last().ok_or_else(|| failed("empty prompt"))?);
                let id = choice.next(&logits, &read).ok_or_else(|| failed("expected finite logits"))?;
                if on_token(i, id, &logits).is_break() {
                    return Ok(());
                }
                read.push(id);
                if options.stop_ids.contains(&id) {
                    break;
                }
            }
        }
        Ok(())
    }

    fn score(&self, context: &[u32], continuation: &[u32], _: Scoring) -> Result<Vec<f32>, ModelError> {
        let call = self.scored.fetch_add(1, Ordering::Relaxed);
        if self.fault == Fault::ScoreFails(call) {
            return Err("the device failed".into());
        }
        let read = context.iter().chain(continuation).skip(context.len() - 1).take(continuation.len());
        let mut logits: Vec<f32> = read.flat_map(|token| self.logits(*token)).collect();
        if self.fault == Fault::NotDeterministic {
            logits.iter_mut().step_by(2).for_each(|logit| *logit += 1e-3 * call as f32);
        }
        Ok(logits)
    }

    /// A bigram model has no keys.
    fn set_arithmetic(&mut self, arithmetic: Arithmetic) {
        self.bf16 = arithmetic == Arithmetic::Bf16;
    }

    /// A bigram model has no cache.
    fn set_kv(&mut self, _: KvScheme) {}

    fn apply(&mut self, policy: &Policy) -> Result<(), ModelError> {
        self.weights.clone_from(&self.plain);
        let mut encoded = WeightSizes::default();
        let mut encoded_bytes = 0;
        for spec in linears(&self.config) {
            let weights = &self.plain[&spec.module];
            let Some(recipe) = policy.recipe(&spec) else {
                encoded.bytes += 4 * weights.len() as u64;
                continue;
            };
            let tensor = EncodedTensor::encode_as(weights, spec.shape, FloatDtype::F32, &recipe)?;
            encoded.encoded_weights += weights.len() as u64;
            encoded_bytes += tensor.bytes() as u64;
            self.weights.insert(spec.module, tensor.decode());
        }
        encoded.bytes += encoded_bytes;
        let bits = 8.0 * encoded_bytes as f64 / encoded.encoded_weights as f64;
        encoded.bits_per_weight = (encoded.encoded_weights > 0).then_some(bits);
        self.sizes = encoded;
        Ok(())
    }

    fn replace(
        &mut self,
        encoded: &mut dyn FnMut(&str) -> Result<Option<EncodedTensor>, ModelError>,
    ) -> Result<(), ModelError> {
        self.weights.clone_from(&self.plain);
        for (module, weights) in &mut self.weights {
            if let Some(encoded) = encoded(module)? {
                *weights = encoded.decode();
            }
        }
        Ok(())
    }

    fn restore(&mut self) {
        if self.fault != Fault::RestoreDoesNothing {
            self.weights.clone_from(&self.plain);
        }
    }

    fn visit_weights(&mut self, visit: &mut dyn FnMut(&str, Vec<f32>)) -> Result<(), ModelError> {
        self.weights.iter().for_each(|(module, weights)| visit(module, weights.clone()));
        Ok(())
    }
}

/// A Llama of two blocks in memory. `weights` gives the weights of each linear; norms are ones.
pub(crate) fn source(name: &str, weights: impl Fn(usize, &LinearSpec) -> Vec<f32>) -> ModelSource {
    let config = json!({
        "model_type": "llama", "vocab_size": VOCABULARY, "hidden_size": VOCABULARY, "intermediate_size": VOCABULARY,
        "num_hidden_layers": 2, "num_attention_heads": 2, "max_position_embeddings": 64, "rms_norm_eps": 1e-5,
        "hidden_act": "silu",
    });
    let parsed = ModelConfig::parse(&config, "config.json".as_ref()).unwrap();
    let mut stored: BTreeMap<String, (Vec<usize>, Vec<u8>)> = BTreeMap::new();
    for (i, tensor) in tensors(&parsed).into_iter().enumerate() {
        let (name, shape, values) = match tensor {
            qins_model::ModelTensor::Linear(spec) => {
                (format!("{}.weight", spec.module), spec.shape.to_vec(), weights(i, &spec))
            }
            qins_model::ModelTensor::Bias(spec) | qins_model::ModelTensor::Norm(spec) => {
                (spec.name, vec![spec.width], vec![1.0; spec.width])
            }
        };
        stored.insert(name, (shape, values.into_iter().flat_map(f32::to_le_bytes).collect()));
    }
    let views = stored
        .iter()
        .map(|(name, (shape, bytes))| (name.clone(), TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap()));
    let file = safetensors::serialize(views, None).unwrap();
    let files: BTreeMap<String, Arc<[u8]>> = [
        ("config.json".to_owned(), config.to_string().into_bytes().into()),
        ("model.safetensors".to_owned(), file.into()),
    ]
    .into();
    ModelSource::of_files(name, Files::Memory(Arc::new(files))).unwrap()
}

/// Logits with a standard deviation of 3, from 16 linears.
pub(crate) fn random_source(seed: u64) -> ModelSource {
    source("random bigram", |i, spec| {
        let n = spec.shape[0] * spec.shape[1];
        random_weights(n, VOCABULARY, seed + i as u64).into_iter().map(|w| 3.0 * w).collect()
    })
}
