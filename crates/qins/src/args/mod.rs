//! Options that commands share.

#[cfg(feature = "burn")]
mod candidate;
#[cfg(feature = "burn")]
mod device;
mod encode;
#[cfg(feature = "burn")]
mod evaluation;
mod model;
#[cfg(feature = "burn")]
mod prompt;
#[cfg(feature = "burn")]
mod report;
#[cfg(feature = "burn")]
mod sample;
#[cfg(feature = "burn")]
mod scheme;
mod target;
#[cfg(feature = "burn")]
mod variant;

use std::path::PathBuf;

use clap::builder::{PathBufValueParser, TypedValueParser};

#[cfg(feature = "burn")]
pub(crate) use candidate::OtherCheckpoint;
#[cfg(feature = "burn")]
pub(crate) use device::{DeviceArgs, KvArgs};
pub(crate) use encode::EncodeArgs;
#[cfg(feature = "burn")]
pub(crate) use evaluation::EvalArgs;
pub(crate) use model::ModelArgs;
#[cfg(feature = "burn")]
pub(crate) use prompt::{prompt_file, prompt_text};
#[cfg(feature = "burn")]
pub(crate) use report::ReportArgs;
#[cfg(feature = "burn")]
pub(crate) use sample::{SampleArgs, parse_temperature};
#[cfg(feature = "burn")]
pub(crate) use scheme::SchemeOrNone;
pub(crate) use target::Target;
#[cfg(feature = "burn")]
pub(crate) use variant::VariantArgs;

/// A directory to write, for which standard output is no place.
pub(crate) fn directory() -> impl TypedValueParser<Value = PathBuf> {
    PathBufValueParser::new().try_map(|path| match path.to_str() {
        Some("-") => Err("expected a directory, found standard output (one of this name is `./-`)"),
        _ => Ok(path),
    })
}
