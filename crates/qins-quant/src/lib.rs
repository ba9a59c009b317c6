//! Stored tensors of the QINS family: how a weight rests, what it costs, and how it is read back.
//!
//! - [`Scheme`]: what is stored; [`EncodedTensor`]: one encoded matrix.
//! - [`kernel`]: products with a matrix that stays encoded, on plain slices.
//! - [`checkpoint`]: Hugging Face directories, plain and encoded, read by `mmap` and written atomically.
//! - [`convert`]: one checkpoint into another, a band of rows in memory; [`export`]: back into a plain one.
//! - [`mixture`]: the scheme of each matrix, chosen by measured error under a budget.
//! - [`verify`]: whether a checkpoint is what was written, and how near to its source ([`Fidelity`]).
//!
//! ```
//! use qins_quant::{EncodedTensor, EncodeOptions, FloatDtype, Scheme};
//!
//! let weights = [0.02_f32, -0.01, 0.0, 0.005, 0.04, -0.03];
//! let encoded = EncodedTensor::encode(&weights, [2, 3], FloatDtype::F32, Scheme::Q8, &EncodeOptions::default())?;
//! let mut decoded = [0.0; 6];
//! encoded.decode_into(&mut decoded);
//! assert!(weights.iter().zip(&decoded).all(|(a, b)| (a - b).abs() < 0.0003));
//! # Ok::<(), qins_quant::EncodeError>(())
//! ```

pub mod checkpoint;
pub mod convert;
mod dtype;
mod entropy;
mod error;
pub mod export;
mod fidelity;
mod fit;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod grouped;
pub mod kernel;
pub mod kv;
mod lossless;
pub mod mixture;
mod origin;
mod prune;
mod q8;
mod rate;
mod sample;
mod scheme;
mod stored;
mod tensor;
pub mod verify;

pub use dtype::FloatDtype;
pub use error::{EncodeError, Error};
pub use fidelity::Fidelity;
pub use fit::fit_curvature;
pub(crate) use grouped::RowParts;
pub use grouped::{Curves, Grouped, GroupedRows, Layout, Width};
pub use lossless::Words;
pub use origin::{Origin, expect_source};
pub use prune::Prune;
pub use qins_codec::Alpha;
pub use rate::Rate;
pub use scheme::{EncodeOptions, Form, ParseSchemeError, Recipe, Scheme};
pub use tensor::{Codes, EncodedTensor};
