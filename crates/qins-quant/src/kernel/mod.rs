//! The computations of a model on slices: products of activations with an encoded matrix, whose weights are decoded as they are read, and
//! the operations between them.

mod activations;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod between;
mod exp;
mod float;
mod gemm;
mod integer;
mod isa;
mod levels;
mod linear;
mod moments;
#[cfg(target_arch = "aarch64")]
mod neon;
mod panel;
pub(crate) mod planes;
mod portable;
mod prefetch;
mod prepared;
mod read;
mod rounded;
mod row;
mod rows;
mod simd;

pub use between::{GELU, gate_gelu, gate_silu, norm, rotate};
pub(crate) use exp::exp;
pub(crate) use gemm::{Accumulate, View, product};
pub use linear::{linear, linear_on, naive};
#[cfg(test)]
pub(crate) use moments::MOMENTS_NMSE;
pub(crate) use moments::{add_moments, add_outer_products};
pub(crate) use planes::{Affine, ByteLevels, CodeLevels, Planes, per_planes};
pub(crate) use prefetch::fetch_part;
pub(crate) use prepared::Prepared;
#[doc(hidden)]
pub use read::{read, read_bandwidth};
pub use rounded::linear_rounded;
pub use rows::Rows;
pub use simd::Simd;
pub(crate) use simd::per_isa;

/// Bound on what computing the product of 3- to 8-bit codes in integers costs: the mean squared error divided by the mean
/// square of the product, for Gaussian weights and activations. For comparison, rounding weights to 8 bits costs 4·10⁻⁵ and
/// to 4 bits 5·10⁻³.
pub const INTEGER_NMSE: f64 = 1e-6;
