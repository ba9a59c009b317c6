//! The numbers the whole-value form is defined on, and its arithmetic on each.

use crate::Alpha;

/// A number the whole-value form works on: `f32` and `f64` natively, and with the feature `half`
/// `bf16` and `f16` through `f32`. Sealed.
pub trait Float: sealed::Map {}

impl<F: sealed::Map> Float for F {}

pub(crate) mod sealed {
    use super::Alpha;

    /// The four maps of [`crate::compand`], whose functions hold the contract.
    pub trait Map: Copy {
        fn encode_u(self, alpha: Alpha) -> Self;
        fn decode_u(self, alpha: Alpha) -> Self;
        fn encode_z(self, alpha: Alpha) -> Self;
        fn decode_z(self, alpha: Alpha) -> Self;
    }
}

macro_rules! native {
    ($float:ident) => {
        impl sealed::Map for $float {
            #[inline]
            fn encode_u(self, alpha: Alpha) -> Self {
                let a = self.abs() * alpha.get() as $float;
                // a/(1+a) as written is not monotonic: 1+a can step where a barely moves. The sum
                // below has one rounding direction per operation, so it is. Around a = 1 the map is
                // its own mirror, u(1/a) = 1 − u(a), and taking the reciprocal of whichever side is
                // below one keeps ∞ (an a that overflowed) and large a accurate as well.
                let small = 1.0 / (1.0 + if a < 1.0 { 1.0 / a } else { a });
                let u = if a < $float::EPSILON / 4.0 {
                    a // 1+a rounds to 1 here, and 1/a may overflow
                } else if a < 1.0 {
                    small
                } else {
                    1.0 - small
                };
                u.copysign(self)
            }

            #[inline]
            fn decode_u(self, alpha: Alpha) -> Self {
                let u = self.abs();
                // Divides first and selects afterwards, so that a loop over it vectorises.
                let x = u / (alpha.get() as $float * (1.0 - u));
                (if u <= 1.0 { x } else { $float::NAN }).copysign(self)
            }

            #[inline]
            fn encode_z(self, alpha: Alpha) -> Self {
                (1.0 / (1.0 + self.abs() * alpha.get() as $float)).copysign(self)
            }

            #[inline]
            fn decode_z(self, alpha: Alpha) -> Self {
                let z = self.abs();
                let x = (1.0 - z) / (alpha.get() as $float * z);
                (if z <= 1.0 { x } else { $float::NAN }).copysign(self)
            }
        }
    };
}

native!(f32);
native!(f64);

#[cfg(feature = "half")]
macro_rules! through_f32 {
    ($float:ty) => {
        impl sealed::Map for $float {
            #[inline]
            fn encode_u(self, alpha: Alpha) -> Self {
                Self::from_f32(self.to_f32().encode_u(alpha))
            }

            #[inline]
            fn decode_u(self, alpha: Alpha) -> Self {
                Self::from_f32(self.to_f32().decode_u(alpha))
            }

            #[inline]
            fn encode_z(self, alpha: Alpha) -> Self {
                Self::from_f32(self.to_f32().encode_z(alpha))
            }

            #[inline]
            fn decode_z(self, alpha: Alpha) -> Self {
                Self::from_f32(self.to_f32().decode_z(alpha))
            }
        }
    };
}

#[cfg(feature = "half")]
through_f32!(half::bf16);
#[cfg(feature = "half")]
through_f32!(half::f16);
