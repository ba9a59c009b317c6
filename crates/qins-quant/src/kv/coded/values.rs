//! A closed block of values, after a Hadamard transform over the head.

use super::{
    BLOCK, GROUP,
    codes::{TokenCodes, WORD},
    hadamard::hadamard,
    scale::{Scale, inverse, scale},
    trellis::{BYTES, LANES, Levels, Search, find_codes},
};
use crate::{
    kernel::{Planes, Simd, fetch_part, per_isa},
    kv::softmax::worse,
};

/// Steps of scales that are tried, from the one that reaches the largest number.
const STEPS: std::ops::RangeInclusive<i32> = -4..=0;

/// A block of values: `scale·level` for each channel and token.
#[derive(Clone, Debug)]
pub(super) struct ValueBlock {
    codes: TokenCodes,
    /// `[BLOCK, groups]`.
    scales: Vec<u8>,
}

/// Transforms `block[n, dim]`.
pub(super) fn transformed(block: &[f32], dim: usize) -> Vec<f32> {
    let mut block = block.to_vec();
    block.chunks_exact_mut(dim).for_each(hadamard);
    block
}

impl ValueBlock {
    /// Codes `block[BLOCK, dim]`, already transformed; `skip` first tokens need not be coded.
    pub(super) fn close(block: &[f32], dim: usize, bits: u8, skip: usize) -> Self {
        let levels = Levels::new(bits);
        let mut found = Self { codes: TokenCodes::new(bits), scales: vec![0; BLOCK * dim.div_ceil(GROUP)] };
        let (mut numbers, mut weights) = ([[0.0; LANES]; BLOCK], [[0.0; LANES]; BLOCK]);
        for group in (0..dim).step_by(GROUP) {
            let width = GROUP.min(dim - group);
            let of = |token: usize| &block[token * dim + group..][..width];
            let mut scales = [Scale::NAN; BLOCK];
            scales.iter_mut().enumerate().for_each(|(token, scale)| choose(Simd::get(), of(token), levels, scale));
            let mut codes = [[0; WORD]; BLOCK];
            for first in (0..width).step_by(LANES) {
                let lanes = first..width.min(first + LANES);
                for (token, (numbers, weights)) in numbers.iter_mut().zip(&mut weights).enumerate() {
                    let wide = scales[token].to_f32();
                    let multiples = of(token)[lanes.clone()].iter().map(|x| x * inverse(wide));
                    multiples.zip(numbers).for_each(|(t, number)| *number = t);
                    *weights = [if token < skip { 0.0 } else { wide * wide }; LANES];
                }
                let mut found = [[0; LANES]; BLOCK];
                if bits == BYTES {
                    found = numbers.map(|numbers| numbers.map(|t| levels.byte(t)));
                } else {
                    let search = Search { numbers: &numbers, weights: &weights, bits: [bits; LANES] };
                    find_codes(Simd::get(), search, &mut found);
                }
                let own = codes.iter_mut().zip(&found);
                own.for_each(|(codes, found)| codes[lanes.clone()].copy_from_slice(&found[..lanes.len()]));
            }
            found.codes.push(&codes);
            let own = found.scales.iter_mut().skip(group / GROUP).step_by(dim.div_ceil(GROUP));
            own.zip(scales).for_each(|(bits, scale)| *bits = scale.to_bits());
        }
        found
    }

    /// Decodes channels from `GROUP·group` on, still transformed, of the first `out.len()` tokens; beyond the last channel they are
    /// arbitrary.
    #[inline(always)]
    pub(super) fn read(&self, reader: impl Planes, group: usize, out: &mut [[f32; GROUP]]) {
        let scales = self.scales.iter().skip(group).step_by(self.scales.len() / BLOCK);
        self.codes.read(reader, group, scales.map(|bits| scale(*bits)), out);
    }

    /// Fetches the memory of `n` channels of `dim` from `first` on.
    #[inline(always)]
    pub(super) fn fetch(&self, first: usize, n: usize, dim: usize) {
        fetch_part(self.codes.planes(), first, n, dim);
        fetch_part(&self.scales, first, n, dim);
    }

    pub(super) fn bytes(&self) -> usize {
        self.codes.bytes() + self.scales.len()
    }

    /// Appends its words, as [`BlockLayout`](super::BlockLayout) has them.
    pub(super) fn push_words(&self, words: &mut Vec<u32>) {
        words.extend(self.scales.as_chunks().0.iter().map(|four| u32::from_le_bytes(*four)));
        words.extend(self.codes.planes());
    }
}

per_isa! {
    /// The scale of about the least error for the numbers of a group.
    fn choose(numbers: &[f32], levels: Levels, scale: &mut Scale) = chosen
}

#[inline(always)]
fn chosen(numbers: &[f32], levels: Levels, scale: &mut Scale) {
    let least = Scale::at_least(numbers.iter().fold(0.0, |most, x| worse(most, x.abs())));
    *scale = least;
    if levels.is_bytes() {
        return;
    }
    let mut best = f32::INFINITY;
    for steps in STEPS {
        let candidate = least.stepped(steps);
        let (wide, inverse) = (candidate.to_f32(), inverse(candidate.to_f32()));
        // Lanes, whose sums have the same order on all instruction sets.
        let mut sums = [0.0; LANES];
        for numbers in numbers.chunks(LANES) {
            sums.iter_mut().zip(numbers).for_each(|(sum, x)| *sum += levels.distance(x * inverse));
        }
        let error = wide * wide * sums.iter().sum::<f32>();
        if error < best {
            (*scale, best) = (candidate, error);
        }
    }
}
