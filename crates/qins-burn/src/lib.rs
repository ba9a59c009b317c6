//! Language models in Burn with weight-only quantisation: linears stay encoded in memory.
//!
//! A [`Projection`] is a linear map whose weights are plain or encoded; [`decoder::Decoder`] is built of them, and any
//! other module can be: [`convert_linear_to_qins`] encodes the projections of every module that implements [`Projections`].
//! The device is chosen at run time among the backends of the build ([`Backend`]).

#![recursion_limit = "256"]

#[cfg(not(any(feature = "flex", feature = "ndarray", feature = "wgpu", feature = "cuda")))]
compile_error!("qins-burn computes on a backend: enable its feature flex, ndarray, wgpu or cuda");

mod awake;
mod block_calibration;
mod blocks;
mod cache;
mod calibrate;
pub mod decoder;
mod device;
mod error;
mod generate;
pub mod kernel;
mod layer;
mod load;
mod model;
mod projections;
mod projections_macro;
mod synthetic;

pub use block_calibration::BlockCalibration;
pub use burn::tensor::Device;
pub use cache::KvCache;
pub use calibrate::calibrate;
pub use device::{Adapter, Backend, DeviceMemory, adapters, copy_bandwidth, count_launches, device_memory, read};
pub use error::Error;
pub use generate::{
    Generation, Generator, Session, Step, Stop, Together, Token, Tokens, score, score_token_by_token, scores,
};
pub use layer::Projection;
pub use load::{LoadReport, Loaded, load};
pub use model::{Model, TextOptions, TextStream};
pub use projections::{
    ConvertReport, Projections, Replacement, Visit, apply, convert_linear_to_qins, replace, restore,
};
pub use qins_model::{LinearKind, LinearSpec, ModelConfig, Override, Policy, Sampler, Targets, linears, stop_ids};
pub use qins_quant::{
    Alpha, Effort, EncodeOptions, FloatDtype, MatrixFormat, Recipe, Scheme,
    checkpoint::{Checkpoint, Files},
    kv::KvScheme,
};
pub use synthetic::synthetic;

/// The examples of the README, compiled.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
