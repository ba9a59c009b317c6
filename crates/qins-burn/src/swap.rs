//! Which linears are encoded, and the exchange of plain ones for encoded ones in any module.

use std::{collections::BTreeSet, fmt, ops::Range, str::FromStr};

use qins_quant::{EncodeOptions, Scheme, checkpoint::Checkpoint};

use crate::{
    Error, Projection,
    phi3::{Attention, Block, Mlp, ModelConfig, Phi3},
};

/// The role of a linear in the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs)]
pub enum LinearKind {
    Q,
    K,
    V,
    O,
    Gate,
    Up,
    Down,
    Embedding,
    Head,
    /// Any linear of a module that has none of these.
    Other,
}

impl LinearKind {
    /// Every role.
    pub const ALL: [Self; 10] = [
        Self::Q,
        Self::K,
        Self::V,
        Self::O,
        Self::Gate,
        Self::Up,
        Self::Down,
        Self::Embedding,
        Self::Head,
        Self::Other,
    ];

    /// The last part of the module's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Q => "q_proj",
            Self::K => "k_proj",
            Self::V => "v_proj",
            Self::O => "o_proj",
            Self::Gate => "gate_proj",
            Self::Up => "up_proj",
            Self::Down => "down_proj",
            Self::Embedding => "embed_tokens",
            Self::Head => "lm_head",
            Self::Other => "other",
        }
    }

    /// The name without its `_proj`.
    pub fn short_name(self) -> &'static str {
        self.name().trim_end_matches("_proj")
    }
}

/// Which linears are encoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Targets {
    /// v, o, gate, up, down: the source report's intention, with v as rows of the fused matrix.
    Safe,
    /// Every linear of the blocks: what the report in fact encoded.
    All,
    /// The head and the embedding too.
    Full,
    /// Just these.
    Kinds(BTreeSet<LinearKind>),
}

impl Targets {
    /// Whether linears of this role are encoded.
    pub fn contains(&self, kind: LinearKind) -> bool {
        use LinearKind::{Embedding, Head, K, Q};
        match self {
            Self::Safe => !matches!(kind, Q | K | Embedding | Head),
            Self::All => !matches!(kind, Embedding | Head),
            Self::Full => true,
            Self::Kinds(kinds) => kinds.contains(&kind),
        }
    }
}

impl fmt::Display for Targets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Safe => f.write_str("safe"),
            Self::All => f.write_str("all"),
            Self::Full => f.write_str("full"),
            Self::Kinds(kinds) => f.write_str(&kinds.iter().map(|k| k.name()).collect::<Vec<_>>().join(",")),
        }
    }
}

impl FromStr for Targets {
    type Err = String;

    /// `safe`, `all`, `full`, or a list like `v_proj,down` (`_proj` may be left out).
    fn from_str(text: &str) -> Result<Self, String> {
        let kind = |name: &str| {
            LinearKind::ALL.into_iter().find(|k| k.name() == name || k.short_name() == name).ok_or_else(|| {
                let known = LinearKind::ALL.map(LinearKind::name).join(", ");
                format!("unknown target `{name}`: expected safe, all, full, or a list of {known}")
            })
        };
        match text {
            "safe" => Ok(Self::Safe),
            "all" => Ok(Self::All),
            "full" => Ok(Self::Full),
            list => list.split(',').map(|name| kind(name.trim())).collect::<Result<_, _>>().map(Self::Kinds),
        }
    }
}

/// Where a linear's weights lie in a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinearSpec {
    /// The module's full name, `model.layers.0.self_attn.v_proj`.
    pub module: String,
    /// Its role.
    pub kind: LinearKind,
    /// `[out, in]`.
    pub shape: [usize; 2],
    /// The fused matrix it may be part of: the module's name, all its rows, and those of this linear.
    pub fused: Option<(String, usize, Range<usize>)>,
}

impl LinearSpec {
    /// The tensor of a plain checkpoint that holds it, all rows of that, and its own among them: under its own name, or,
    /// where there is no such tensor, in the fused matrix.
    pub fn place(&self, checkpoint: &Checkpoint) -> (String, usize, Range<usize>) {
        let own = format!("{}.weight", self.module);
        match &self.fused {
            Some((fused, total, rows)) if !checkpoint.contains(&own) => {
                (format!("{fused}.weight"), *total, rows.clone())
            }
            _ => (own, self.shape[0], 0..self.shape[0]),
        }
    }
}

/// Every linear of a model, in the order of the computation.
pub fn linears(config: &ModelConfig) -> Vec<LinearSpec> {
    use LinearKind::{Down, Embedding, Gate, Head, K, O, Q, Up, V};
    let (hidden, mlp) = (config.hidden_size, config.intermediate_size);
    let [q, kv] = [config.num_attention_heads, config.num_key_value_heads].map(|heads| heads * config.head_dim);
    let table = |kind: LinearKind, module: &str| LinearSpec {
        module: module.to_owned(),
        kind,
        shape: [config.vocab_size, hidden],
        fused: None,
    };
    let mut all = vec![table(Embedding, "model.embed_tokens")];
    for layer in 0..config.num_hidden_layers {
        let mut add = |parent: &str, fused: Option<&str>, parts: &[(LinearKind, usize, usize)]| {
            let total = parts.iter().map(|(_, rows, _)| rows).sum();
            let mut start = 0;
            for &(kind, rows, cols) in parts {
                let name = |last: &str| format!("model.layers.{layer}.{parent}.{last}");
                let fused = fused.map(|fused| (name(fused), total, start..start + rows));
                all.push(LinearSpec { module: name(kind.name()), kind, shape: [rows, cols], fused });
                start += rows;
            }
        };
        add("self_attn", Some("qkv_proj"), &[(Q, q, hidden), (K, kv, hidden), (V, kv, hidden)]);
        add("self_attn", None, &[(O, hidden, q)]);
        add("mlp", Some("gate_up_proj"), &[(Gate, mlp, hidden), (Up, mlp, hidden)]);
        add("mlp", None, &[(Down, hidden, mlp)]);
    }
    if !config.tie_word_embeddings {
        all.push(table(Head, "lm_head"));
    }
    all
}

/// A module that holds projections.
pub trait Projections {
    /// Calls `visit` with the role, name and place of every projection.
    ///
    /// # Errors
    /// The first that `visit` gives.
    fn visit_projections(&mut self, name: &str, visit: &mut Visit<'_>) -> Result<(), Error>;
}

/// What is done with each projection.
pub type Visit<'a> = dyn FnMut(LinearKind, &str, &mut Projection) -> Result<(), Error> + 'a;

impl Projections for Attention {
    fn visit_projections(&mut self, name: &str, visit: &mut Visit<'_>) -> Result<(), Error> {
        visit(LinearKind::Q, &format!("{name}.q_proj"), &mut self.q_proj)?;
        visit(LinearKind::K, &format!("{name}.k_proj"), &mut self.k_proj)?;
        visit(LinearKind::V, &format!("{name}.v_proj"), &mut self.v_proj)?;
        visit(LinearKind::O, &format!("{name}.o_proj"), &mut self.o_proj)
    }
}

impl Projections for Mlp {
    fn visit_projections(&mut self, name: &str, visit: &mut Visit<'_>) -> Result<(), Error> {
        visit(LinearKind::Gate, &format!("{name}.gate_proj"), &mut self.gate_proj)?;
        visit(LinearKind::Up, &format!("{name}.up_proj"), &mut self.up_proj)?;
        visit(LinearKind::Down, &format!("{name}.down_proj"), &mut self.down_proj)
    }
}

impl Projections for Block {
    fn visit_projections(&mut self, name: &str, visit: &mut Visit<'_>) -> Result<(), Error> {
        self.self_attn.visit_projections(&format!("{name}.self_attn"), visit)?;
        self.mlp.visit_projections(&format!("{name}.mlp"), visit)
    }
}

impl Projections for Phi3 {
    fn visit_projections(&mut self, name: &str, visit: &mut Visit<'_>) -> Result<(), Error> {
        visit(LinearKind::Embedding, &format!("{name}.embed_tokens"), &mut self.embed_tokens)?;
        for (i, layer) in self.layers.iter_mut().enumerate() {
            layer.visit_projections(&format!("{name}.layers.{i}"), visit)?;
        }
        match &mut self.lm_head {
            Some(head) => visit(LinearKind::Head, "lm_head", head),
            None => Ok(()),
        }
    }
}

/// What a conversion did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConvertReport {
    /// Names of the projections now encoded.
    pub encoded: Vec<String>,
    /// Names of those left plain.
    pub plain: Vec<String>,
}

/// Encodes the projections of `module` that `targets` names, each in turn, so that never more than one is there twice.
///
/// # Errors
/// When a weight cannot be encoded; projections converted before stay so.
pub fn convert_linear_to_qins(
    module: &mut impl Projections,
    targets: &Targets,
    scheme: Scheme,
    options: &EncodeOptions,
) -> Result<ConvertReport, Error> {
    let mut report = ConvertReport::default();
    module.visit_projections("model", &mut |kind, name, projection| {
        if !targets.contains(kind) {
            report.plain.push(name.to_owned());
            return Ok(());
        }
        let encoded = projection.clone().encode(scheme, options);
        *projection = encoded.map_err(|source| Error::Encode { module: name.to_owned(), source })?;
        report.encoded.push(name.to_owned());
        Ok(())
    })?;
    Ok(report)
}
