//! The levels of codes as integers, in units of 1/16383.

use qins_codec::{Code, Curvature};

use super::{
    activations::{LARGEST_WEIGHT, round_to_i16},
    simd::per_isa,
};
use crate::{GroupedRows, Layout, Width};

/// The levels of the 128 magnitudes of a [`Code`] in one row, in separate tables of low and high bytes.
///
/// The largest level that occurs in the row is 16383. No low byte is zero, except that of magnitude zero: so a negative level
/// is −low and ¬high of the positive one, without a borrow between the bytes. A level whose low byte would be zero is raised
/// by one.
#[repr(C, align(64))]
pub(super) struct Companded {
    pub(super) low: [u8; 128],
    pub(super) high: [u8; 128],
}

/// How the magnitudes of a row become levels.
#[derive(Clone, Copy)]
pub(super) struct Curve {
    pub(super) k: Curvature,
    /// The integer of a level of 1.
    pub(super) gain: f32,
    /// The level that the integer 1 stands for.
    pub(super) unit: f32,
}

impl Companded {
    /// A table to be filled in.
    pub(super) const EMPTY: Self = Self { low: [0; 128], high: [0; 128] };
}

impl Curve {
    /// Up to this curvature, the row is taken to use the largest code, as every fitted row does. A steeper curve may come from
    /// a fixed α, under which a row can have small codes only: then its largest code is searched for.
    const STEEP: f32 = 16.0;

    /// The curve of a row of codes.
    pub(super) fn new(k: Curvature, codes: &[u8]) -> Self {
        let most = Code::MAX_MAGNITUDE;
        let top = if k.get() > Self::STEEP { codes.iter().fold(1, |top, code| top.max(code & most)) } else { most };
        let level = k.level(f32::from(top), f32::from(most));
        Self { k, gain: LARGEST_WEIGHT / level, unit: level / LARGEST_WEIGHT }
    }

    /// The integer of the level of a magnitude that occurs in the row.
    #[inline(always)]
    pub(super) fn integer(self, q: u8) -> i16 {
        let level = round_to_i16(self.gain * self.k.level(f32::from(q), f32::from(Code::MAX_MAGNITUDE)));
        level.wrapping_add(i16::from(level & 0xff == 0 && q != 0))
    }
}

per_isa! {
    /// Computes the levels on a curve. Every row has its own curve, so this runs once per row.
    pub(super) fn fill(levels: &mut Companded, curve: Curve) = fill_inlined
}

#[inline(always)]
pub(super) fn fill_inlined(levels: &mut Companded, curve: Curve) {
    for (q, (low, high)) in levels.low.iter_mut().zip(&mut levels.high).enumerate() {
        [*low, *high] = curve.integer(q as u8).to_le_bytes();
    }
}

/// Replaces tables of sixteen bytes by their exclusive or with the table before, except the first ones of each `HALF` tables.
#[inline(always)]
pub(super) fn differences<const HALF: usize>(tables: &mut [u8]) {
    for half in tables.as_chunks_mut::<16>().0.chunks_mut(HALF) {
        for t in (1..half.len()).rev() {
            let before = half[t - 1];
            half[t].iter_mut().zip(before).for_each(|(byte, before)| *byte ^= before);
        }
    }
}

/// The levels of all codes under each of the four curves of a matrix.
pub(super) struct GroupLevels {
    /// Entries per curve: 2ᵇ, but at least 16, where fewer levels repeat.
    pub(super) entries: usize,
    /// The levels.
    pub(super) words: Vec<i16>,
    /// The same, with bytes separated: the low bytes of a curve, then its high bytes.
    pub(super) bytes: Vec<Line>,
    /// [`bytes`](Self::bytes) as [`differences`] within halves of a magnitude's tables: of 32 bytes for 6 bits, 64 for 8. Empty where levels
    /// are `signed`.
    pub(super) differences: Vec<Line>,
    /// Where levels are 128 times a byte: those bytes, curve after curve without repetition, and all of it repeated to fill 128.
    pub(super) signed: [i8; 128],
}

/// A cache line: a load that crosses two takes as long as two.
#[repr(C, align(64))]
pub(super) struct Line([u8; 64]);

impl GroupLevels {
    /// Where [`bytes`](Self::bytes) start.
    #[cfg_attr(not(any(target_arch = "x86_64", target_arch = "aarch64")), expect(dead_code, reason = "no kernel"))]
    #[inline(always)]
    pub(super) fn bytes(&self) -> *const u8 {
        self.bytes.as_ptr().cast()
    }

    /// Where [`differences`](Self::differences) start.
    #[cfg_attr(not(target_arch = "x86_64"), expect(dead_code, reason = "of AVX2 alone"))]
    #[inline(always)]
    pub(super) fn differences(&self) -> *const u8 {
        self.differences.as_ptr().cast()
    }

    /// The integer of a level of 1: the largest there is; or, where levels are multiples of 1/127, 128 for each of these, as
    /// then ⌊(128·t·(256·s) + 2¹⁴)/2¹⁵⌋ is exactly t·s.
    const fn one(width: Width) -> f32 {
        if width.has_byte_levels() { 128.0 * 127.0 } else { LARGEST_WEIGHT }
    }

    /// What an integer weight of 1 stands for, under a super-block scale of 1.
    pub(super) const fn unit(width: Width) -> f32 {
        128.0 / Self::one(width)
    }

    // In plain loops, as this runs on one thread before every product.
    pub(super) fn new(w: &GroupedRows<'_>) -> Self {
        let width = w.layout.width();
        let codes = 1_usize << width.bits();
        let (entries, one) = (codes.max(16), Self::one(width));
        let mut words = vec![0; Layout::CURVES * entries];
        let mut bytes = vec![0; 2 * words.len()];
        let of_curves = words.chunks_exact_mut(entries).zip(bytes.chunks_exact_mut(2 * entries));
        for ((words, bytes), k) in of_curves.zip(w.curvature) {
            let k = Curvature::new(*k).unwrap_or(Curvature::LINEAR);
            for (code, word) in words.iter_mut().enumerate() {
                *word = round_to_i16(one * width.level(k, (code % codes) as f32 - (codes / 2) as f32));
            }
            let (low, high) = bytes.split_at_mut(entries);
            for ((word, low), high) in words.iter().zip(low).zip(high) {
                [*low, *high] = word.to_le_bytes();
            }
        }
        let lines = |bytes: &[u8]| bytes.as_chunks().0.iter().map(|line| Line(*line)).collect();
        let looked_up = lines(&bytes);
        match width {
            Width::W6 => differences::<2>(&mut bytes),
            Width::W8 => differences::<4>(&mut bytes),
            Width::W3 | Width::W4 | Width::W5 => bytes.clear(),
        }
        let mut signed = [0; 128];
        if width.has_byte_levels() {
            for (i, signed) in signed.iter_mut().enumerate() {
                *signed = (words[(i / codes % Layout::CURVES) * entries + i % codes] / 128) as i8;
            }
        }
        Self { entries, words, bytes: looked_up, differences: lines(&bytes), signed }
    }
}
