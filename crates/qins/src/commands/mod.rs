//! One file for each command.

#[cfg(feature = "burn")]
pub(crate) mod bench;
#[cfg(feature = "burn")]
pub(crate) mod chat;
pub(crate) mod completions;
pub(crate) mod convert;
#[cfg(feature = "burn")]
pub(crate) mod doctor;
pub(crate) mod export;
#[cfg(feature = "burn")]
pub(crate) mod generate;
#[cfg(feature = "burn")]
pub(crate) mod importance;
pub(crate) mod inspect;
#[cfg(feature = "burn")]
pub(crate) mod logits;
pub(crate) mod man;
#[cfg(feature = "burn")]
pub(crate) mod sweep;
pub(crate) mod synth;
#[cfg(feature = "burn")]
pub(crate) mod validate;
pub(crate) mod verify;
