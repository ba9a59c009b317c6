//! `qins-codec` alone, on a machine with neither std nor an allocator: one row of an encoded
//! matrix times a vector, through a buffer on the stack.

#![no_std]
#![forbid(unsafe_code)]

use qins_codec::{Curvature, SliceError, slice};

/// How many weights are decoded at a time.
const BLOCK: usize = 64;

/// Σ weightᵢ·activationᵢ for a row of codes under one `scale` and curvature `k`.
///
/// # Errors
/// [`SliceError::LengthMismatch`] if there are not as many activations as codes, and
/// [`SliceError::Scale`] if `scale` is negative or not finite.
pub fn row_dot(codes: &[u8], scale: f32, k: Curvature, activations: &[f32]) -> Result<f32, SliceError> {
    if codes.len() != activations.len() {
        return Err(SliceError::LengthMismatch { input: codes.len(), output: activations.len() });
    }
    let mut weights = [0.0; BLOCK];
    let mut sum = 0.0;
    for (codes, activations) in codes.chunks(BLOCK).zip(activations.chunks(BLOCK)) {
        let weights = &mut weights[..codes.len()];
        slice::decode(codes, scale, k, weights)?;
        sum += weights.iter().zip(activations).map(|(w, a)| w * a).sum::<f32>();
    }
    Ok(sum)
}
