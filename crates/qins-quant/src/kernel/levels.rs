//! The levels of codes as whole numbers of 1/16383.

use qins_codec::{Code, Curvature};

use super::{
    activations::{LARGEST_WEIGHT, whole},
    simd::compiled_for_each,
};
use crate::{GroupedRows, Layout, Width};

/// The levels of the 128 magnitudes of a [`Code`] in one row, low and high bytes apart.
///
/// The largest of them that the row has is 16383. No low byte is zero but that of magnitude zero: then a negative level is
/// made of the bytes of the positive one, −low and ¬high, without a borrow. A level that would end in a zero byte is one
/// more.
#[repr(C, align(64))]
pub(super) struct Companded {
    pub(super) low: [u8; 128],
    pub(super) high: [u8; 128],
    pub(super) curve: Curve,
}

/// The curve of a row.
#[derive(Clone, Copy)]
pub(super) struct Curve {
    k: Curvature,
    /// Whole numbers of a level of one.
    gain: f32,
    /// The level that a whole number of one stands for.
    pub(super) unit: f32,
}

impl Companded {
    /// Without any levels yet.
    pub(super) const EMPTY: Self =
        Self { low: [0; 128], high: [0; 128], curve: Curve { k: Curvature::LINEAR, gain: 0.0, unit: 0.0 } };
}

impl Curve {
    /// A curve steeper than this is no fit to a row, whose largest weight has the largest code: it is one of a fixed α,
    /// under which a row may have none but small codes.
    const STEEP: f32 = 16.0;

    /// The curve of a row of codes.
    pub(super) fn new(k: Curvature, codes: &[u8]) -> Self {
        let most = Code::MAX_MAGNITUDE;
        let top = if k.get() > Self::STEEP { codes.iter().fold(1, |top, code| top.max(code & most)) } else { most };
        let level = k.level(f32::from(top), f32::from(most));
        Self { k, gain: LARGEST_WEIGHT / level, unit: level / LARGEST_WEIGHT }
    }

    /// The whole number of a magnitude the row has.
    #[inline(always)]
    pub(super) fn whole(self, q: u8) -> i16 {
        let level = whole(self.gain * self.k.level(f32::from(q), f32::from(Code::MAX_MAGNITUDE)));
        level.wrapping_add(i16::from(level & 0xff == 0 && q != 0))
    }
}

compiled_for_each! {
    /// The levels on a curve. Rows have curves of their own, so this is done for each.
    pub(super) fn fill(levels: &mut Companded, curve: Curve) = fill_inlined
}

#[inline(always)]
fn fill_inlined(levels: &mut Companded, curve: Curve) {
    levels.curve = curve;
    for (q, (low, high)) in levels.low.iter_mut().zip(&mut levels.high).enumerate() {
        [*low, *high] = curve.whole(q as u8).to_le_bytes();
    }
}

/// The levels of a group's codes under each of a matrix's curves.
pub(super) struct GroupLevels {
    /// Levels of one curve: 2ᵇ, or 16 where that is less, repeating.
    pub(super) entries: usize,
    /// As numbers.
    pub(super) words: Vec<i16>,
    /// Their low and high bytes apart: 16 low ones, the 16 high ones of the same levels, and so on.
    pub(super) bytes: Vec<u8>,
    /// Levels that are 128 times a byte as that byte, curve after curve without repetition; the whole repeated up to 128.
    pub(super) signed: [i8; 128],
}

impl GroupLevels {
    /// A level of one as a whole number: the largest, or where levels are whole numbers of 1/127 themselves, 128 of each.
    /// The weights of a group are then exact: ⌊(128·t·(256·s) + 2¹⁴)/2¹⁵⌋ is t·s.
    const fn one(width: Width) -> f32 {
        if width.has_byte_levels() { 128.0 * 127.0 } else { LARGEST_WEIGHT }
    }

    /// What one stands for in a weight of a group, under a scale of one.
    pub(super) const fn unit(width: Width) -> f32 {
        128.0 / Self::one(width)
    }

    pub(super) fn new(w: &GroupedRows<'_>) -> Self {
        let width = w.layout.width();
        let codes = 1_usize << width.bits();
        let (entries, one) = (codes.max(16), Self::one(width));
        let level = |k: &f32, code: usize| {
            let k = Curvature::new(*k).unwrap_or(Curvature::LINEAR);
            whole(one * width.level(k, (code % codes) as f32 - (codes / 2) as f32))
        };
        let words: Vec<i16> = w.curvature.iter().flat_map(|k| (0..entries).map(move |code| level(k, code))).collect();
        let halves = |words: &[i16]| [0, 1].map(|half| words.iter().map(|w| w.to_le_bytes()[half]).collect::<Vec<_>>());
        let bytes = words.chunks(16).flat_map(halves).flatten().collect();
        let mut signed = [0; 128];
        for (i, signed) in signed.iter_mut().enumerate().filter(|_| width.has_byte_levels()) {
            *signed = (words[(i / codes % Layout::CURVES) * entries + i % codes] / 128) as i8;
        }
        Self { entries, words, bytes, signed }
    }
}
