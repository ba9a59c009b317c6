//! What a validation found: the content of `report.json`, and its judgement.

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

pub use criteria::{Criterion, Judge, Role};
pub use figures::{
    Context, Continuation, Figures, Forced, FreeRun, KL_BINS, PromptResult, continuation, forced, free_run, kl_bin,
};
pub use page::page;
pub use settings::{Computation, Settings};
pub use summary::summary;
pub use terminal::Terminal;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;

use crate::estimate::Estimate;

/// The version of `report.json`.
pub const REPORT_VERSION: u32 = 2;

/// Everything a validation found.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Report {
    /// Counts incompatible changes of this structure.
    pub report_version: u32,
    /// `true` when every judged candidate met its criteria and every control behaved.
    pub passed: bool,
    /// Where it ran.
    pub environment: Environment,
    /// What was asked of each model.
    pub run: Run,
    /// What ran.
    pub model: Model,
    /// How the baseline did.
    pub baseline: Baseline,
    /// How each candidate compares.
    pub candidates: Vec<Candidate>,
    /// What is lost when only a part of the model is encoded; of a sweep.
    pub sensitivity: Vec<Sensitivity>,
}

/// Machine and versions.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Environment {
    /// This project's version.
    pub qins: String,
    /// Operating system and architecture.
    pub platform: String,
    /// The processor, where the system tells.
    pub cpu: Option<String>,
    /// Threads in use.
    pub threads: usize,
    /// Burn's backend, and the graphics card it computes on, if it does.
    pub backend: String,
    /// The most memory the process ever had, in bytes, where the system tells.
    pub peak_rss_bytes: Option<u64>,
}

/// What was asked of each model: enough to ask it again.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Run {
    /// The preset it began with.
    pub preset: String,
    /// Tokens to generate at most, where a prompt does not say.
    pub max_new_tokens: usize,
    /// The temperature texts were drawn at, if they were.
    pub temperature: Option<f32>,
    /// What the random numbers were made from.
    pub seed: u64,
    /// The prompts.
    pub prompts: Data,
    /// The text whose tokens were predicted in windows, or after long contexts.
    pub text: Option<Data>,
}

/// Data that a run was made with.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Data {
    /// Its file, or what it is called within the program.
    pub name: String,
    /// How many prompts, or windows.
    pub count: usize,
    /// xxh3 of its tokens, 64 bits in hexadecimal: equal for equal data read with equal tokenizers.
    pub xxh3: String,
}

/// The model under test.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Model {
    /// Its directory, or that it is the embedded one.
    pub name: String,
    /// `phi3` or `llama`.
    pub model_type: String,
    /// Weights, norms included.
    pub parameters: u64,
    /// Bytes of the plain checkpoint's tensors.
    pub weight_bytes: u64,
    /// xxh3 of its configuration and tensors, 64 bits in hexadecimal.
    pub xxh3: String,
}

/// The plain model's run.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Baseline {
    /// Tokens it generated greedily.
    pub generated_tokens: usize,
    /// Generation speed; none where the run was taken from a file.
    pub tokens_per_second: Option<f64>,
    /// What it wrote greedily, prompt by prompt.
    pub texts: Vec<Text>,
    /// What it wrote with random numbers.
    pub sampled: Vec<Text>,
}

/// What a model wrote on its own.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Text {
    /// The prompt's name.
    pub id: String,
    /// The prompt, where there is a tokenizer.
    pub prompt: Option<String>,
    /// The prompt's tokens.
    pub input_ids: Vec<u32>,
    /// What was generated, where there is a tokenizer.
    pub text: Option<String>,
    /// The generated tokens.
    pub generated_ids: Vec<u32>,
    /// The lead of each token's logit over the next.
    #[serde(skip)]
    pub margins: Vec<f32>,
}

/// One form of the model.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Candidate {
    /// What to call it.
    pub name: String,
    /// Why it is in the run.
    pub role: Role,
    /// What was asked for.
    #[serde(flatten)]
    pub settings: Settings,
    /// How many linears rest in each scheme.
    pub linears: BTreeMap<String, usize>,
    /// Bytes of all weights at rest.
    pub weight_bytes: u64,
    /// Weights in the encoded linears.
    pub encoded_weights: u64,
    /// Bits per encoded weight, parameters included.
    pub bits_per_weight: Option<f64>,
    /// Bytes of the keys and values of 1,000 tokens.
    pub kv_bytes_per_1000_tokens: u64,
    /// Generation speed, where it wrote.
    pub tokens_per_second: Option<f64>,
    /// The comparison.
    pub figures: Figures,
    /// What was asked of it.
    pub criteria: Vec<Criterion>,
    /// Whether it behaved as its role asks.
    pub passed: bool,
    /// The comparison, prompt by prompt.
    pub prompts: Vec<PromptResult>,
    /// What each encoded linear keeps of its weights.
    pub layers: Vec<Layer>,
}

/// An encoded linear beside its plain weights.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Layer {
    /// Its module.
    pub module: String,
    /// How it rests.
    pub scheme: String,
    /// Signal over error, in dB; none where there is no error.
    pub sqnr_db: Option<f64>,
    /// The cosine of the angle between the two.
    pub cosine: Option<f64>,
}

/// What is lost when one part of the model is encoded and all others are plain.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Sensitivity {
    /// The scheme.
    pub scheme: String,
    /// The part: `block 3`, or the role of linears in all blocks, `q_proj`.
    pub part: String,
    /// Weights in it.
    pub weights: u64,
    /// Share of positions where both would say the same next.
    pub same_top_rate: Option<Estimate>,
    /// Mean KL from the baseline, in nats.
    pub mean_kl: Option<Estimate>,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `QINS_WRITE_SCHEMA=1 cargo test` writes it anew.
    #[test]
    fn the_schema_that_is_documented_is_that_of_the_types() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/report.schema.json");
        let schema = serde_json::to_string_pretty(&schemars::schema_for!(Report)).unwrap() + "\n";
        if std::env::var_os("QINS_WRITE_SCHEMA").is_some() {
            std::fs::write(path, &schema).unwrap();
        }
        assert_eq!(std::fs::read_to_string(path).unwrap(), schema);
    }
}
