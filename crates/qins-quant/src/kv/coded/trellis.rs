//! Trellis-coded quantisation (Marcellin and Fischer, 1990): of twice as many levels as the bits of a code could name, those within reach
//! depend on the codes before.
//!
//! The levels are in four classes in turn. The lowest bit u of a code and those of the two codes before it choose the class,
//! z₀ = u₋₁ and z₁ = u ⊕ u₋₂ (the code of four states of Ungerboeck), and the other bits one of its levels. Reading is thus two shifts and an
//! exclusive or for 64 codes, and the search of least error is Viterbi's over four states. For Gaussian numbers and 4 bits the
//! squared error is four fifths of that of a scale and its own sixteen levels.

use super::BLOCK;
use crate::kernel::{ByteLevels, per_isa};

/// Channels that are searched side by side.
pub(super) const LANES: usize = 16;

/// The width of codes that are bytes, each a level of its own.
pub(super) const BYTES: u8 = 8;

/// The curvature of the levels.
const CURVATURE: f32 = 1.0;

/// The levels of codes of up to seven bits, by their bits and index.
pub(super) static TABLES: [[f32; 256]; BYTES as usize] = {
    let mut tables = [[0.0; 256]; BYTES as usize];
    let mut bits = 1;
    while bits < BYTES {
        let levels = Levels::new(bits);
        let mut index = 0;
        while index < 2 << bits {
            tables[bits as usize][index] = levels.at(index as f32);
            index += 1;
        }
        bits += 1;
    }
    tables
};

/// The levels of codes that are bytes.
pub(super) const BYTE_LEVELS: ByteLevels = ByteLevels { zero: 127.5, step: 1.0 / 127.5 };

/// A number for each lane.
pub(super) type Lanes = [f32; LANES];

/// The levels of a width, from −1 to 1: `q / (half + k·(half − |q|))` for q = index − half.
#[derive(Clone, Copy, Debug)]
pub(super) struct Levels {
    half: f32,
    curvature: f32,
}

impl Levels {
    #[inline(always)]
    pub(super) const fn new(bits: u8) -> Self {
        if bits == BYTES {
            return Self { half: 127.5, curvature: 0.0 };
        }
        Self { half: (1_u16 << bits) as f32 - 0.5, curvature: CURVATURE }
    }

    #[inline(always)]
    pub(super) const fn at(self, index: f32) -> f32 {
        let q = index - self.half;
        q / (self.half + self.curvature * (self.half - q.abs()))
    }

    /// The index of a number, not rounded.
    #[inline(always)]
    fn index(self, t: f32) -> f32 {
        let v = (1.0 + self.curvature) * t / (1.0 + self.curvature * t.abs());
        self.half * v + self.half
    }

    /// The index of class `d` of `classes` nearest to one that is not rounded.
    #[inline(always)]
    fn nearest(self, index: f32, d: f32, classes: f32) -> f32 {
        let index = ((index - d) * (1.0 / classes)).round_ties_even() * classes + d;
        index.clamp(d, 2.0 * self.half + 1.0 - classes + d)
    }

    /// The squared distance of a number to the nearest level of every second, on average of both halves of them: about what the trellis
    /// leaves, for a choice between scales.
    #[inline(always)]
    pub(super) fn distance(self, t: f32) -> f32 {
        let index = self.index(t);
        let to = |d: f32, classes: f32| {
            let e = t - self.at(self.nearest(index, d, classes));
            e * e
        };
        0.5 * (to(0.0, 2.0) + to(1.0, 2.0))
    }

    /// Whether codes are bytes, each a level of its own.
    pub(super) fn is_bytes(self) -> bool {
        self.curvature == 0.0
    }

    /// The code that is a byte.
    #[inline(always)]
    pub(super) fn byte(self, t: f32) -> u8 {
        self.nearest(self.index(t), 0.0, 1.0) as u8
    }
}

/// The numbers of 16 channels that are to be coded along their tokens, as multiples of their scales.
pub(super) struct Search<'a> {
    /// The numbers.
    pub(super) numbers: &'a [Lanes; BLOCK],
    /// How much the squared error of each counts.
    pub(super) weights: &'a [Lanes; BLOCK],
    /// Bits of a code of each channel.
    pub(super) bits: [u8; LANES],
}

/// The codes of each token, in [`LANES`] channels.
pub(super) type CodeLanes = [[u8; LANES]; BLOCK];

/// What the search keeps to find its path again.
struct Path {
    /// Of each class, the nearest index.
    nearest: [[[u8; LANES]; 4]; BLOCK],
    /// For each state, the bit u₋₂ of the path into it.
    from: [[[u8; LANES]; 4]; BLOCK],
}

per_isa! {
    /// About the least error of each channel, for a choice between scales: the search takes twice the time, and chooses little better.
    pub(super) fn about_error(search: Search<'_>, errors: &mut Lanes) = costs
}

per_isa! {
    /// The codes of least error of each channel.
    pub(super) fn find_codes(search: Search<'_>, codes: &mut CodeLanes) = find
}

#[inline(always)]
fn costs(search: Search<'_>, errors: &mut Lanes) {
    let half = search.bits.map(|bits| Levels::new(bits).half);
    *errors = [0.0; LANES];
    for (numbers, weights) in search.numbers.iter().zip(search.weights) {
        for lane in 0..LANES {
            let levels = Levels { half: half[lane], curvature: CURVATURE };
            errors[lane] += weights[lane] * levels.distance(numbers[lane]);
        }
    }
}

#[inline(always)]
fn find(search: Search<'_>, codes: &mut CodeLanes) {
    let mut path = Path { nearest: [[[0; LANES]; 4]; BLOCK], from: [[[0; LANES]; 4]; BLOCK] };
    let Path { nearest, from } = &mut path;
    let costs = search.run(
        |i, class, indices| nearest[i][class] = indices.map(|index| index as i32 as u8),
        |i, state, earlier| from[i][state] = earlier,
    );
    let (mut least, mut state) = (costs[0], [0_u8; LANES]);
    for (which, costs) in (0..).zip(&costs).skip(1) {
        for lane in 0..LANES {
            let better = costs[lane] < least[lane];
            state[lane] = if better { which } else { state[lane] };
            least[lane] = if better { costs[lane] } else { least[lane] };
        }
    }
    for (i, codes) in codes.iter_mut().enumerate().rev() {
        // One of four, without a branch.
        let pick = |of: &[[u8; LANES]; 4], which: u8, lane: usize| {
            let [a, b, c, d] = [0, 1, 2, 3].map(|at: usize| of[at][lane]);
            let (low, high) = if which & 1 == 0 { (a, c) } else { (b, d) };
            if which & 2 == 0 { low } else { high }
        };
        for lane in 0..LANES {
            let (u, before) = (state[lane] & 1, state[lane] >> 1);
            let earlier = pick(&from[i], state[lane], lane);
            let index = pick(&nearest[i], before + 2 * (u ^ earlier), lane);
            codes[lane] = (index >> 2) << 1 | u;
            state[lane] = before + 2 * earlier;
        }
    }
}

impl Search<'_> {
    /// The costs of the four states at the end; `nearest` is told of the indices of each class, `from` of the path into each state.
    #[inline(always)]
    fn run(
        &self,
        mut nearest: impl FnMut(usize, usize, Lanes),
        mut from: impl FnMut(usize, usize, [u8; LANES]),
    ) -> [Lanes; 4] {
        let half = self.bits.map(|bits| Levels::new(bits).half);
        // A state is u + 2·u₋₁; the codes before the first are zero.
        let mut costs = [[f32::INFINITY; LANES]; 4];
        costs[0] = [0.0; LANES];
        for i in 0..BLOCK {
            let (numbers, weights) = (&self.numbers[i], &self.weights[i]);
            let mut middle = [0.0; LANES];
            for lane in 0..LANES {
                middle[lane] = Levels { half: half[lane], curvature: CURVATURE }.index(numbers[lane]);
            }
            let mut errors = [[0.0; LANES]; 4];
            for (class, errors) in errors.iter_mut().enumerate() {
                let mut indices = [0.0; LANES];
                for lane in 0..LANES {
                    let levels = Levels { half: half[lane], curvature: CURVATURE };
                    let index = levels.nearest(middle[lane], class as f32, 4.0);
                    let e = numbers[lane] - levels.at(index);
                    errors[lane] = weights[lane] * (e * e);
                    indices[lane] = index;
                }
                nearest(i, class, indices);
            }
            let mut next = [[0.0; LANES]; 4];
            for (state, next) in next.iter_mut().enumerate() {
                let (u, before) = (state & 1, state >> 1);
                let (zero, one) = (&errors[before + 2 * u], &errors[before + 2 * (u ^ 1)]);
                let mut earlier = [0; LANES];
                for lane in 0..LANES {
                    let zero = costs[before][lane] + zero[lane];
                    let one = costs[before + 2][lane] + one[lane];
                    earlier[lane] = u8::from(one < zero);
                    next[lane] = if one < zero { one } else { zero };
                }
                from(i, state, earlier);
            }
            costs = next;
        }
        costs
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::{Simd, planes::classes};

    /// Of all sequences of codes, none has less error than those that are found.
    #[test]
    fn codes_have_the_least_error_of_all() {
        const BITS: u8 = 1;
        let levels = Levels::new(BITS);
        let mut numbers = [[0.0; LANES]; BLOCK];
        let weights = [[1.0; LANES]; BLOCK];
        let mut random = 1_u64;
        for numbers in &mut numbers {
            for number in numbers {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                *number = (random >> 40) as f32 / (1 << 23) as f32 - 1.0;
            }
        }
        let error = |codes: &[u8], lane: usize| -> f32 {
            let u = codes.iter().enumerate().fold(0, |u, (i, code)| u | u64::from(code & 1) << i);
            let [low, high] = classes(u, u << 1, u << 2);
            let indices = codes
                .iter()
                .enumerate()
                .map(|(i, code)| u64::from(code >> 1) << 2 | (high >> i & 1) << 1 | low >> i & 1);
            indices.zip(&numbers).map(|(index, t)| (t[lane] - levels.at(index as f32)).powi(2)).sum()
        };
        let mut rows = [[0; LANES]; BLOCK];
        find_codes(Simd::get(), Search { numbers: &numbers, weights: &weights, bits: [BITS; LANES] }, &mut rows);
        for lane in 0..LANES {
            let codes = rows.map(|codes| codes[lane]);
            let found = error(&codes, lane);
            // Optimal in every run of eight, all else kept.
            for start in (0..BLOCK - 8).step_by(7) {
                for other in 0..=255_u8 {
                    let mut codes = codes;
                    (0..8).for_each(|i| codes[start + i] = other >> i & 1);
                    assert!(error(&codes, lane) >= found - 1e-4, "{lane}, {start}, {other}");
                }
            }
        }
    }

    #[test]
    fn every_instruction_set_finds_the_codes_of_the_portable_code() {
        let block = crate::kv::numbers(BLOCK * LANES);
        let columns: [[f32; LANES]; BLOCK] =
            std::array::from_fn(|i| std::array::from_fn(|c| block[i * LANES + c] / 2.0));
        let weights = columns.map(|x| x.map(f32::abs));
        let computed = |simd: Simd, bits: u8| {
            let search = || Search { numbers: &columns, weights: &weights, bits: [bits; LANES] };
            let (mut errors, mut codes) = ([0.0; LANES], [[0; LANES]; BLOCK]);
            about_error(simd, search(), &mut errors);
            find_codes(simd, search(), &mut codes);
            (errors.map(f32::to_bits), codes)
        };
        let expected = computed(Simd::Portable, 4);
        for simd in Simd::ALL.into_iter().filter(|simd| simd.is_available()) {
            assert_eq!(computed(simd, 4), expected, "{simd}");
        }
        // Control: of other bits they differ.
        assert_ne!(computed(Simd::Portable, 3), expected);
    }
}
