//! Weight-only quantisation: encoded matrices, products with them, and checkpoints of them.
//!
//! - [`Scheme`]: what is stored; [`EncodedTensor`]: one encoded matrix.
//! - [`kernel`]: products with encoded matrices, on slices.
//! - [`checkpoint`]: Hugging Face checkpoints, plain and encoded, memory-mapped and written atomically.
//! - [`convert`]: encodes a checkpoint, a band of rows at a time; [`export`]: decodes it again.
//! - [`inspect`]: the schemes, shapes and bits per weight of a checkpoint.
//! - [`mixture`]: a scheme for each matrix, chosen by measured error under a budget.
//! - [`output`]: output files that appear complete or not at all.
//! - [`verify`]: checks a checkpoint against its checksums, and measures its error against the source ([`Fidelity`]).
//!
//! ```
//! use qins_quant::{EncodedTensor, Scheme};
//!
//! let weights = [0.02_f32, -0.01, 0.0, 0.005, 0.04, -0.03];
//! let encoded = EncodedTensor::encode(&weights, [2, 3], Scheme::Q8)?;
//! let mut decoded = [0.0; 6];
//! encoded.decode_into(&mut decoded);
//! assert!(weights.iter().zip(&decoded).all(|(a, b)| (a - b).abs() < 0.0003));
//! # Ok::<(), qins_quant::EncodeError>(())
//! ```

pub mod checkpoint;
pub mod convert;
mod dtype;
mod encode;
mod entropy;
mod error;
pub mod export;
mod feedback;
mod fidelity;
mod first;
mod fit;
mod forms;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
pub mod inspect;
pub mod json;
pub mod kernel;
pub mod kv;
pub mod mixture;
mod origin;
pub mod output;
mod prune;
mod range;
mod recipe;
mod sample;
mod scheme;
mod tensor;
pub mod verify;

pub use dtype::FloatDtype;
pub use error::{EncodeError, Error, MatmulError};
pub use feedback::{Calibration, Effort, Feedback, Hessian, HessianError};
pub use fidelity::Fidelity;
pub use fit::fit_curvature;
pub use forms::{
    CompandedFloat, Curves, Element, EncodeOptions, Extent, Form, GroupedRows, Layout, MatrixFormat, PartSpec, Rate,
    Width,
};
pub(crate) use forms::{RowParts, grouped};
pub use origin::{Origin, expect_source};
pub use prune::Prune;
pub use qins_codec::Alpha;
pub use recipe::Recipe;
pub use scheme::{ParseSchemeError, Scheme};
pub use tensor::EncodedTensor;

/// The examples of the README, compiled.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
