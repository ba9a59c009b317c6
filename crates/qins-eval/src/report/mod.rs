//! The report of an evaluation: the content of `report.json`, and its rendering as a web page, a summary and terminal text.
//!
//! [`Report`] serialises to JSON; `docs/report.schema.json` is its schema. Intervals are 95 % confidence intervals
//! ([`Estimate`]), divergences are in nats, shares are from 0 to 1, sizes in bytes.

mod criteria;
mod figures;
mod format;
mod page;
mod plots;
#[cfg(test)]
mod sample;
mod settings;
mod summary;
mod tables;
mod terminal;

pub(crate) use criteria::kv_threshold;
pub use criteria::{Criterion, Role, Thresholds};
pub use figures::{
    Context, Continuation, Figures, FreeRun, KL_BINS, PromptResult, TeacherForced, continuation, free_run, kl_bin,
    teacher_forced,
};
pub use page::page;
pub use settings::{Computation, Settings};
pub use summary::summary;
pub use terminal::Terminal;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;

use crate::estimate::Estimate;

/// The version of the structure of `report.json`; see [`Report::report_version`].
pub const REPORT_VERSION: u32 = 3;

/// The result of an evaluation.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Report {
    /// Version of this structure, increased with every incompatible change.
    pub report_version: u32,
    /// Whether every judged candidate passed all its criteria and every control failed one of its own; false for a partial report.
    pub passed: bool,
    /// Whether the evaluation was interrupted: the report has what was measured until then.
    pub partial: bool,
    /// The candidates that were not compared because the evaluation was interrupted.
    pub missing: Vec<String>,
    /// The machine and the versions it ran with.
    pub environment: Environment,
    /// The inputs and settings, the same for every candidate.
    pub run: Run,
    /// The model under test.
    pub model: Model,
    /// The baseline: the model with plain weights in FP32 arithmetic.
    pub baseline: Baseline,
    /// The candidates compared with the baseline, controls included.
    pub candidates: Vec<Candidate>,
    /// Divergence when only one part of the model is encoded; empty unless measured by a sweep.
    pub sensitivity: Vec<Sensitivity>,
}

/// The machine and the versions.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Environment {
    /// Version of qins.
    pub qins: String,
    /// Operating system and architecture.
    pub platform: String,
    /// The processor's name, where the system reports it.
    pub cpu: Option<String>,
    /// Number of threads.
    pub threads: usize,
    /// The compute backend, and its GPU if it uses one.
    pub backend: String,
    /// Peak resident set size (peak RSS) of the process in bytes, where the system reports it.
    pub peak_rss_bytes: Option<u64>,
}

/// The inputs and settings of an evaluation: enough to repeat it.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Run {
    /// The preset.
    pub preset: String,
    /// Maximum number of tokens to generate, unless a prompt sets its own.
    pub max_new_tokens: usize,
    /// The sampling temperature; null when texts were generated greedily only.
    pub temperature: Option<f32>,
    /// Seed of the random numbers.
    pub seed: u64,
    /// The prompts.
    pub prompts: Data,
    /// The text scored in windows and at the end of long contexts; null when there was none.
    pub text: Option<Data>,
    /// The special tokens that the tokenizer puts around prompts, and before each passage of the text (`<s> before`, or `none`);
    /// conversations have those of their template. Null without a tokenizer.
    pub special_tokens: Option<String>,
}

/// A data set, by its name and hash.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Data {
    /// Its file, or the name of a built-in data set.
    pub name: String,
    /// Number of prompts or passages.
    pub count: usize,
    /// xxh3 of its token ids, 64 bits in hexadecimal: the same for the same data and tokenizer.
    pub xxh3: String,
}

/// The model under test.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Model {
    /// Its directory, its name on the hub with the commit, or the name of the embedded model.
    pub name: String,
    /// `phi3` or `llama`.
    pub model_type: String,
    /// Number of parameters, norms included.
    pub parameters: u64,
    /// Bytes of all tensors of the plain checkpoint.
    pub weight_bytes: u64,
    /// xxh3 of its configuration and all tensors, 64 bits in hexadecimal.
    pub xxh3: String,
}

/// The baseline's texts.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Baseline {
    /// Number of tokens generated greedily.
    pub generated_tokens: usize,
    /// Speed of greedy generation, several texts at a time, in tokens per second, prompts included; null when the baseline was read from a file.
    pub tokens_per_second: Option<f64>,
    /// The greedy text of each prompt.
    pub texts: Vec<Text>,
    /// The sampled text of each prompt.
    pub sampled: Vec<Text>,
}

/// A generated text.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Text {
    /// The prompt's id.
    pub id: String,
    /// The prompt; null without a tokenizer.
    pub prompt: Option<String>,
    /// The prompt's token ids.
    pub input_ids: Vec<u32>,
    /// The generated text; null without a tokenizer.
    pub text: Option<String>,
    /// The generated token ids.
    pub generated_ids: Vec<u32>,
    /// The logit margin at each generated token: the largest logit less the second largest.
    #[serde(skip)]
    pub margins: Vec<f32>,
}

/// A variant of the model, compared with the baseline.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Candidate {
    /// Its name.
    pub name: String,
    /// Whether it must pass, must fail, or only informs.
    pub role: Role,
    /// The settings it was made with.
    #[serde(flatten)]
    pub settings: Settings,
    /// Number of linears stored in each scheme; `none` for plain ones.
    pub linears: BTreeMap<String, usize>,
    /// Bytes of all weights as stored, plain ones included.
    pub weight_bytes: u64,
    /// Number of weights in encoded linears.
    pub encoded_weights: u64,
    /// Bits per weight (bpw) of the encoded linears, scales and other parameters included; null when nothing is encoded.
    pub bits_per_weight: Option<f64>,
    /// Bytes of the KV cache of 1,000 tokens.
    pub kv_bytes_per_1000_tokens: u64,
    /// Bits per number of the KV cache of 2,048 tokens in closed blocks, scales, other parameters and the first, plain tokens included; the
    /// latest 64 tokens or fewer are in `f32` besides.
    pub kv_bits_per_number: f64,
    /// Speed of greedy generation, several texts at a time, in tokens per second, prompts included; null when it generated no texts.
    pub tokens_per_second: Option<f64>,
    /// The metrics.
    pub figures: Figures,
    /// The thresholds it was compared with; empty for information.
    pub criteria: Vec<Criterion>,
    /// Whether it did what its role requires: pass all criteria if judged, fail one if a control.
    pub passed: bool,
    /// The metrics of each prompt.
    pub prompts: Vec<PromptResult>,
    /// The weight error of each encoded linear.
    pub layers: Vec<LayerFidelity>,
}

/// The decoded weights of a linear compared with its plain weights.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct LayerFidelity {
    /// The module's name.
    pub module: String,
    /// The scheme it is stored in; `none` for other plain weights.
    pub scheme: String,
    /// Signal-to-quantisation-noise ratio (SQNR) in dB; null when the weights are exact.
    pub sqnr_db: Option<f64>,
    /// Cosine similarity of the two; null when one is all zeros.
    pub cosine: Option<f64>,
}

/// The divergence when one part of the model is encoded and all others are plain.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Sensitivity {
    /// The scheme it is encoded with.
    pub scheme: String,
    /// The part: a block (`block 3`), a role of linears in all blocks (`q_proj`), or a set of roles.
    pub part: String,
    /// Number of weights in the part.
    pub weights: u64,
    /// Top-1 agreement: share of positions with the same top-1 token.
    pub top1_agreement: Option<Estimate>,
    /// Mean KL divergence from the baseline, in nats.
    pub mean_kl: Option<Estimate>,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `QINS_WRITE_SCHEMA=1 cargo test -p qins-eval` rewrites the file.
    #[test]
    fn documented_schema_equals_that_of_the_types() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/report.schema.json");
        let schema = serde_json::to_string_pretty(&schemars::schema_for!(Report)).unwrap() + "\n";
        if std::env::var_os("QINS_WRITE_SCHEMA").is_some() {
            std::fs::write(path, &schema).unwrap();
        }
        assert_eq!(std::fs::read_to_string(path).unwrap(), schema);
    }
}
