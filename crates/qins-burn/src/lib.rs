//! Phi-3 in Burn, with linears that stay encoded.
//!
//! A [`Projection`] is a linear map whose weights are plain or encoded; [`phi3::Phi3`] is built of them, and so can any
//! other module be: [`convert_linear_to_qins`] encodes the projections of everything that implements [`Projections`].
//! The device is chosen at run time among the backends compiled in ([`Backend`]).

#![recursion_limit = "256"]

#[cfg(not(any(feature = "flex", feature = "ndarray", feature = "wgpu", feature = "cuda")))]
compile_error!("qins-burn computes on a backend: enable its feature flex, ndarray, wgpu or cuda");

mod cache;
mod calibrate;
mod chat;
mod device;
mod error;
mod fidelity;
mod generate;
pub mod kernel;
mod layer;
mod load;
pub mod phi3;
mod policy;
mod projections;
mod sampler;
mod swap;
mod synthetic;
mod tokenizer;

pub use burn::tensor::Device;
pub use cache::KvCache;
pub use calibrate::calibrate;
pub use chat::{ChatTemplate, Message};
pub use device::{Adapter, Backend, DeviceMemory, adapters, copy_bandwidth, count_launches, device_memory, read};
pub use error::Error;
pub use fidelity::{Resting, fidelity};
pub use generate::{Generation, Generator, Session, Step, Stop, score, score_token_by_token, scores};
pub use layer::Projection;
pub use load::{LoadReport, Loaded, check, check_plain, load};
pub use policy::{Importance, Override, Policy, put_back};
pub use qins_quant::{
    Alpha, EncodeOptions, FloatDtype, MatrixFormat, Recipe, Scheme,
    checkpoint::{Checkpoint, Files},
    kv::KvScheme,
};
pub use sampler::Sampler;
pub use swap::{ConvertReport, LinearKind, LinearSpec, Projections, Targets, Visit, convert_linear_to_qins, linears};
pub use synthetic::{synthetic, write_synthetic};
pub use tokenizer::{Tokenizer, stop_ids};
