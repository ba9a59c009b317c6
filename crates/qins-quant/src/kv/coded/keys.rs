//! A closed block of keys, before their rotation.

use half::f16;

use super::{
    BLOCK, SINKS,
    bits::allocate,
    codes::ChannelCodes,
    scale::{Scale, inverse, scale},
    trellis::{BYTES, CodeLanes, LANES, Lanes, Levels, Search, about_error, find_codes},
};
use crate::{
    dtype::widen_half,
    kernel::{Affine, Planes, Simd, fetch_part},
    kv::softmax::worse,
};

/// What an offset is a multiple of, as a share of the scale of its channel.
const OFFSET: f32 = 1.0 / 16.0;

/// The least and most bits of a channel.
const WIDTHS: [u8; 2] = [2, 7];

/// Steps of scales that are tried, from the one that reaches the largest number.
const STEPS: std::ops::RangeInclusive<i32> = -4..=0;

/// A block of keys: `base + scale·(level + offset/16)` for each channel and token.
#[derive(Clone, Debug)]
pub(super) struct KeyBlock {
    codes: ChannelCodes,
    scales: Vec<u8>,
    offsets: Vec<i8>,
}

/// The mean of each channel over the tokens of the first block, without the sinks, which all blocks are coded around.
pub(super) fn base(block: &[f32], dim: usize) -> Vec<f16> {
    let tokens = block.chunks_exact(dim).skip(SINKS);
    let mut sums = vec![0.0_f32; dim];
    tokens.for_each(|token| sums.iter_mut().zip(token).for_each(|(sum, x)| *sum += x));
    sums.iter().map(|sum| f16::from_f32(sum / (BLOCK - SINKS) as f32)).collect()
}

/// What is coded of a channel.
#[derive(Clone, Copy)]
struct Spread {
    mean: f32,
    /// The largest distance from the mean; NaN if any is.
    reach: f32,
}

impl Spread {
    fn of(numbers: impl Iterator<Item = f32> + Clone) -> Self {
        let (sum, n) = numbers.clone().fold((0.0, 0.0), |(sum, n), x| (sum + x, n + 1.0));
        let mean = sum / n;
        Self { mean, reach: numbers.fold(0.0, |most, x| worse(most, (x - mean).abs())) }
    }

    /// The least scale under which all numbers can be had, by levels around an offset.
    fn scale(self) -> Scale {
        let least = Scale::at_least(self.reach).max(Scale::at_least(self.mean.abs() / (OFFSET * 127.0)));
        let wide = least.to_f32();
        let beside = (self.mean - f32::from(self.offset(wide)) * OFFSET * wide).abs();
        if self.reach + beside > wide { least.stepped(1) } else { least }
    }

    fn offset(self, scale: f32) -> i8 {
        (self.mean * inverse(scale * OFFSET)).round_ties_even().clamp(-127.0, 127.0) as i8
    }
}

impl KeyBlock {
    /// Codes `block[BLOCK, dim]`; `energies` are the mean squares of the queries in each channel, and `skip` first tokens need not be coded.
    pub(super) fn close(block: &[f32], base: &[f16], energies: &[f32], bits: u8, skip: usize) -> Self {
        let dim = base.len();
        let channel = |c: usize| block.iter().skip(c).step_by(dim).map(move |x| x - base[c].to_f32());
        let spreads: Vec<Spread> = (0..dim).map(|c| Spread::of(channel(c).skip(skip))).collect();
        let bits = if bits == BYTES {
            vec![bits; dim]
        } else {
            let weights: Vec<f32> = spreads.iter().zip(energies).map(|(s, e)| s.reach * e.sqrt()).collect();
            allocate(&weights, bits, WIDTHS)
        };
        let mut found = Self { codes: ChannelCodes::default(), scales: Vec::new(), offsets: Vec::new() };
        let mut numbers = [[0.0; LANES]; BLOCK];
        let mut rows = [[0; LANES]; BLOCK];
        for first in (0..dim).step_by(LANES) {
            let lanes = LANES.min(dim - first);
            for c in 0..lanes {
                channel(first + c).zip(&mut numbers).for_each(|(x, numbers)| numbers[c] = x);
            }
            let own = |c: usize| (first + c).min(dim - 1);
            let spreads = std::array::from_fn(|c| spreads[own(c)]);
            let bits: [u8; LANES] = std::array::from_fn(|c| bits[own(c)]);
            let scales = chosen(&numbers, &spreads, &bits, skip, &mut rows);
            for c in 0..lanes {
                let spread: Spread = spreads[c];
                let wide = scales[c].to_f32();
                let offset = spread.offset(wide);
                let codes = if bits[c] == BYTES {
                    let levels = Levels::new(BYTES);
                    let t = |x: &Lanes| x[c] * inverse(wide) - f32::from(offset) * OFFSET;
                    std::array::from_fn(|i| levels.byte(t(&numbers[i])))
                } else {
                    rows.map(|codes| codes[c])
                };
                found.codes.push(bits[c], &codes);
                found.scales.push(scales[c].to_bits());
                found.offsets.push(offset);
            }
        }
        found
    }

    /// Decodes channels from `first` on, one to a row of `out`.
    #[inline(always)]
    pub(super) fn read(&self, reader: impl Planes, base: &[f16], first: usize, out: &mut [[f32; BLOCK]]) {
        let mut codes = self.codes.from(first);
        let channels = base[first..].iter().zip(&self.scales[first..]).zip(&self.offsets[first..]);
        for (out, ((base, bits), offset)) in out.iter_mut().zip(channels) {
            let scale = scale(*bits);
            let offset = widen_half::<false>(base.to_bits()) + scale * (f32::from(*offset) * OFFSET);
            codes.read(reader, Affine { scale, offset }, out);
        }
    }

    /// Fetches the memory of about `n` channels from `first` on.
    #[inline(always)]
    pub(super) fn fetch(&self, first: usize, n: usize) {
        let dim = self.scales.len();
        fetch_part(self.codes.planes(), first, n, dim);
        fetch_part(self.codes.bits(), first, n, dim);
        fetch_part(&self.scales, first, n, dim);
        fetch_part(&self.offsets, first, n, dim);
    }

    pub(super) fn bytes(&self) -> usize {
        self.codes.bytes() + self.scales.len() + self.offsets.len()
    }

    /// Appends its words, as [`BlockLayout`](super::BlockLayout) has them.
    pub(super) fn push_words(&self, words: &mut Vec<u32>) {
        let mut before = 0;
        let channels = self.codes.bits().iter().zip(&self.scales).zip(&self.offsets);
        words.extend(channels.map(|((bits, scale), offset)| {
            let start = before;
            before += u32::from(*bits);
            u32::from_le_bytes([*scale, offset.cast_unsigned(), 0, 0]) | u32::from(bits - 1) << 16 | start << 19
        }));
        words.extend(self.codes.planes().iter().flat_map(|plane| [*plane as u32, (plane >> 32) as u32]));
    }
}

/// The scales of least error of 16 channels, and their codes.
fn chosen(
    numbers: &[Lanes; BLOCK],
    spreads: &[Spread; LANES],
    bits: &[u8; LANES],
    skip: usize,
    codes: &mut CodeLanes,
) -> [Scale; LANES] {
    let least = spreads.map(Spread::scale);
    if bits[0] == BYTES {
        return least;
    }
    let mut weights = [[1.0; LANES]; BLOCK];
    weights[..skip].fill([0.0; LANES]);
    let multiples = |scales: &[Scale; LANES]| {
        let inverses = scales.map(|scale| inverse(scale.to_f32()));
        let offsets: Lanes = std::array::from_fn(|c| f32::from(spreads[c].offset(scales[c].to_f32())) * OFFSET);
        numbers.each_ref().map(|x| std::array::from_fn::<_, LANES, _>(|c| x[c] * inverses[c] - offsets[c]))
    };
    let (mut best, mut errors) = (least, [f32::INFINITY; LANES]);
    for steps in STEPS {
        let scales = least.map(|scale| scale.stepped(steps));
        let multiples = multiples(&scales);
        let mut found = [0.0; LANES];
        let search = Search { numbers: &multiples, weights: &weights, bits: *bits };
        about_error(Simd::get(), search, &mut found);
        for c in 0..LANES {
            let error = found[c] * scales[c].to_f32() * scales[c].to_f32();
            // What lies beyond the offsets is not coded.
            let reached = spreads[c].mean.abs() <= scales[c].to_f32() * OFFSET * 127.5;
            if error < errors[c] && reached {
                (best[c], errors[c]) = (scales[c], error);
            }
        }
    }
    let multiples = multiples(&best);
    find_codes(Simd::get(), Search { numbers: &multiples, weights: &weights, bits: *bits }, codes);
    best
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::planes::Portable;

    const DIM: usize = 8;

    /// A block whose channels have a large mean and unlike ranges, its base, and its mean squared error relative to the spread of each
    /// channel, as `read` finds it.
    fn error(damage: impl FnOnce(&mut KeyBlock, &mut [f16])) -> f32 {
        let spread = |c: usize| 0.1 * 3.0_f32.powi(c as i32 % 4);
        let at = |i: usize| (i as f32 * 12.9898).sin() * (i as f32 * 78.233).cos();
        let block: Vec<f32> = (0..BLOCK * DIM).map(|i| 20.0 + spread(i % DIM) * at(i)).collect();
        let mut mean = base(&block, DIM);
        let mut coded = KeyBlock::close(&block, &mean, &[1.0; DIM], 4, 0);
        damage(&mut coded, &mut mean);
        let mut out = [[0.0; BLOCK]; DIM];
        coded.read(Portable, &mean, 0, &mut out);
        let e = |i: usize| ((out[i % DIM][i / DIM] - block[i]) / spread(i % DIM)).powi(2);
        (0..BLOCK * DIM).map(e).sum::<f32>() / (BLOCK * DIM) as f32
    }

    #[test]
    fn mean_left_out_is_noticed() {
        let whole = error(|_, _| {});
        assert!(whole < 1e-2, "{whole:e}");
        assert!(error(|_, mean| mean.fill(f16::ZERO)) > 100.0 * whole);
    }

    #[test]
    fn bits_swapped_between_two_channels_are_noticed() {
        let whole = error(|_, _| {});
        let swapped = error(|coded, _| {
            let [one, other] = coded.codes.unlike();
            coded.codes.swap(one, other);
        });
        assert!(swapped > 5.0 * whole, "{swapped:e}, {whole:e}");
    }
}
