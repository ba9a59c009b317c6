//! The products of attention with a block of keys and values. Some channels at a time are read, and multiplied with all queries while
//! they are in the fastest cache. The sums of a query have the same order whatever the number of queries, so that attention has the same
//! bits in pieces of any length.

use super::{BLOCK, GROUP, Rotations, block::Block};
use crate::kernel::{Planes, per_planes};

/// Channels of keys that are read together; as many again are the other halves of their pairs.
const TILE: usize = 16;

per_planes! {
    /// `scores[rows, BLOCK] = queries[rows, dim] · keys[BLOCK, dim]ᵀ`. Keys that are not rotated are, by their places in the block.
    pub(super) fn scores(block: Block<'_>, next: Option<Block<'_>>, rotations: Option<&Rotations>, queries: &[f32], scores: &mut [f32]) = all_scores
}

#[inline(always)]
fn all_scores(
    reader: impl Planes,
    block: Block<'_>,
    next: Option<Block<'_>>,
    rotations: Option<&Rotations>,
    queries: &[f32],
    scores: &mut [f32],
) {
    scores.fill(0.0);
    let (dim, pairs) = (block.dim(), rotations.map_or(0, Rotations::pairs));
    let turned_here = rotations.filter(|_| block.is_unrotated());
    let [mut ones, mut others] = [[[0.0; BLOCK]; TILE]; 2];
    for first in (0..pairs).step_by(TILE) {
        let n = TILE.min(pairs - first);
        let (ones, others) = (&mut ones[..n], &mut others[..n]);
        if let Some(next) = next {
            next.fetch_keys(first, n);
            next.fetch_keys(pairs + first, n);
        }
        if let Some(rotations) = turned_here {
            block.keys(reader, first, ones);
            block.keys(reader, pairs + first, others);
            rotations.rotate_pairs(first, ones, others);
            add_channels(reader, &queries[first..], dim, ones, scores);
            add_channels(reader, &queries[pairs + first..], dim, others, scores);
        } else {
            add_channels(reader, &queries[first..], dim, tile(reader, block, first, ones), scores);
            add_channels(reader, &queries[pairs + first..], dim, tile(reader, block, pairs + first, others), scores);
        }
    }
    for first in (2 * pairs..dim).step_by(TILE) {
        let ones = &mut ones[..TILE.min(dim - first)];
        if let Some(next) = next {
            next.fetch_keys(first, ones.len());
        }
        add_channels(reader, &queries[first..], dim, tile(reader, block, first, ones), scores);
    }
}

/// Channels of keys from `first` on: where they are, if they are stored as they are multiplied, or else read into `out`.
#[inline(always)]
fn tile<'a>(reader: impl Planes, block: Block<'a>, first: usize, out: &'a mut [[f32; BLOCK]]) -> &'a [[f32; BLOCK]] {
    if let Some(stored) = block.stored_keys(first, out.len()) {
        return stored;
    }
    block.keys(reader, first, out);
    out
}

/// `scores[rows, BLOCK] += queries · channels`, of queries that start `dim` numbers apart.
#[inline(always)]
fn add_channels(reader: impl Planes, queries: &[f32], dim: usize, channels: &[[f32; BLOCK]], scores: &mut [f32]) {
    // Loops, as the compiler may leave a closure's code to the baseline's instructions.
    let scores = scores.as_chunks_mut::<BLOCK>().0;
    let (pairs, last) = scores.as_chunks_mut::<2>();
    let mut queries = queries.chunks(dim).map(|query| &query[..channels.len()]);
    for sums in pairs {
        let (Some(one), Some(other)) = (queries.next(), queries.next()) else { return };
        if reader.is_wide() {
            reader.add_products([one, other], channels, sums);
            continue;
        }
        for (query, sums) in [one, other].into_iter().zip(sums) {
            reader.add_products([query], channels, std::array::from_mut(sums));
        }
    }
    for (sums, query) in last.iter_mut().zip(queries) {
        reader.add_products([query], channels, std::array::from_mut(sums));
    }
}

per_planes! {
    /// `out[rows, dim] += weights[rows, BLOCK] · values[BLOCK, dim]`, of the first `n` tokens.
    pub(super) fn add_values(block: Block<'_>, next: Option<Block<'_>>, n: usize, weights: &[f32], out: &mut [f32]) = add_all_values
}

#[inline(always)]
fn add_all_values(
    reader: impl Planes,
    block: Block<'_>,
    next: Option<Block<'_>>,
    n: usize,
    weights: &[f32],
    out: &mut [f32],
) {
    let dim = block.dim();
    let mut read = [[0.0; GROUP]; BLOCK];
    for first in (0..dim).step_by(GROUP) {
        if let Some(next) = next {
            next.fetch_values(first, GROUP.min(dim - first));
        }
        let tile = match block.stored_values(first, n) {
            Some(stored) => stored,
            None => {
                block.values(reader, first, &mut read[..n]);
                &read[..n]
            }
        };
        let mut add = Group { first, dim, tile, out };
        let (mut row, rows) = (0, weights.len() / BLOCK);
        let weights = |row: usize| &weights[row * BLOCK..][..n];
        while reader.is_wide() && row + 4 <= rows {
            add.rows(reader, row, [weights(row), weights(row + 1), weights(row + 2), weights(row + 3)]);
            row += 4;
        }
        while row + 2 <= rows {
            add.rows(reader, row, [weights(row), weights(row + 1)]);
            row += 2;
        }
        while row < rows {
            add.rows(reader, row, [weights(row)]);
            row += 1;
        }
    }
}

/// Channels of values that are added together.
struct Group<'a> {
    first: usize,
    dim: usize,
    tile: &'a [[f32; GROUP]],
    out: &'a mut [f32],
}

impl Group<'_> {
    /// Adds them to some rows from `row` on.
    #[inline(always)]
    fn rows<const ROWS: usize>(&mut self, reader: impl Planes, row: usize, weights: [&[f32]; ROWS]) {
        let (start, width) = (row * self.dim + self.first, GROUP.min(self.dim - self.first));
        let mut sums = [[0.0; GROUP]; ROWS];
        for (i, sums) in sums.iter_mut().enumerate() {
            sums[..width].copy_from_slice(&self.out[start + i * self.dim..][..width]);
        }
        reader.add_products(weights, self.tile, &mut sums);
        for (i, sums) in sums.iter().enumerate() {
            self.out[start + i * self.dim..][..width].copy_from_slice(&sums[..width]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        FloatDtype,
        kernel::Simd,
        kv::{
            CodedBits,
            coded::{CodedHead, hadamard},
            floats::FloatHead,
            numbers,
            softmax::weigh,
        },
    };

    /// No multiple of a tile or a group; of its channels two are in no pair.
    const DIM: usize = 82;
    const PAIRS: usize = 40;
    const ROWS: usize = 7;

    /// A block of keys and values, `[BLOCK, DIM]` each, and what is multiplied with it.
    struct Case {
        keys: Vec<f32>,
        values: Vec<f32>,
        queries: Vec<f32>,
        weights: Vec<f32>,
        rotations: Rotations,
    }

    impl Case {
        fn new() -> Self {
            let all = numbers((2 * BLOCK + ROWS) * DIM + ROWS * BLOCK);
            let (keys, rest) = all.split_at(BLOCK * DIM);
            let (values, rest) = rest.split_at(BLOCK * DIM);
            let (queries, weights) = rest.split_at(ROWS * DIM);
            let frequencies: Vec<f32> = (0..PAIRS).map(|i| 0.9_f32.powi(i as i32)).collect();
            let [keys, values, queries, weights] = [keys, values, queries, weights].map(<[f32]>::to_vec);
            Self { keys, values, queries, weights, rotations: Rotations::new(&frequencies, 1.0) }
        }

        fn coded(&self, bits: u8) -> CodedHead {
            let mut head = self.open(bits);
            // The next token closes the block.
            head.append(&self.keys[..DIM], &self.values[..DIM], &self.keys[..DIM], PAIRS);
            head
        }

        fn open(&self, bits: u8) -> CodedHead {
            let mut head = CodedHead::new(CodedBits { keys: bits, values: bits }, DIM);
            head.append(&self.keys, &self.values, &self.keys, PAIRS);
            head
        }

        fn floats(&self, dtype: FloatDtype) -> FloatHead {
            let mut head = FloatHead::new(dtype, DIM);
            head.append(&self.keys, &self.values, Some(&self.rotations));
            head
        }

        /// Scores, and values added to queries, of the first `rows` queries.
        fn products(&self, simd: Simd, block: Block<'_>, rows: usize) -> [Vec<f32>; 2] {
            let (mut found, mut out) = (vec![0.0; rows * BLOCK], self.queries[..rows * DIM].to_vec());
            scores(simd, block, None, Some(&self.rotations), &self.queries[..rows * DIM], &mut found);
            add_values(simd, block, None, BLOCK, &self.weights[..rows * BLOCK], &mut out);
            [found, out]
        }
    }

    #[test]
    fn every_instruction_set_gives_the_bits_of_the_portable_code() {
        let case = Case::new();
        let (coded, floats) = (
            [2, 3, 4, 5, 6, 7, 8].map(|bits| case.coded(bits)),
            [FloatDtype::F32, FloatDtype::F16, FloatDtype::Bf16].map(|dtype| case.floats(dtype)),
        );
        let open = case.open(4);
        let coded_and_open = coded.iter().chain([&open]).map(|head| head.block(0));
        let blocks: Vec<Block<'_>> =
            coded_and_open.chain(floats.iter().map(|head| head.block(0))).map(Option::unwrap).collect();
        let bits = |all: [Vec<f32>; 2]| all.concat().iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        let expected: Vec<_> = blocks.iter().map(|block| bits(case.products(Simd::Portable, *block, ROWS))).collect();
        let softmax = |simd: Simd| {
            let mut scores = *case.weights.first_chunk().unwrap();
            let weighed = weigh(simd, &mut scores, 3.0, -1.0);
            (scores.map(f32::to_bits), weighed.largest.to_bits(), weighed.sum.to_bits())
        };
        for simd in Simd::ALL.into_iter().filter(|simd| simd.is_available()) {
            for (i, (block, expected)) in blocks.iter().zip(&expected).enumerate() {
                assert_eq!(bits(case.products(simd, *block, ROWS)), *expected, "{simd}, block {i}");
                // A query has the same bits among fewer.
                let [among, out] = case.products(simd, *block, ROWS);
                for rows in 1..ROWS {
                    let fewer = case.products(simd, *block, rows);
                    assert_eq!(
                        fewer,
                        [among[..rows * BLOCK].to_vec(), out[..rows * DIM].to_vec()],
                        "{simd}, block {i}"
                    );
                }
            }
            assert_eq!(softmax(simd), softmax(Simd::Portable), "{simd}");
        }
        // An open block has the bits of the plain one; control: no other two have the same.
        assert_eq!(expected[coded.len()], expected[coded.len() + 1]);
        for (i, one) in expected.iter().enumerate() {
            let alike = expected.iter().filter(|other| *other == one).count();
            assert_eq!(alike, if i == coded.len() || i == coded.len() + 1 { 2 } else { 1 }, "block {i}");
        }
    }

    #[test]
    fn products_are_those_of_plain_vectors_within_the_error_of_their_form() {
        let case = Case::new();
        let mut turned = case.keys.clone();
        case.rotations.rotate(&mut turned, DIM, 0);
        let mut transformed = case.values.clone();
        transformed.chunks_exact_mut(DIM).for_each(hadamard);
        let naive_scores: Vec<f64> = (0..ROWS * BLOCK)
            .map(|i| {
                let (query, key) = (&case.queries[i / BLOCK * DIM..][..DIM], &turned[i % BLOCK * DIM..][..DIM]);
                query.iter().zip(key).map(|(q, k)| f64::from(*q) * f64::from(*k)).sum()
            })
            .collect();
        let naive_out = |values: &[f32]| -> Vec<f64> {
            let sum = |i: usize| {
                let (row, c) = (i / DIM, i % DIM);
                (0..BLOCK)
                    .map(|t| f64::from(case.weights[row * BLOCK + t]) * f64::from(values[t * DIM + c]))
                    .sum::<f64>()
            };
            (0..ROWS * DIM).map(|i| f64::from(case.queries[i]) + sum(i)).collect()
        };
        let nmse = |found: &[f32], expected: &[f64]| {
            let error: f64 = found.iter().zip(expected).map(|(x, y)| (f64::from(*x) - y).powi(2)).sum();
            error / expected.iter().map(|y| y * y).sum::<f64>()
        };
        let errors = |block: Block<'_>, values: &[f32]| {
            let [scores, out] = case.products(Simd::get(), block, ROWS);
            [nmse(&scores, &naive_scores), nmse(&out, &naive_out(values))]
        };
        for (dtype, bound) in [(FloatDtype::F32, 1e-12), (FloatDtype::F16, 1e-6), (FloatDtype::Bf16, 1e-4)] {
            let head = case.floats(dtype);
            let found = errors(head.block(0).unwrap(), &case.values);
            assert!(found.iter().all(|error| *error < bound), "{dtype:?}: {found:?}");
        }
        // A bit less is four times the error, and noticed.
        for (bits, bound) in [(3, 4e-2), (4, 1e-2), (5, 3e-3), (6, 8e-4), (8, 1e-4)] {
            let head = case.coded(bits);
            let found = errors(head.block(0).unwrap(), &transformed);
            assert!(found.iter().all(|error| *error < bound), "{bits} bits: {found:?}");
            let fewer = case.coded(if bits == 8 { 5 } else { bits - 1 });
            let found = errors(fewer.block(0).unwrap(), &transformed);
            assert!(found.iter().any(|error| *error > 0.5 * bound), "fewer than {bits} bits: {found:?}");
            // Control: without its transform a value is another.
            assert!(errors(head.block(0).unwrap(), &case.values)[1] > 0.1);
        }
    }
}
