//! Options that commands share.

#[cfg(feature = "burn")]
mod candidate;
#[cfg(feature = "burn")]
mod device;
mod encode;
mod model;
#[cfg(feature = "burn")]
mod prompt;
#[cfg(feature = "burn")]
mod sample;
#[cfg(feature = "burn")]
mod scheme;
mod target;
#[cfg(feature = "burn")]
mod variant;

#[cfg(feature = "burn")]
pub(crate) use candidate::OtherCheckpoint;
#[cfg(feature = "burn")]
pub(crate) use device::{DeviceArgs, KvArgs};
pub(crate) use encode::EncodeArgs;
pub(crate) use model::ModelArgs;
#[cfg(feature = "burn")]
pub(crate) use prompt::{prompt_file, prompt_text};
#[cfg(feature = "burn")]
pub(crate) use sample::{SampleArgs, parse_temperature};
#[cfg(feature = "burn")]
pub(crate) use scheme::SchemeOrNone;
pub(crate) use target::Target;
#[cfg(feature = "burn")]
pub(crate) use variant::VariantArgs;
