//! Evaluation of weight-encoded language models against their own plain weights.
//!
//! A *baseline* — the model with plain weights in FP32 arithmetic — generates texts and scores passages. Each *variant* (encoded
//! weights, an encoded KV cache, other arithmetic) does the same on the same inputs, and is compared in two ways:
//!
//! - **free-running**: both generate from the same prompts, greedily or sampled with common random numbers. Metrics: the
//!   exact-match rate of whole texts, the length of the matching prefix ([`token_match`]);
//! - **teacher-forced**: both read the same tokens, and their next-token distributions are compared at each position. Metrics:
//!   top-1 agreement, mean KL divergence in nats, top-10 overlap, perplexity ratio ([`agreement`]).
//!
//! Every mean and share has a 95 % confidence interval ([`estimate`]). *Controls* run with every evaluation: the baseline repeated
//! (A/A) must agree exactly, and a variant with collapsed codes must fail its thresholds.
//!
//! The metrics are functions of plain slices of token ids and logits. An evaluation runs any engine that implements [`EvalModel`]
//! and [`EvalLoader`]; the models of `qins-burn` do, with a backend's feature (`BurnLoader`).
//!
//! - [`EvalSet`], [`Preset`]: prompts, texts and sizes of an evaluation;
//! - [`Evaluation`]: baseline, [controls](plain_controls), variants, and the [`report`];
//! - [`sensitivity`]: the divergence that each block and each role of linears causes by itself;
//! - [`Search`]: the mixture of schemes with the fewest bits that reaches a goal, or with the least divergence in so many bits;
//! - [`StandardCalibration`]: the texts that error feedback is calibrated on, which no evaluation reads.
//!
//! ```
//! use qins_eval::{agreement, estimate};
//!
//! // Logits of two models at two positions, over a vocabulary of three; the tokens that follow are 0 and 2.
//! let baseline = [2.0, 1.0, 0.0, 0.0, 1.0, 3.0];
//! let candidate = [2.0, 1.5, 0.0, 0.0, 1.0, 3.0];
//! let positions = agreement::compare(&baseline, &candidate, &[0, 2], 3);
//! assert!(positions[0].kl > 0.0 && positions[1].kl == 0.0);
//! let kl = positions.iter().map(|position| position.kl).collect();
//! let mean = estimate::mean_by_prompt(&[kl]).unwrap();
//! println!("mean KL divergence {:.2e} nats [{:.2e}, {:.2e}]", mean.value, mean.low, mean.high);
//! ```

pub mod agreement;
mod baseline;
#[cfg(feature = "burn")]
mod burn;
mod calibration;
mod comparison;
mod controls;
mod error;
pub mod estimate;
mod eval_set;
mod evaluation;
mod generated;
mod model;
mod preset;
mod progress;
mod prompts;
pub mod report;
mod search;
pub mod sensitivity;
mod text_file;
pub mod token_match;

#[cfg(feature = "burn")]
pub use burn::{BurnLoader, BurnModel};
pub use calibration::{StandardCalibration, texts_of};
pub use comparison::{Comparison, Variant, Weights};
pub use controls::{encoded_controls, kv_control, kv_variants, plain_controls};
pub use error::Error;
pub use eval_set::{CONTEXT_TAIL_TOKENS, EvalInputs, EvalSet, Passage, Split};
pub use evaluation::Evaluation;
pub use model::{Arithmetic, EvalLoader, EvalModel, GenerateOptions, ModelError, OnToken, Scoring, WeightSizes};
pub use preset::{ContextPlan, Plan, Preset, REPORT_MODEL};
pub use progress::Progress;
pub use prompts::{Prompt, parse_prompts, read_conversation, read_prompts};
pub use search::{Candidates, Search};
pub use text_file::{read_text, stdin_is_read};

/// The examples of the README, compiled.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
