//! The whole-value form: a float in, a float of the same type out.
//!
//! u = sign(x)·α|x|/(1+α|x|) and the report's z = sign(x)·(1−|u|) hold the same information on
//! paper. In floating point they do not: floats are densest near zero, and u puts small x there,
//! z large x. Weights are small, so u is the one to use; z is here to compare with the report.

use crate::{Alpha, Float};

/// u = sign(x)·α|x| / (1+α|x|), in −1..=1 and increasing.
///
/// | x | u |
/// |---|---|
/// | ±0 | ±0 |
/// | α·\|x\| below ε/4, subnormals included | ±α·\|x\|, the same number there |
/// | α·\|x\| at or above 4/ε (2²⁵ for `f32`), overflow and x = ±∞ included | ±1, which decodes to ±∞ |
/// | NaN | NaN |
///
/// In between, a value comes back with a relative error of at most (4 + α·|x|)·ε, as long as none
/// of α, x and α·|x| is subnormal. So a bf16 x, encoded and decoded in `f32` and rounded to bf16, is x
/// again bit for bit if α·|x| is from 2⁻¹⁴⁰ to 2¹⁶ or x is ±0; with α ≥ 2⁻⁷, every |x| ≤ 2¹⁶/α.
///
/// ```
/// use qins_codec::{Alpha, decode_u, encode_u};
/// assert_eq!(encode_u(3.0_f32, Alpha::ONE), 0.75);
/// assert_eq!(decode_u(-0.75_f32, Alpha::ONE), -3.0);
/// ```
#[inline]
#[must_use]
pub fn encode_u<F: Float>(x: F, alpha: Alpha) -> F {
    x.encode_u(alpha)
}

/// x = sign(u)·|u| / (α(1−|u|)), the inverse of [`encode_u`]; increasing.
///
/// | u | x |
/// |---|---|
/// | ±0 | ±0 |
/// | ±1, or x too large for the type | ±∞ |
/// | \|u\| > 1, NaN | NaN |
#[inline]
#[must_use]
pub fn decode_u<F: Float>(u: F, alpha: Alpha) -> F {
    u.decode_u(alpha)
}

/// z = sign(x) / (1+α|x|), the report's form: |z| in 0..=1, decreasing in |x|.
///
/// The report takes sign(0) = 0, so that its zero encodes to 0 and decodes to NaN. Here zero keeps
/// its sign like any other number:
///
/// | x | z |
/// |---|---|
/// | ±0, and any α·\|x\| below ε/4 | ±1, which decodes to ±0: small x are lost |
/// | ±∞, or α·\|x\| overflowing | ±0 |
/// | NaN | NaN |
///
/// A bf16 x survives as under [`encode_u`] if α·|x| is from 2⁻¹⁵ to 2¹²⁷ or x is ±0.
///
/// ```
/// use qins_codec::{Alpha, decode_z, encode_z};
/// assert_eq!(encode_z(-3.0_f32, Alpha::ONE), -0.25);
/// assert_eq!(decode_z(encode_z(1e-9_f32, Alpha::ONE), Alpha::ONE), 0.0); // `encode_u` keeps it
/// ```
#[inline]
#[must_use]
pub fn encode_z<F: Float>(x: F, alpha: Alpha) -> F {
    x.encode_z(alpha)
}

/// x = sign(z)·(1−|z|) / (α|z|), the inverse of [`encode_z`].
///
/// | z | x |
/// |---|---|
/// | ±1 | ±0 |
/// | ±0, or x too large for the type | ±∞ |
/// | \|z\| > 1, NaN | NaN |
#[inline]
#[must_use]
pub fn decode_z<F: Float>(z: F, alpha: Alpha) -> F {
    z.decode_z(alpha)
}
