//! Activations rounded to integers, for the integer product.

use rayon::prelude::*;

use super::{Simd, simd::per_isa};

/// Columns that share a step, and whose products are summed in integers.
pub(super) const BLOCK: usize = 256;

/// Largest magnitude of an integer weight.
pub(super) const LARGEST_WEIGHT: f32 = 16_383.0;

/// Largest sum of the magnitudes of a block. The products with weights up to [`LARGEST_WEIGHT`] can then be summed in 32 bits
/// in any order: (130 000 + 256/2)·16 383 < 2³¹, where 256/2 is what rounding may add.
const LARGEST_SUM: f32 = 130_000.0;

/// The largest magnitude of a value: 127·256 + 127, so that both bytes of value = 256·high + low are signed.
const LARGEST_VALUE: f32 = 32_639.0;

/// Largest sum of the squares of a block that is multiplied by others of its kind: by the inequality of Cauchy and Schwarz their products can be
/// summed in 32 bits in any order, rounding included.
const LARGEST_SQUARES: f32 = 0.998 * 2_147_483_648.0;

/// What the products of a block are summed with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum With {
    /// Integer weights.
    Weights,
    /// Blocks of the same kind.
    Activations,
}

/// Rows of activations, `[m, cols]`, padded with zeros to whole blocks: x ≈ step·value, with one step for each block of 256
/// columns.
///
/// The step is the smallest that keeps values within 16 bits and the sum of their magnitudes within 130 000. If the sum is
/// the limit, |x − step·value| ≤ step/2 is a thousandth of the block's mean magnitude; if one outlier is, 1/65278 of that
/// outlier. Where they are multiplied by one another, the sum of their squares is the limit, and step/2 about a 5787th of the root mean square of a whole block.
pub(super) struct Activations {
    values: Vec<Block>,
    /// One entry per half block, or empty.
    bytes: Vec<Bytes>,
    /// One entry per [`TOGETHER`] blocks of a row, the last of which may be fewer, or empty.
    offsets: Vec<Offsets>,
    /// Four entries per block, or empty.
    signed: Vec<Signed>,
    /// One entry per block, or empty: for each even group of 32, then each odd one, −128·Σ value. Adding this makes up for levels
    /// that are stored 128 too large.
    sums: Vec<[i32; 8]>,
    steps: Vec<f32>,
    blocks: usize,
}

/// One row of [`Activations`].
#[derive(Clone, Copy)]
pub(super) struct ActivationRow<'a> {
    pub(super) values: &'a [Block],
    #[cfg_attr(not(target_arch = "x86_64"), expect(dead_code, reason = "only AVX-512 reads them"))]
    pub(super) bytes: &'a [Bytes],
    #[cfg_attr(not(target_arch = "x86_64"), expect(dead_code, reason = "only AVX-512 reads them"))]
    pub(super) offsets: &'a [Offsets],
    #[cfg_attr(not(target_arch = "x86_64"), expect(dead_code, reason = "only AVX-512 reads them"))]
    pub(super) signed: &'a [Signed],
    #[cfg_attr(not(target_arch = "x86_64"), expect(dead_code, reason = "only AVX2 reads them"))]
    pub(super) sums: &'a [[i32; 8]],
    pub(super) steps: &'a [f32],
}

/// The values of a block. A load that crosses cache lines takes as long as two.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Block(pub(super) [i16; BLOCK]);

/// The values of 128 columns as bytes, value = 256·high + low, in the order in which four groups of 32 codes are unpacked: the
/// first 16 columns of each group, then the last 16.
#[derive(Clone)]
#[repr(C, align(64))]
pub(super) struct Bytes {
    pub(super) high: [[i8; 64]; 2],
    pub(super) low: [[i8; 64]; 2],
}

/// −128·Σ value over each group of [`TOGETHER`] blocks, of two blocks and then of two others: the first group of each half block, the second
/// of each, and so on; zero beyond the end of the row. Adding this makes up for levels that are stored 128 too large, so as to be unsigned.
#[derive(Clone)]
#[repr(C, align(64))]
pub(super) struct Offsets(pub(super) [[[i32; 4]; 4]; TOGETHER / 2]);

/// Blocks whose lanes AVX-512 adds together.
pub(super) const TOGETHER: usize = 4;

/// The values of 64 columns as bytes, and their negatives: weights can then be without signs, which choose between the two.
#[derive(Clone)]
#[repr(C, align(64))]
pub(super) struct Signed {
    /// value = 256·(the first) + the second.
    pub(super) plus: [[i8; 64]; 2],
    /// The same for −value.
    pub(super) minus: [[i8; 64]; 2],
}

impl Activations {
    /// Rounds `x[m, cols]`, to be multiplied by integer weights.
    pub(super) fn new(simd: Simd, x: &[f32], cols: usize) -> Self {
        Self::rounded(simd, With::Weights, x, cols)
    }

    /// Rounds `x[m, cols]`.
    pub(super) fn rounded(simd: Simd, with: With, x: &[f32], cols: usize) -> Self {
        let (m, blocks) = (x.len() / cols, cols.div_ceil(BLOCK));
        let (mut values, mut steps) = (vec![Block([0; BLOCK]); m * blocks], vec![0.0; m * blocks]);
        (values.par_chunks_mut(blocks))
            .zip(steps.par_chunks_mut(blocks))
            .zip(x.par_chunks(cols))
            .for_each(|((values, steps), x)| round_row(simd, with, x, values, steps));
        Self { values, bytes: Vec::new(), offsets: Vec::new(), signed: Vec::new(), sums: Vec::new(), steps, blocks }
    }

    /// Computes the bytes of the values, and the sums of groups, as well.
    #[cfg(target_arch = "x86_64")]
    pub(super) fn fill_bytes(&mut self, simd: Simd) {
        self.bytes = vec![Bytes { high: [[0; 64]; 2], low: [[0; 64]; 2] }; 2 * self.steps.len()];
        bytes(simd, &self.values, &mut self.bytes);
        let per_row = self.blocks.div_ceil(TOGETHER);
        self.offsets = vec![Offsets([[[0; 4]; 4]; TOGETHER / 2]); self.rows() * per_row];
        for (values, row) in self.values.chunks_exact(self.blocks).zip(self.offsets.chunks_exact_mut(per_row)) {
            offsets(simd, values, row);
        }
    }

    /// Computes the bytes of the values and of their negatives as well.
    #[cfg(target_arch = "x86_64")]
    pub(super) fn fill_signed(&mut self, simd: Simd) {
        self.signed = vec![Signed { plus: [[0; 64]; 2], minus: [[0; 64]; 2] }; BLOCK / 64 * self.steps.len()];
        signed(simd, &self.values, &mut self.signed);
    }

    /// Rearranges the columns of each two groups of 32, and computes their sums as well. Of the first sixteen of both groups come the
    /// even columns, eight and eight, then the odd ones; or, `as_bytes` and value = 256·high + low, all high bytes, sixteen and
    /// sixteen, then the low ones. The same of the last sixteen follows.
    #[cfg(target_arch = "x86_64")]
    pub(super) fn pair(&mut self, simd: Simd, as_bytes: bool) {
        self.sums = vec![[0; 8]; self.values.len()];
        paired(simd, as_bytes, &mut self.values, &mut self.sums);
    }

    /// All rows.
    #[cfg_attr(not(target_arch = "x86_64"), expect(dead_code, reason = "only AVX-512 takes them so"))]
    pub(super) fn all(&self) -> Vec<ActivationRow<'_>> {
        (0..self.rows()).map(|i| self.row(i)).collect()
    }

    /// Row `i`.
    pub(super) fn row(&self, i: usize) -> ActivationRow<'_> {
        let (first, end) = (i * self.blocks, (i + 1) * self.blocks);
        ActivationRow {
            values: &self.values[first..end],
            bytes: self.bytes.get(2 * first..2 * end).unwrap_or_default(),
            offsets: self.offsets.chunks(self.blocks.div_ceil(TOGETHER)).nth(i).unwrap_or_default(),
            signed: self.signed.get(BLOCK / 64 * first..BLOCK / 64 * end).unwrap_or_default(),
            sums: self.sums.get(first..end).unwrap_or_default(),
            steps: &self.steps[first..end],
        }
    }

    /// The number of rows.
    pub(super) fn rows(&self) -> usize {
        self.steps.len() / self.blocks
    }

    /// The number of blocks per row.
    pub(super) fn blocks(&self) -> usize {
        self.blocks
    }
}

/// The bytes of value = 256·high + low, both signed.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn high_and_low(value: i16) -> [i8; 2] {
    let low = value as i8;
    [(value.wrapping_sub(i16::from(low)) >> 8) as i8, low]
}

/// Rounds `x`, which must be in the range of `i16`, to nearest even: adding 1.5·2²³, whose ulp is 1, leaves the integer in the
/// low bits.
#[inline(always)]
pub(super) fn round_to_i16(x: f32) -> i16 {
    (x + 12_582_912.0).to_bits() as i16
}

per_isa! {
    pub(super) fn round_row(with: With, x: &[f32], values: &mut [Block], steps: &mut [f32]) = round_row_inlined
}

#[inline(always)]
fn round_row_inlined(with: With, x: &[f32], values: &mut [Block], steps: &mut [f32]) {
    for ((columns, values), step) in x.chunks(BLOCK).zip(values).zip(steps) {
        // Of a fixed length, so that all loops are vectors.
        let mut x = [0.0; BLOCK];
        x[..columns.len()].copy_from_slice(columns);
        let (mut largest, mut sum) = ([0.0_f32; 16], [0.0_f32; 16]);
        for x in x.as_chunks::<16>().0 {
            for ((largest, sum), x) in largest.iter_mut().zip(&mut sum).zip(x) {
                *largest = largest.max(x.abs());
                *sum += x.abs();
            }
        }
        let largest = largest.iter().fold(0.0_f32, |a, b| a.max(*b));
        let sum: f32 = sum.iter().sum();
        let of_all = match with {
            With::Weights => sum / LARGEST_SUM,
            With::Activations => largest * (shares(&x, largest) / LARGEST_SQUARES).sqrt(),
        };
        *step = (largest / LARGEST_VALUE).max(of_all);
        if sum.is_nan() {
            // `max` has dropped the NaN.
            *step = f32::NAN;
        } else if *step < f32::MIN_POSITIVE {
            // Too small to divide by, and negligible: less than 10⁻³³ in all.
            *step = 0.0;
            continue;
        }
        // If the step is infinite, quotients are 0 or NaN. Whatever integers these become, the product with the step is not
        // finite.
        let inverse = 1.0 / *step;
        for (value, x) in values.0.iter_mut().zip(x) {
            *value = round_to_i16(x * inverse);
        }
    }
}

/// The sum of the squares of numbers as shares of the largest magnitude, since those of the numbers may be too small or large: 0 if that is 0.
#[inline(always)]
fn shares(x: &[f32; BLOCK], largest: f32) -> f32 {
    let mut sums = [0.0_f32; 16];
    for x in x.as_chunks::<16>().0 {
        sums.iter_mut().zip(x).for_each(|(sum, x)| *sum += (x / largest) * (x / largest));
    }
    if largest > 0.0 { sums.iter().sum() } else { 0.0 }
}

#[cfg(target_arch = "x86_64")]
per_isa! {
    fn bytes(values: &[Block], bytes: &mut [Bytes]) = bytes_inlined
}

#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn bytes_inlined(values: &[Block], bytes: &mut [Bytes]) {
    let halves = values.iter().flat_map(|block| block.0.as_chunks::<{ BLOCK / 2 }>().0);
    for (values, bytes) in halves.zip(bytes) {
        for (g, group) in values.as_chunks::<32>().0.iter().enumerate() {
            for (h, half) in group.as_chunks::<16>().0.iter().enumerate() {
                // One loop each, so that both are vectors.
                let at = 16 * g..16 * (g + 1);
                for (high, value) in bytes.high[h][at.clone()].iter_mut().zip(half) {
                    *high = high_and_low(*value)[0];
                }
                for (low, value) in bytes.low[h][at].iter_mut().zip(half) {
                    *low = high_and_low(*value)[1];
                }
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
per_isa! {
    fn offsets(values: &[Block], offsets: &mut [Offsets]) = offsets_inlined
}

#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn offsets_inlined(values: &[Block], offsets: &mut [Offsets]) {
    for (two, offsets) in values.chunks(2).zip(offsets.iter_mut().flat_map(|all| &mut all.0)) {
        let halves = two.iter().flat_map(|block| block.0.as_chunks::<{ BLOCK / 2 }>().0);
        for (i, half) in halves.enumerate() {
            for (group, offsets) in half.as_chunks().0.iter().zip(&mut *offsets) {
                offsets[i] = offset(group);
            }
        }
    }
}

/// −128·Σ value over a group.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn offset(group: &[i16; 32]) -> i32 {
    -128 * group.iter().map(|value| i32::from(*value)).sum::<i32>()
}

#[cfg(target_arch = "x86_64")]
per_isa! {
    fn signed(values: &[Block], signed: &mut [Signed]) = signed_inlined
}

#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn signed_inlined(values: &[Block], signed: &mut [Signed]) {
    let columns = values.iter().flat_map(|block| block.0.as_chunks::<64>().0);
    for (values, Signed { plus, minus }) in columns.zip(signed) {
        // Values are within ±32639, so each has a negative; or their step is not finite, and they do not matter.
        for (byte, (plus, minus)) in plus.iter_mut().zip(minus).enumerate() {
            for ((plus, minus), value) in plus.iter_mut().zip(minus).zip(values) {
                *plus = high_and_low(*value)[byte];
                *minus = high_and_low(value.wrapping_neg())[byte];
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
per_isa! {
    fn paired(as_bytes: bool, values: &mut [Block], sums: &mut [[i32; 8]]) = paired_inlined
}

#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn paired_inlined(as_bytes: bool, values: &mut [Block], sums: &mut [[i32; 8]]) {
    for (values, sums) in values.iter_mut().zip(sums) {
        for (g, group) in values.0.as_chunks::<32>().0.iter().enumerate() {
            sums[g % 2 * 4 + g / 2] = offset(group);
        }
        for groups in values.0.as_chunks_mut::<64>().0 {
            let columns = *groups;
            for (v, to) in groups.as_chunks_mut::<16>().0.iter_mut().enumerate() {
                for (i, to) in to.iter_mut().enumerate() {
                    let (first, group) = (v / 2 * 16, i / 8 * 32);
                    *to = if as_bytes {
                        let at = group + first + i % 8 * 2;
                        let byte = |value| high_and_low(value)[v % 2].cast_unsigned();
                        i16::from_le_bytes([byte(columns[at]), byte(columns[at + 1])])
                    } else {
                        columns[group + first + v % 2 + i % 8 * 2]
                    };
                }
            }
        }
    }
}
