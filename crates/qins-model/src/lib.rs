//! The files of a language model, without a tensor library: configuration and tensor shapes, policies of which linears are encoded and
//! how, tokenizer and chat template, sampling.
//!
//! - [`ModelConfig`]: `config.json`, checked; [`tensors()`]: the tensors of such a model, by name and shape.
//! - [`Policy`]: which linears are encoded, and how; [`Conversion`]: converts a checkpoint into an encoded one.
//! - [`Tokenizer`], [`ChatTemplate`], [`TextReader`], [`TextStream`], [`stop_ids`]: from text to token ids and back (feature `text`).
//! - [`Hub`], [`HubName`], [`ModelLocation`]: models by name, from the Hugging Face hub (feature `hub`).
//! - [`Sampler`]: sampling of the next token.
//! - [`write_random_checkpoint`]: a checkpoint of random weights with a model's tensors.

#[cfg(feature = "text")]
mod chat;
mod check;
mod config;
mod conversion;
mod error;
mod families;
mod goal;
#[cfg(feature = "text")]
mod guard;
#[cfg(feature = "hub")]
pub mod hub;
#[cfg(feature = "text")]
mod jinja;
mod linears;
mod policy;
mod random;
mod rope;
mod sampler;
mod source;
mod stop;
#[cfg(feature = "text")]
mod stream;
mod targets;
mod tensors;
#[cfg(feature = "text")]
mod text;
#[cfg(feature = "text")]
mod tokenizer;
mod verification;
#[cfg(feature = "text")]
mod written;

#[cfg(feature = "text")]
pub use chat::{ChatTemplate, Message};
pub use check::{Unused, check, check_plain, unused};
pub use config::{
    Activation, Biases, Factors, LayerConfig, LayerRope, Llama3, LongRope, ModelConfig, NormPlacement, QkNorm,
    RopeScaling, RopeSettings, Softcaps, Yarn,
};
pub use conversion::{Conversion, Converted};
pub use error::Error;
pub use families::families;
pub use goal::OutputGoal;
#[cfg(feature = "hub")]
pub use hub::{Fetched, Hub, HubBuilder, HubError, HubName, HubProgress, ModelLocation, NameError};
pub use linears::{LinearKind, LinearSpec};
pub use policy::{CalibrationTexts, Importance, Override, Policy};
pub use random::{random_weights, write_random_checkpoint};
pub use rope::{Rope, RopeRegime};
pub use sampler::{Sampler, SamplerError, TokenChoice};
pub use source::ModelSource;
pub use stop::stop_ids;
#[cfg(feature = "text")]
pub use stream::TextStream;
pub use targets::Targets;
pub use tensors::{ModelTensor, VectorSpec, linears, tensors};
#[cfg(feature = "text")]
pub use text::TextReader;
#[cfg(feature = "text")]
pub use tokenizer::Tokenizer;
pub use verification::{Verification, VerifiedModule, verify};

/// The examples of the README, compiled.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
