//! The codes of a block in bit planes.

use super::{
    BLOCK,
    trellis::{BYTES, Levels, TABLED, TABLES, classes},
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
        if bits == BYTES {
            return self.planes.extend(codes.as_chunks().0.iter().map(|eight| u64::from_le_bytes(*eight)));
        }
        for bit in 0..bits {
            let [low, high] = [0, 1].map(|half| u64::from(plane(&codes.as_chunks().0[half], bit)));
            self.planes.push(low | high << WORD);
        }
    }

    /// The levels of all channels, from −1 to 1: `[dim, BLOCK]`.
    #[inline(always)]
    pub(super) fn levels(&self, reader: impl Planes, out: &mut [f32]) {
        let mut planes = &self.planes[..];
        for (bits, out) in self.bits.iter().zip(out.as_chunks_mut::<BLOCK>().0) {
            let (own, rest) = planes.split_at(usize::from(*bits));
            planes = rest;
            if *bits == BYTES {
                let mut bytes = [0; BLOCK];
                bytes.as_chunks_mut().0.iter_mut().zip(own).for_each(|(to, eight)| *to = eight.to_le_bytes());
                out.iter_mut().zip(bytes).for_each(|(x, byte)| *x = Levels::new(BYTES).at(f32::from(byte)));
                continue;
            }
            for (half, out) in out.as_chunks_mut::<WORD>().0.iter_mut().enumerate() {
                let word = |plane: u64| (plane >> (32 * half)) as u32;
                let u = own[0];
                let classes = classes(u, u << 1, u << 2).map(word);
                read(reader, *bits, classes, own[1..].iter().map(|plane| word(*plane)), out);
            }
        }
    }

    /// Of each channel.
    pub(super) fn bits(&self) -> &[u8] {
        &self.bits
    }

    /// Those of one channel after those of another; of bytes, eight to a word.
    pub(super) fn planes(&self) -> &[u64] {
        &self.planes
    }

    /// Bytes in use: those of the codes, and where channels differ in it, their bits.
    pub(super) fn bytes(&self) -> usize {
        8 * self.planes.len() + if self.bits.contains(&BYTES) { 0 } else { self.bits.len() }
    }
}

#[cfg(test)]
impl ChannelCodes {
    /// Two channels of different bits.
    pub(super) fn unlike(&self) -> [usize; 2] {
        [0, self.bits.iter().position(|bits| *bits != self.bits[0]).expect("channels differ in their bits")]
    }

    /// Swaps the bits of two channels, not their planes.
    pub(super) fn swap(&mut self, one: usize, other: usize) {
        self.bits.swap(one, other);
    }
}

/// Codes of values: for each token and 32 channels, a word for each bit.
#[derive(Clone, Debug)]
pub(super) struct TokenCodes {
    bits: u8,
    /// `[words, BLOCK, bits]`; of bytes, four in a word.
    planes: Vec<u32>,
}

impl TokenCodes {
    pub(super) fn new(bits: u8) -> Self {
        Self { bits, planes: Vec::new() }
    }

    /// Appends the codes of 32 more channels.
    pub(super) fn push(&mut self, codes: &[[u8; WORD]; BLOCK]) {
        for codes in codes {
            if self.bits == BYTES {
                self.planes.extend(codes.as_chunks().0.iter().map(|four| u32::from_le_bytes(*four)));
            } else {
                self.planes.extend((0..self.bits).map(|bit| plane(codes, bit)));
            }
        }
    }

    /// The levels of the channels of word `word` of a token, from −1 to 1.
    #[inline(always)]
    pub(super) fn levels(&self, reader: impl Planes, token: usize, word: usize, out: &mut [f32; WORD]) {
        let bits = usize::from(self.bits);
        let planes = &self.planes[word * BLOCK * bits..][..BLOCK * bits];
        let own = &planes[token * bits..][..bits];
        if self.bits == BYTES {
            let mut bytes = [0; WORD];
            bytes.as_chunks_mut().0.iter_mut().zip(own).for_each(|(to, four)| *to = four.to_le_bytes());
            out.iter_mut().zip(bytes).for_each(|(x, byte)| *x = Levels::new(BYTES).at(f32::from(byte)));
            return;
        }
        let before = |tokens: usize| token.checked_sub(tokens).map_or(0, |token| planes[token * bits]);
        read(reader, self.bits, classes(own[0], before(1), before(2)), own[1..].iter().copied(), out);
    }

    /// `[words, BLOCK, bits]`; of bytes, four in a word.
    pub(super) fn planes(&self) -> &[u32] {
        &self.planes
    }

    pub(super) fn bytes(&self) -> usize {
        4 * self.planes.len()
    }
}

/// Bit `bit` of 32 codes.
fn plane(codes: &[u8; WORD], bit: u8) -> u32 {
    (0..WORD).map(|i| u32::from(codes[i] >> bit & 1) << i).sum()
}

/// The levels of 32 codes, from what their lowest bits mean in the trellis, and their other bits.
#[inline(always)]
fn read<P: Planes>(reader: P, bits: u8, classes: [u32; 2], others: impl Iterator<Item = u32>, out: &mut [f32; WORD]) {
    let mut planes = [0; 8];
    planes[..2].copy_from_slice(&classes);
    planes[2..].iter_mut().zip(others).for_each(|(plane, other)| *plane = other);
    let planes = &planes[..usize::from(bits) + 1];
    if P::LOOKS_UP && bits <= TABLED {
        *out = reader.look_up(planes, &TABLES[usize::from(bits)]);
        return;
    }
    let (codes, levels) = (reader.codes(planes), Levels::new(bits));
    out.iter_mut().zip(codes).for_each(|(x, code)| *x = levels.at(f32::from(code)));
}
