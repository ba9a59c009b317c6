//! Companding codec for numbers that are stored encoded and decoded just in time.
//!
//! A compander maps |x| through a curve that is steep near zero, so that the many small magnitudes
//! get the finer steps. The curve here is rational, from the QINS "Pattern A"
//! report of November 2025: it needs no logarithm, and its inverse is one division.
//!
//! Two forms of it, and what each one loses:
//!
//! | form | maps | parameter | loses |
//! |---|---|---|---|
//! | whole value: [`encode_u`], [`decode_u`], and the report's [`encode_z`], [`decode_z`] | a float to a float | [`Alpha`], in 1/x | rounding only |
//! | 8-bit: [`Code`], [`table`], [`slice::encode`], [`slice::decode`] | a float and its row's scale to a byte | [`Curvature`], dimensionless | quantises |
//!
//! ```
//! use qins_codec::{Alpha, Code, Curvature, decode_u, encode_u, slice};
//!
//! // Whole values: no range is needed in advance, and a bf16 weight round-trips exactly.
//! let weight = 0.0123_f32;
//! let stored = encode_u(weight, Alpha::ONE);
//! assert!((decode_u(stored, Alpha::ONE) - weight).abs() < 1e-8);
//!
//! // A row of weights as bytes: the scale is its largest magnitude.
//! let k = Curvature::new(0.75)?;
//! let (row, scale) = ([0.02, -0.0, -0.08, 0.0031], 0.08);
//! let mut codes = [0; 4];
//! slice::encode(&row, scale, k, &mut codes)?;
//! let mut decoded = [0.0; 4];
//! slice::decode(&codes, scale, k, &mut decoded)?;
//! assert_eq!(decoded[2], -0.08); // ±scale, and ±0, are levels of their own
//! assert!((decoded[0] - row[0]).abs() < 0.0005);
//! assert_eq!(Code::from_bits(codes[2]).magnitude(), Code::MAX_MAGNITUDE);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Contract
//!
//! - Every map is odd and keeps the sign, that of zero included.
//! - Every map is monotonic in |x| as computed, not only on paper.
//! - Results are made of IEEE additions, multiplications and divisions in a documented order, with
//!   no fused multiply-add, so they are the same bits on every target and at compile time, the payload
//!   of a NaN aside.
//! - Nothing allocates or panics. Each function documents its edge cases.
//!
//! # Features
//!
//! - `half`: [`Float`] for `half::bf16` and `half::f16`, computed through `f32`.

#![no_std]
#![forbid(unsafe_code)]

mod code;
mod compand;
mod curve;
mod float;
pub mod slice;
mod table;

pub use code::Code;
pub use compand::{decode_u, decode_z, encode_u, encode_z};
pub use curve::{Alpha, Curvature, ParameterError};
pub use float::Float;
pub use slice::SliceError;
pub use table::table;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
