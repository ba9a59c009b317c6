//! The tensors of a model: one list for loading, checking, converting and random checkpoints.

use std::collections::BTreeMap;

use qins_quant::checkpoint::{Checkpoint, Plain};

use crate::{Error, LinearKind, LinearSpec, ModelConfig, NormPlacement, QkNorm};

const EMBEDDING: &str = "model.embed_tokens";

const HEAD: &str = "lm_head";

/// A tensor of a model, by its name in the checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ModelTensor {
    /// The weights of a linear, the embedding or the head.
    Linear(LinearSpec),
    /// The bias of the linear before it.
    Bias(VectorSpec),
    /// The scale of a norm.
    Norm(VectorSpec),
}

/// A tensor of one dimension.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VectorSpec {
    /// The tensor's name, `model.layers.0.input_layernorm.weight`.
    pub name: String,
    /// Number of elements.
    pub width: usize,
}

impl VectorSpec {
    /// Its values in a checkpoint.
    ///
    /// # Errors
    /// When the tensor is missing, has another shape, or is not of a floating-point type.
    pub fn plain<'a>(&self, checkpoint: &'a Checkpoint) -> Result<Plain<'a>, Error> {
        let plain = checkpoint.plain(&self.name)?;
        if plain.shape != [self.width] {
            let message = format!("expected shape [{}], found {:?}", self.width, plain.shape);
            return Err(qins_quant::Error::tensor(plain.path, self.name.clone(), message).into());
        }
        Ok(plain)
    }
}

/// Every tensor of a model, in computation order.
pub fn tensors(config: &ModelConfig) -> Vec<ModelTensor> {
    use LinearKind::{Embedding, Head};
    let table = |kind: LinearKind, module: &str| {
        let shape = [config.vocab_size, config.hidden_size];
        ModelTensor::Linear(LinearSpec { module: module.to_owned(), kind, shape, fused: None })
    };
    let mut all = vec![table(Embedding, EMBEDDING)];
    (0..config.layers.len()).for_each(|layer| BlockTensors { config, layer, all: &mut all }.push());
    all.push(norm("model.norm".to_owned(), config.hidden_size));
    if !config.tie_word_embeddings {
        all.push(table(Head, HEAD));
    }
    all
}

fn norm(module: String, width: usize) -> ModelTensor {
    ModelTensor::Norm(VectorSpec { name: format!("{module}.weight"), width })
}

/// The tensors of one block.
struct BlockTensors<'a> {
    config: &'a ModelConfig,
    layer: usize,
    all: &'a mut Vec<ModelTensor>,
}

impl BlockTensors<'_> {
    fn push(mut self) {
        use LinearKind::{Down, Gate, K, O, Q, Up, V};
        let config = self.config;
        let (hidden, mlp, biases) = (config.hidden_size, config.intermediate_size, config.biases);
        let [q, kv] = [config.num_attention_heads, config.num_key_value_heads].map(|heads| heads * config.head_dim);
        let (attention_norms, mlp_norms) = config.norms.names();
        self.norm(attention_norms[0], hidden);
        self.linears("self_attn", Some("qkv_proj"), &[(Q, q, hidden), (K, kv, hidden), (V, kv, hidden)], biases.qkv);
        let qk_norm = match config.qk_norm {
            QkNorm::None => None,
            QkNorm::PerHead => Some([config.head_dim; 2]),
            QkNorm::AllHeads => Some([q, kv]),
        };
        if let Some([q, k]) = qk_norm {
            self.norm(Some("self_attn.q_norm"), q);
            self.norm(Some("self_attn.k_norm"), k);
        }
        self.linears("self_attn", None, &[(O, hidden, q)], biases.output);
        self.norm(attention_norms[1], hidden);
        self.norm(mlp_norms[0], hidden);
        self.linears("mlp", Some("gate_up_proj"), &[(Gate, mlp, hidden), (Up, mlp, hidden)], biases.mlp);
        self.linears("mlp", None, &[(Down, hidden, mlp)], biases.mlp);
        self.norm(mlp_norms[1], hidden);
    }

    fn name(&self, last: &str) -> String {
        format!("model.layers.{}.{last}", self.layer)
    }

    fn norm(&mut self, name: Option<&str>, width: usize) {
        self.all.extend(name.map(|name| norm(self.name(name), width)));
    }

    /// Linears, each with its rows and columns, in the order of their rows in a fused matrix.
    fn linears(&mut self, parent: &str, fused: Option<&str>, parts: &[(LinearKind, usize, usize)], bias: bool) {
        let total = parts.iter().map(|(_, rows, _)| rows).sum();
        let mut start = 0;
        for &(kind, rows, cols) in parts {
            let module = self.name(&format!("{parent}.{}", kind.name()));
            let fused = fused.map(|fused| (self.name(&format!("{parent}.{fused}")), total, start..start + rows));
            start += rows;
            let bias = bias.then(|| ModelTensor::Bias(VectorSpec { name: format!("{module}.bias"), width: rows }));
            self.all.push(ModelTensor::Linear(LinearSpec { module, kind, shape: [rows, cols], fused }));
            self.all.extend(bias);
        }
    }
}

impl NormPlacement {
    /// The names of a block's norms: before and after the attention, before and after the MLP.
    pub fn names(self) -> ([Option<&'static str>; 2], [Option<&'static str>; 2]) {
        let [input, attention] = ["input_layernorm", "post_attention_layernorm"].map(Some);
        let [before, after] = ["pre_feedforward_layernorm", "post_feedforward_layernorm"].map(Some);
        match self {
            // Llama's name for the norm before its MLP.
            Self::Before => ([input, None], [attention, None]),
            Self::After => ([None, attention], [None, after]),
            Self::BeforeAndAfter => ([input, attention], [before, after]),
        }
    }
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
        ModelTensor::Bias(_) | ModelTensor::Norm(_) => None,
    };
    tensors(config).into_iter().filter_map(linear).collect()
}
