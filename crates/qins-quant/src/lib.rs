//! Stored tensors of the QINS family: how a weight rests, what it costs, and how it is read back.
//!
//! - [`Scheme`]: what is stored; [`EncodedTensor`]: one encoded matrix.
//! - [`kernel`]: products with a matrix that stays encoded, on plain slices.
//! - [`checkpoint`]: Hugging Face directories, plain and encoded, read by `mmap` and written atomically.
//! - [`convert`]: one checkpoint into another, one tensor in memory.
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
mod error;
mod fit;
mod grouped;
pub mod kernel;
mod scheme;
mod stored;
mod tensor;

pub use dtype::FloatDtype;
pub use error::{EncodeError, Error};
pub use fit::fit_curvature;
pub use grouped::{Grouped, GroupedRows, Layout};
pub use qins_codec::Alpha;
pub use scheme::{EncodeOptions, Form, ParseSchemeError, Scheme};
pub use tensor::{Codes, EncodedTensor};
