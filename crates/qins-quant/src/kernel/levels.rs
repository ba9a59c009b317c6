//! The levels of codes as whole numbers of 1/16383.

use qins_codec::{Code, Curvature};

use super::{
    activations::{LARGEST_WEIGHT, whole},
    simd::compiled_for_each,
};
use crate::GroupedRows;

/// The levels of the 128 magnitudes of a [`Code`](qins_codec::Code) under one curvature, low and high bytes apart.
///
/// No low byte is zero but that of magnitude zero: then a negative level is made of the bytes of the positive one, −low
/// and ¬high, without a borrow. A level that would end in a zero byte is one more.
#[repr(C, align(64))]
pub(super) struct Companded {
    pub(super) low: [u8; 128],
    pub(super) high: [u8; 128],
}

impl Companded {
    /// Without any levels yet.
    pub(super) const EMPTY: Self = Self { low: [0; 128], high: [0; 128] };
}

compiled_for_each! {
    /// The levels under curvature `k`. Rows have curvatures of their own, so this is done for each.
    pub(super) fn fill(levels: &mut Companded, k: Curvature) = fill_inlined
}

#[inline(always)]
fn fill_inlined(levels: &mut Companded, k: Curvature) {
    for (q, (low, high)) in levels.low.iter_mut().zip(&mut levels.high).enumerate() {
        [*low, *high] = companded(q as u8, k).to_le_bytes();
    }
}

/// The level of one magnitude.
#[inline(always)]
pub(super) fn companded(q: u8, k: Curvature) -> i16 {
    let level = whole(LARGEST_WEIGHT * k.level(f32::from(q), f32::from(Code::MAX_MAGNITUDE)));
    level + i16::from(level & 0xff == 0 && q != 0)
}

/// The levels of a group's codes under each of a matrix's curves.
pub(super) struct GroupLevels {
    /// Levels of one curve: 2ᵇ, or 16 where that is less, repeating.
    pub(super) entries: usize,
    /// As numbers.
    pub(super) words: Vec<i16>,
    /// Their low and high bytes apart: 16 low ones, the 16 high ones of the same levels, and so on.
    pub(super) bytes: Vec<u8>,
}

impl GroupLevels {
    pub(super) fn new(w: &GroupedRows<'_>) -> Self {
        let (codes, steps) = (1_usize << w.layout.bits(), (1_u32 << (w.layout.bits() - 1)) as f32);
        let entries = codes.max(16);
        let level = |k: &f32, code: usize| {
            let k = Curvature::new(*k).unwrap_or(Curvature::LINEAR);
            whole(LARGEST_WEIGHT * k.level((code % codes) as f32 - steps, steps))
        };
        let words: Vec<i16> = w.curvature.iter().flat_map(|k| (0..entries).map(move |code| level(k, code))).collect();
        let halves = |words: &[i16]| [0, 1].map(|half| words.iter().map(|w| w.to_le_bytes()[half]).collect::<Vec<_>>());
        let bytes = words.chunks(16).flat_map(halves).flatten().collect();
        Self { entries, words, bytes }
    }
}
