//! The codes of a block in bit planes.

use super::{
    BLOCK,
    trellis::{BYTE_LEVELS, BYTES, Levels, TABLES},
};
use crate::kernel::{Affine, CodeLevels, Planes};

/// Codes of a plane's word.
pub(super) const WORD: usize = 32;

/// Evaluates an expression with the bits of a code as the constant `$n`, so that its loops over them are unrolled.
macro_rules! with_bits {
    ($bits:expr, $n:ident => $body:expr) => {
        with_bits!(@ $bits, $n => $body; 2 3 4 5 6 7)
    };
    (@ $bits:expr, $n:ident => $body:expr; $($each:literal)*) => {
        match $bits {
            $($each => {
                const $n: usize = $each;
                $body
            })*
            _ => {}
        }
    };
}

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

    /// The codes of the channels from `first` on.
    #[inline(always)]
    pub(super) fn from(&self, first: usize) -> Channels<'_> {
        let before: usize = self.bits[..first].iter().map(|bits| usize::from(*bits)).sum();
        Channels { bits: &self.bits[first..], planes: &self.planes[before..] }
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

/// The codes of channels that are still to be read.
#[derive(Clone, Copy)]
pub(super) struct Channels<'a> {
    bits: &'a [u8],
    planes: &'a [u64],
}

impl Channels<'_> {
    /// The numbers of the next channel.
    #[inline(always)]
    pub(super) fn read(&mut self, reader: impl Planes, affine: Affine, out: &mut [f32; BLOCK]) {
        let Some((bits, rest)) = self.bits.split_first() else { return };
        let (own, planes) = self.planes.split_at(usize::from(*bits));
        (self.bits, self.planes) = (rest, planes);
        if *bits == BYTES {
            for (out, own) in out.as_chunks_mut::<WORD>().0.iter_mut().zip(own.as_chunks::<4>().0) {
                reader.bytes(bytemuck::cast_ref(own), BYTE_LEVELS, affine, out);
            }
            return;
        }
        with_bits!(*bits, N => if let Some(own) = own.first_chunk::<N>() {
            reader.channel(own, &levels::<N>(), affine, out);
        });
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

    /// The numbers of the channels of word `word`, of the first `out.len()` tokens, each with a scale.
    #[inline(always)]
    pub(super) fn read(
        &self,
        reader: impl Planes,
        word: usize,
        scales: impl Iterator<Item = f32>,
        out: &mut [[f32; WORD]],
    ) {
        if self.bits == BYTES {
            let own = &self.planes.as_chunks::<8>().0[word * BLOCK..];
            for ((out, scale), own) in out.iter_mut().zip(scales).zip(own) {
                reader.bytes(bytemuck::cast_ref(own), BYTE_LEVELS, Affine { scale, offset: 0.0 }, out);
            }
            return;
        }
        with_bits!(self.bits, N => if let Some(own) = self.planes.as_chunks::<N>().0.as_chunks().0.get(word) {
            reader.tokens(own, &levels::<N>(), scales, out);
        });
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

/// The levels of codes of `N` bits.
#[inline(always)]
fn levels<const N: usize>() -> CodeLevels<'static, impl Fn(f32) -> f32> {
    let levels = const { Levels::new(N as u8) };
    CodeLevels { table: &TABLES[N], at: move |index| levels.at(index) }
}
