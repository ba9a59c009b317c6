//! Products with a matrix that stays encoded, on plain slices.

mod activations;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod float;
mod gemm;
mod integer;
mod levels;
mod linear;
#[cfg(target_arch = "aarch64")]
mod neon;
mod portable;
mod read;
mod row;
mod rows;
mod simd;

pub(crate) use gemm::{Right, Sum, matmul};
pub use linear::{linear, linear_on, naive};
#[doc(hidden)]
pub use read::{read, read_bandwidth};
pub use rows::Rows;
pub use simd::Simd;

/// What the product of codes of 3 to 8 bits loses to whole numbers: the mean squared error over the mean square of the
/// product, of Gaussian weights and activations. (Rounding weights to 8 bits alone loses 4·10⁻⁵, to 4 bits 5·10⁻³.)
pub const INTEGER_NMSE: f64 = 1e-6;
