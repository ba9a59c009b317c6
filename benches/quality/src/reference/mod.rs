//! The formats anybody would use instead, each with the search its reference quantiser makes.
//!
//! They are for comparison in this benchmark, and not part of the library. A block is encoded to its stored bytes
//! and decoded from them, so that every bit is counted. The GGUF formats have GGUF's layout.

mod fp8;
mod int8;
mod iq4_nl;
mod k_affine;
mod mxfp4;
mod nf4;
mod q4_k;
mod q5_k;
mod q6_k;
mod q8_0;
mod search;
#[cfg(test)]
mod tests;

use half::f16;

/// A storage format: how a block of weights becomes bytes and weights again.
pub(crate) struct Format {
    pub(crate) name: &'static str,
    /// How many weights share parameters, counted along the flat row-major matrix; `None` for each row's.
    ///
    /// GGUF itself asks that blocks divide rows, and stores other matrices in another format. Here blocks of 256 may
    /// straddle rows of 192, so that every format is measured on every matrix.
    block: Option<usize>,
    /// Appends one block's bytes, as many for each block.
    encode: fn(&[f32], &mut Vec<u8>),
    decode: fn(&[u8], &mut [f32]),
}

/// Every reference.
pub(crate) const ALL: [Format; 9] =
    [mxfp4::MXFP4, nf4::NF4, iq4_nl::IQ4_NL, q4_k::Q4_K, q5_k::Q5_K, q6_k::Q6_K, fp8::FP8, int8::INT8, q8_0::Q8_0];

impl Format {
    /// The bytes of a matrix of `cols` columns.
    ///
    /// # Panics
    /// When the matrix is no whole number of blocks.
    pub(crate) fn encode(&self, weights: &[f32], cols: usize) -> Vec<u8> {
        let block = self.block.unwrap_or(cols);
        assert_eq!(weights.len() % block, 0, "{}: {} weights are no whole number of blocks", self.name, weights.len());
        let mut bytes = Vec::new();
        weights.chunks_exact(block).for_each(|x| (self.encode)(x, &mut bytes));
        bytes
    }

    /// The weights of a matrix of `cols` columns.
    pub(crate) fn decode(&self, bytes: &[u8], cols: usize, weights: &mut [f32]) {
        let block = self.block.unwrap_or(cols);
        let size = bytes.len() / (weights.len() / block);
        bytes.chunks_exact(size).zip(weights.chunks_exact_mut(block)).for_each(|(b, x)| (self.decode)(b, x));
    }
}

/// Appends `x` as an `f16`; gives what was stored.
fn push_f16(bytes: &mut Vec<u8>, x: f32) -> f32 {
    let x = f16::from_f32(x);
    bytes.extend(x.to_le_bytes());
    x.to_f32()
}

fn read_f16(bytes: &[u8]) -> f32 {
    f16::from_le_bytes([bytes[0], bytes[1]]).to_f32()
}

fn largest(x: &[f32]) -> f32 {
    x.iter().fold(0.0, |max, x| max.max(x.abs()))
}

/// `1/x`, and 0 for the scale of a block of zeros.
fn inverse(x: f32) -> f32 {
    if x == 0.0 { 0.0 } else { 1.0 / x }
}
