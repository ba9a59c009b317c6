//! A closed block of values, after a Hadamard transform over the head.

use super::{
    BLOCK, GROUP, SINKS,
    codes::Codes,
    hadamard::hadamard,
    keys::search,
    scale::{Scale, inverse, scale},
    trellis::{BYTES, LANES, Lanes, Levels, Path, Search},
};

/// Steps of scales that are tried, from the one that reaches the largest number.
const STEPS: std::ops::RangeInclusive<i32> = -4..=1;

/// A block of values: `scale·level` for each channel and token.
#[derive(Clone, Debug)]
pub(super) struct ValueBlock {
    codes: Codes,
    /// `[groups, BLOCK]`.
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
        let mut found = Self { codes: Codes::default(), scales: Vec::new() };
        let (mut path, mut numbers, mut weights) = (Path::new(), [[0.0; LANES]; BLOCK], [[0.0; LANES]; BLOCK]);
        for group in (0..dim).step_by(GROUP) {
            let width = GROUP.min(dim - group);
            let of = |token: usize| &block[token * dim + group..][..width];
            let scales: [Scale; BLOCK] = std::array::from_fn(|token| chosen(of(token), levels));
            for first in (0..width).step_by(LANES) {
                let lanes = LANES.min(width - first);
                for (token, (numbers, weights)) in numbers.iter_mut().zip(&mut weights).enumerate() {
                    let wide = scales[token].to_f32();
                    let multiples = of(token)[first..][..lanes].iter().map(|x| x * inverse(wide));
                    multiples.zip(numbers).for_each(|(t, number)| *number = t);
                    *weights = [if token < skip { 0.0 } else { wide * wide }; LANES];
                }
                if bits != BYTES {
                    search(Search { numbers: &numbers, weights: &weights, levels: [levels; LANES] }, Some(&mut path));
                }
                for c in 0..lanes {
                    let byte = |x: &Lanes| levels.byte(x[c]);
                    let codes = if bits == BYTES { numbers.each_ref().map(byte) } else { path.codes(c) };
                    found.codes.push(bits, &codes);
                }
            }
            found.scales.extend(scales.map(Scale::to_bits));
        }
        found
    }

    /// Decodes into `[dim, BLOCK]`, still transformed.
    #[inline(always)]
    pub(super) fn read(&self, out: &mut [f32]) {
        let mut scales = [0.0; BLOCK];
        for (c, (channel, out)) in self.codes.channels().zip(out.as_chunks_mut::<BLOCK>().0).enumerate() {
            if c % GROUP == 0 {
                let bytes = &self.scales[c / GROUP * BLOCK..][..BLOCK];
                scales.iter_mut().zip(bytes).for_each(|(wide, bits)| *wide = scale(*bits));
            }
            channel.levels(out);
            out.iter_mut().zip(&scales).for_each(|(x, scale)| *x *= scale);
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.codes.bytes() + self.scales.len()
    }
}

/// The scale of about the least error for the numbers of a group.
#[multiversion::multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn chosen(numbers: &[f32], levels: Levels) -> Scale {
    let worse = |most: f32, x: &f32| if most.is_nan() || x.is_nan() { f32::NAN } else { most.max(x.abs()) };
    let least = Scale::at_least(numbers.iter().fold(0.0, worse));
    if levels.is_bytes() {
        return least;
    }
    let mut best = (least, f32::INFINITY);
    for steps in STEPS {
        let candidate = least.stepped(steps);
        let (wide, inverse) = (candidate.to_f32(), inverse(candidate.to_f32()));
        // Lanes, whose sums have the same order on all instruction sets.
        let mut sums = [0.0; LANES];
        for numbers in numbers.chunks(LANES) {
            sums.iter_mut().zip(numbers).for_each(|(sum, x)| *sum += levels.distance(x * inverse));
        }
        let error = wide * wide * sums.iter().sum::<f32>();
        if error < best.1 {
            best = (candidate, error);
        }
    }
    best.0
}

/// The first tokens of the sequence, `[SINKS, dim]`, put over the first tokens of channels `[dim, BLOCK]`.
pub(super) fn put_sinks(sinks: &[f32], channels: &mut [f32]) {
    let dim = sinks.len() / SINKS;
    for (c, channel) in channels.as_chunks_mut::<BLOCK>().0.iter_mut().enumerate() {
        channel.iter_mut().zip(sinks[c..].iter().step_by(dim)).for_each(|(x, sink)| *x = *sink);
    }
}
