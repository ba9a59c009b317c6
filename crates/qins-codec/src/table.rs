//! All levels of a curve at once.

use crate::{Code, Curvature};

/// The 256 values of [`Code::decode`], indexed by the code's byte.
///
/// ```
/// use qins_codec::{Curvature, table};
/// const LINEAR: [f32; 256] = table(Curvature::LINEAR);
/// assert_eq!(LINEAR[127], 1.0);
/// assert_eq!(LINEAR[0x80 | 1], -1.0 / 127.0);
/// ```
#[must_use]
pub const fn table(k: Curvature) -> [f32; 256] {
    let mut levels = [0.0; 256];
    let mut bits = 0;
    while bits < levels.len() {
        levels[bits] = Code::from_bits(bits as u8).decode(k);
        bits += 1;
    }
    levels
}
