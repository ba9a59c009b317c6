//! Evidence: how much of what a language model says survives the encoding of its weights.
//!
//! The statistics work on plain slices of token ids and logits, so they hold for any engine that can export those. The evaluation
//! works on anything that implements [`EvalModel`]; the models of `qins-burn` do, with the feature of a backend ([`BurnLoader`]).
//!
//! - [`token_match`]: free-running agreement of two token sequences;
//! - [`agreement`]: teacher-forced agreement and divergence of two sets of logits;
//! - [`estimate`]: every figure with its interval;
//! - [`EvalSet`], [`Preset`]: what each model is asked;
//! - [`Evaluation`]: the baseline, the [controls](plain_controls), the variants, the report;
//! - [`sensitivity`]: each part of a model encoded by itself; [`Search`]: the smallest mixture of schemes for a promise;
//! - [`report`]: what is written down, and the bars it is judged by.

pub mod agreement;
mod baseline;
#[cfg(feature = "burn")]
mod burn;
mod comparison;
mod controls;
mod error;
pub mod estimate;
mod eval_set;
mod evaluation;
mod model;
mod preset;
mod progress;
mod prompts;
pub mod report;
mod search;
pub mod sensitivity;
pub mod token_match;

#[cfg(feature = "burn")]
pub use burn::{BurnLoader, BurnModel};
pub use comparison::{Comparison, Variant, Weights};
pub use controls::{encoded_controls, kv_variants, plain_controls};
pub use error::Error;
pub use eval_set::{AFTER_CONTEXT, EvalInputs, EvalSet, Passage, Split};
pub use evaluation::Evaluation;
pub use model::{EvalLoader, EvalModel, GenerateOptions, ModelError, Scoring, WeightSizes};
pub use preset::{Plan, Preset, REPORT_MODEL};
pub use progress::Progress;
pub use prompts::{Prompt, parse_prompts, read_prompts};
pub use search::Search;
