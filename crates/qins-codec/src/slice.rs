//! The maps over slices, into the caller's buffers; element for element the same bits as the
//! scalar functions.

use core::fmt;

use crate::{Alpha, Code, Curvature, Float};

/// Why nothing was written.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum SliceError {
    /// Input and output differ in length.
    LengthMismatch {
        /// Elements in the input.
        input: usize,
        /// Elements in the output.
        output: usize,
    },
    /// An input is NaN or ±∞.
    NonFinite {
        /// The index of the first.
        index: usize,
    },
    /// The scale is negative, NaN or ∞.
    Scale(f32),
}

impl fmt::Display for SliceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LengthMismatch { input, output } => {
                write!(f, "{input} inputs do not fit {output} outputs")
            }
            Self::NonFinite { index } => write!(f, "the input at index {index} is not finite"),
            Self::Scale(scale) => write!(f, "scale must be finite and not negative, not {scale}"),
        }
    }
}

impl core::error::Error for SliceError {}

/// [`crate::encode_u`] of every element.
///
/// # Errors
/// [`SliceError::LengthMismatch`].
pub fn encode_u<F: Float>(x: &[F], alpha: Alpha, out: &mut [F]) -> Result<(), SliceError> {
    map(x, out, |x| crate::encode_u(x, alpha))
}

/// [`crate::decode_u`] of every element.
///
/// # Errors
/// [`SliceError::LengthMismatch`].
pub fn decode_u<F: Float>(u: &[F], alpha: Alpha, out: &mut [F]) -> Result<(), SliceError> {
    map(u, out, |u| crate::decode_u(u, alpha))
}

/// [`crate::encode_z`] of every element.
///
/// # Errors
/// [`SliceError::LengthMismatch`].
pub fn encode_z<F: Float>(x: &[F], alpha: Alpha, out: &mut [F]) -> Result<(), SliceError> {
    map(x, out, |x| crate::encode_z(x, alpha))
}

/// [`crate::decode_z`] of every element.
///
/// # Errors
/// [`SliceError::LengthMismatch`].
pub fn decode_z<F: Float>(z: &[F], alpha: Alpha, out: &mut [F]) -> Result<(), SliceError> {
    map(z, out, |z| crate::decode_z(z, alpha))
}

/// The bytes of [`Code::encode`] of x/`scale` for every element; |x| above `scale` saturates.
///
/// Under a scale of 0, the scale of a row of zeros, every element becomes a zero of its own sign.
///
/// # Errors
/// [`SliceError::LengthMismatch`]; [`SliceError::Scale`] unless `scale` is finite and not negative;
/// [`SliceError::NonFinite`] if an element is. On error `out` is as it was.
pub fn encode(x: &[f32], scale: f32, k: Curvature, out: &mut [u8]) -> Result<(), SliceError> {
    check_scale(scale)?;
    // Without an early exit this vectorises; the search is only for the rare failure.
    if !x.iter().fold(true, |all, x| all & x.is_finite()) {
        let index = x.iter().position(|x| !x.is_finite()).unwrap_or(x.len());
        return Err(SliceError::NonFinite { index });
    }
    // x/∞ is a zero with the sign of x, where x/0 would be NaN for x = 0.
    let divisor = if scale == 0.0 { f32::INFINITY } else { scale };
    map(x, out, |x| Code::encode_saturating(x / divisor, k).to_bits())
}

/// `scale` · [`Code::decode`] for every byte, in that order of operations: one multiplication after
/// the division, so that a kernel may equally take `scale · table(k)[byte]`.
///
/// # Errors
/// [`SliceError::LengthMismatch`]; [`SliceError::Scale`] unless `scale` is finite and not negative.
/// On error `out` is as it was.
pub fn decode(codes: &[u8], scale: f32, k: Curvature, out: &mut [f32]) -> Result<(), SliceError> {
    check_scale(scale)?;
    map(codes, out, |bits| scale * Code::from_bits(bits).decode(k))
}

fn check_scale(scale: f32) -> Result<(), SliceError> {
    if scale >= 0.0 && scale.is_finite() { Ok(()) } else { Err(SliceError::Scale(scale)) }
}

/// The loop of all of the above: the maps are branch-free once inlined, and the compiler vectorises it.
#[inline]
fn map<I: Copy, O>(input: &[I], output: &mut [O], element: impl Fn(I) -> O) -> Result<(), SliceError> {
    if input.len() != output.len() {
        return Err(SliceError::LengthMismatch { input: input.len(), output: output.len() });
    }
    for (x, out) in input.iter().zip(output) {
        *out = element(*x);
    }
    Ok(())
}
