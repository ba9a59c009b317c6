//! Tests across crates.

mod atlas;
#[cfg(feature = "autodiff")]
mod autodiff;
mod cache;
mod calibrate;
mod common;
mod export;
mod families;
mod feedback;
mod goldens;
#[cfg(feature = "wgpu")]
mod gpu;
#[cfg(feature = "wgpu")]
mod gpu_coded;
mod kernel;
mod phi3;
mod projection;
mod real;
mod smollm2;
mod swap;
mod together;
mod tokenizer;
mod transformers;

#[path = "../../crates/qins-burn/examples/encode_and_generate.rs"]
#[allow(unreachable_pub)]
mod example;
