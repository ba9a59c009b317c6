//! Evidence: how much of what a model says survives the encoding of its weights.
//!
//! The statistics work on plain slices of token ids and logits, so they hold for any engine that can export those; the
//! binary `qins` ties them to the models of `qins-burn`.
//!
//! - [`token_match`]: free-running agreement of two token sequences;
//! - [`agreement`]: teacher-forced agreement and divergence of two sets of logits;
//! - [`estimate`]: every figure with its interval;
//! - [`report`]: what is written down, and the bars it is judged by.

pub mod agreement;
pub mod estimate;
pub mod report;
pub mod token_match;
