//! The parameters of the curve, validated once so that the maps need not check them.

use core::fmt;

/// The slope α of the whole-value form at zero, in units of 1/x: positive and finite.
///
/// The map bends around |x| = 1/α, so α suits values of about that magnitude.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Alpha(f32);

impl Alpha {
    /// α = 1, as in the source report.
    pub const ONE: Self = Self(1.0);

    /// # Errors
    /// [`ParameterError::Alpha`] unless `alpha` is positive and finite.
    pub const fn new(alpha: f32) -> Result<Self, ParameterError> {
        if alpha > 0.0 && alpha.is_finite() { Ok(Self(alpha)) } else { Err(ParameterError::Alpha(alpha)) }
    }

    /// The value given to [`Alpha::new`].
    #[must_use]
    pub const fn get(self) -> f32 {
        self.0
    }
}

/// The dimensionless curvature k of a quantised scheme, from 0 (linear) to [`Curvature::MAX`].
///
/// With t = |x|/scale in 0..=1, the companded magnitude is v = (1+k)·t / (1+k·t), which is
/// 1 − |z| of the whole-value form at α = k/scale, stretched so that t = 1 gives v = 1. The slope
/// is 1+k at zero and 1/(1+k) at one: larger k gives finer steps near zero.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Curvature(f32);

impl Curvature {
    /// k = 0: plain linear steps.
    pub const LINEAR: Self = Self(0.0);

    /// The largest k accepted, 2¹⁶: every finite `f16` is in range, and no level is subnormal.
    pub const MAX: Self = Self(65_536.0);

    /// # Errors
    /// [`ParameterError::Curvature`] unless 0 ≤ `k` ≤ [`Curvature::MAX`].
    pub const fn new(k: f32) -> Result<Self, ParameterError> {
        // NaN fails both comparisons.
        if k >= 0.0 && k <= Self::MAX.0 { Ok(Self(k)) } else { Err(ParameterError::Curvature(k)) }
    }

    /// The curvature of the whole-value form with slope `alpha` over −`scale`..=`scale`: k = α·scale.
    ///
    /// # Errors
    /// [`ParameterError::Curvature`] if the product is out of range.
    pub const fn from_alpha(alpha: Alpha, scale: f32) -> Result<Self, ParameterError> {
        Self::new(alpha.0 * scale)
    }

    /// The value given to [`Curvature::new`].
    #[must_use]
    pub const fn get(self) -> f32 {
        self.0
    }

    /// v = (1+k)·t / (1+k·t), for t in 0..=1.
    ///
    /// Divided through by t, because (1+k)·t / (1+k·t) as written is not monotonic: its denominator
    /// can step where its numerator barely moves. In this form 0 and 1 map to themselves exactly.
    #[inline]
    #[must_use]
    pub const fn compand(self, t: f32) -> f32 {
        (1.0 + self.0) / (1.0 / t + self.0)
    }

    /// t = v / (1 + k·(1−v)), for v in 0..=1: the inverse of [`Curvature::compand`].
    ///
    /// The denominator is a sum of non-negative terms, so nothing cancels, 1 maps to exactly 1, and
    /// the result is monotonic as computed.
    #[inline]
    #[must_use]
    pub const fn expand(self, v: f32) -> f32 {
        v / (1.0 + self.0 * (1.0 - v))
    }

    /// t at step `q` of `steps`, both whole numbers with |q| ≤ `steps`: [`Curvature::expand`] of v = q/steps, with the
    /// sign of q.
    ///
    /// Computed as q / (steps + k·(steps−|q|)), each operation rounded to `f32` on its own; whatever does the same gets
    /// the same bits. steps−|q| is exact, 0 is a level, and ±steps gives exactly ±1.
    ///
    /// ```
    /// # use qins_codec::Curvature;
    /// let k = Curvature::new(1.0)?;
    /// assert_eq!([-8.0, -4.0, 0.0, 7.0].map(|q| k.level(q, 8.0)), [-1.0, -4.0 / 12.0, 0.0, 7.0 / 9.0]);
    /// # Ok::<(), qins_codec::ParameterError>(())
    /// ```
    #[inline]
    #[must_use]
    pub const fn level(self, q: f32, steps: f32) -> f32 {
        q / (steps + self.0 * (steps - q.abs()))
    }
}

/// A parameter outside its range; holds the rejected value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ParameterError {
    /// α must be positive and finite.
    Alpha(f32),
    /// k must be in 0..=[`Curvature::MAX`].
    Curvature(f32),
}

impl fmt::Display for ParameterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Alpha(alpha) => write!(f, "alpha must be positive and finite, not {alpha}"),
            Self::Curvature(k) => write!(f, "curvature must be from 0 to {}, not {k}", Curvature::MAX.0),
        }
    }
}

impl core::error::Error for ParameterError {}
