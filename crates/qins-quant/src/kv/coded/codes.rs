//! The codes of a block in bit planes.

use super::{
    BLOCK,
    trellis::{BYTES, Levels, classes},
};
use crate::kernel::Planes;

/// Codes of a plane's word.
pub(super) const WORD: usize = 32;

/// Codes of keys: for each channel, a plane of 64 bits for each bit of its codes, one bit for each token.
#[derive(Clone, Debug, Default)]
pub(super) struct ChannelCodes {
    /// Of each channel.
    bits: Vec<u8>,
    planes: Vec<u64>,
}

impl ChannelCodes {
    pub(super) fn push(&mut self, bits: u8, codes: &[u8; BLOCK]) {
        self.bits.push(bits);
        for bit in 0..bits {
            let plane = codes.iter().rev().fold(0, |plane, code| plane << 1 | u64::from(code >> bit & 1));
            self.planes.push(plane);
        }
    }

    /// The levels of all channels, from −1 to 1: `[dim, BLOCK]`.
    #[inline(always)]
    pub(super) fn levels(&self, reader: impl Planes, out: &mut [f32]) {
        let mut planes = &self.planes[..];
        for (bits, out) in self.bits.iter().zip(out.as_chunks_mut::<BLOCK>().0) {
            let (own, rest) = planes.split_at(usize::from(*bits));
            planes = rest;
            for (half, out) in out.as_chunks_mut::<WORD>().0.iter_mut().enumerate() {
                let word = |plane: u64| (plane >> (32 * half)) as u32;
                let u = own[0];
                let classes = classes(u, u << 1, u << 2).map(word);
                read(reader, *bits, word(u), classes, own[1..].iter().map(|plane| word(*plane)), out);
            }
        }
    }

    /// Bytes in use: a byte for the width of each channel is counted if they differ.
    pub(super) fn bytes(&self) -> usize {
        let alike = self.bits.iter().all(|bits| *bits == self.bits[0]);
        8 * self.planes.len() + if alike { 0 } else { self.bits.len() }
    }
}

/// Codes of values: for each token, a plane for each bit of its codes, of as many words as its channels need.
#[derive(Clone, Debug)]
pub(super) struct TokenCodes {
    bits: u8,
    words: usize,
    /// `[BLOCK, bits, words]`.
    planes: Vec<u32>,
}

impl TokenCodes {
    pub(super) fn new(bits: u8, dim: usize) -> Self {
        let words = dim.div_ceil(WORD);
        Self { bits, words, planes: vec![0; BLOCK * usize::from(bits) * words] }
    }

    /// Sets the codes of a channel.
    pub(super) fn set(&mut self, channel: usize, codes: &[u8; BLOCK]) {
        let bits = usize::from(self.bits);
        for (token, code) in codes.iter().enumerate() {
            for bit in 0..bits {
                let at = (token * bits + bit) * self.words + channel / WORD;
                self.planes[at] |= u32::from(code >> bit & 1) << (channel % WORD);
            }
        }
    }

    /// The levels of the channels of word `word` of a token, from −1 to 1.
    #[inline(always)]
    pub(super) fn levels(&self, reader: impl Planes, token: usize, word: usize, out: &mut [f32; WORD]) {
        let bits = usize::from(self.bits);
        let plane = |token: usize, bit: usize| self.planes[(token * bits + bit) * self.words + word];
        let u = plane(token, 0);
        let before = |tokens: usize| token.checked_sub(tokens).map_or(0, |token| plane(token, 0));
        read(reader, self.bits, u, classes(u, before(1), before(2)), (1..bits).map(|bit| plane(token, bit)), out);
    }

    pub(super) fn bytes(&self) -> usize {
        4 * self.planes.len()
    }
}

/// The levels of 32 codes, from their lowest bits, what those mean in the trellis, and their other bits.
#[inline(always)]
fn read(
    reader: impl Planes,
    bits: u8,
    lowest: u32,
    classes: [u32; 2],
    others: impl Iterator<Item = u32>,
    out: &mut [f32; WORD],
) {
    let mut planes = [0; 8];
    let first = if bits == BYTES { &[lowest][..] } else { &classes };
    planes[..first.len()].copy_from_slice(first);
    planes[first.len()..].iter_mut().zip(others).for_each(|(plane, other)| *plane = other);
    let n = first.len() + usize::from(bits) - 1;
    let (codes, levels) = (reader.codes(&planes[..n]), Levels::new(bits));
    out.iter_mut().zip(codes).for_each(|(x, code)| *x = levels.at(f32::from(code)));
}
