//! The tensors of a model: one list for loading, checking, converting and random checkpoints.

use std::collections::BTreeMap;

use qins_quant::checkpoint::{Checkpoint, Plain};

use crate::{Error, LinearKind, LinearSpec, ModelConfig};

const EMBEDDING: &str = "model.embed_tokens";

const HEAD: &str = "lm_head";

/// A tensor of a model, by its name in the checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ModelTensor {
    /// The weights of a linear, the embedding or the head.
    Linear(LinearSpec),
    /// The scale of a norm.
    Norm(NormSpec),
}

/// The scale of a norm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NormSpec {
    /// The module's full name, `model.layers.0.input_layernorm`.
    pub module: String,
    /// Number of elements.
    pub width: usize,
}

impl NormSpec {
    /// The tensor's name.
    pub fn tensor(&self) -> String {
        format!("{}.weight", self.module)
    }

    /// Its values in a checkpoint.
    ///
    /// # Errors
    /// When the tensor is missing, has another shape, or is not of a floating-point type.
    pub fn plain<'a>(&self, checkpoint: &'a Checkpoint) -> Result<Plain<'a>, Error> {
        let name = self.tensor();
        let plain = checkpoint.plain(&name)?;
        if plain.shape != [self.width] {
            let message = format!("expected shape [{}], found {:?}", self.width, plain.shape);
            return Err(qins_quant::Error::tensor(plain.path, name, message).into());
        }
        Ok(plain)
    }
}

/// Every tensor of a model, in computation order.
pub fn tensors(config: &ModelConfig) -> Vec<ModelTensor> {
    use LinearKind::{Down, Embedding, Gate, Head, K, O, Q, Up, V};
    let (hidden, mlp) = (config.hidden_size, config.intermediate_size);
    let [q, kv] = [config.num_attention_heads, config.num_key_value_heads].map(|heads| heads * config.head_dim);
    let table = |kind: LinearKind, module: &str| {
        let shape = [config.vocab_size, hidden];
        ModelTensor::Linear(LinearSpec { module: module.to_owned(), kind, shape, fused: None })
    };
    let norm = |module: String| ModelTensor::Norm(NormSpec { module, width: hidden });
    let mut all = vec![table(Embedding, EMBEDDING)];
    for layer in 0..config.num_hidden_layers {
        let block = format!("model.layers.{layer}");
        // Each with its rows and columns, in the order of their rows in a fused matrix.
        let linears = |parent: &str, fused: Option<&str>, parts: &[(LinearKind, usize, usize)]| {
            let total = parts.iter().map(|(_, rows, _)| rows).sum();
            let name = |last: &str| format!("{block}.{parent}.{last}");
            let mut start = 0;
            let linear = |&(kind, rows, cols): &(LinearKind, usize, usize)| {
                let fused = fused.map(|fused| (name(fused), total, start..start + rows));
                start += rows;
                ModelTensor::Linear(LinearSpec { module: name(kind.name()), kind, shape: [rows, cols], fused })
            };
            parts.iter().map(linear).collect::<Vec<_>>()
        };
        all.push(norm(format!("{block}.input_layernorm")));
        all.extend(linears("self_attn", Some("qkv_proj"), &[(Q, q, hidden), (K, kv, hidden), (V, kv, hidden)]));
        all.extend(linears("self_attn", None, &[(O, hidden, q)]));
        all.push(norm(format!("{block}.post_attention_layernorm")));
        all.extend(linears("mlp", Some("gate_up_proj"), &[(Gate, mlp, hidden), (Up, mlp, hidden)]));
        all.extend(linears("mlp", None, &[(Down, hidden, mlp)]));
    }
    all.push(norm("model.norm".to_owned()));
    if !config.tie_word_embeddings {
        all.push(table(Head, HEAD));
    }
    all
}

/// Tensors that a checkpoint may have though the model does not read them, and the one that each must equal: a head that is tied to
/// the embedding.
pub(crate) fn copies(config: &ModelConfig) -> BTreeMap<String, String> {
    let [head, embedding] = [HEAD, EMBEDDING].map(|module| format!("{module}.weight"));
    config.tie_word_embeddings.then_some((head, embedding)).into_iter().collect()
}

/// The linears among [`tensors`], in their order.
pub fn linears(config: &ModelConfig) -> Vec<LinearSpec> {
    let linear = |tensor| match tensor {
        ModelTensor::Linear(spec) => Some(spec),
        ModelTensor::Norm(_) => None,
    };
    tensors(config).into_iter().filter_map(linear).collect()
}
