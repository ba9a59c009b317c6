//! The codes of a block: for each channel, a plane of 64 bits for each bit of its codes, one bit for each token.

use super::{
    BLOCK,
    trellis::{BYTES, Levels, classes},
};

/// The codes of the channels of a block.
#[derive(Clone, Debug, Default)]
pub(super) struct Codes {
    /// Of each channel.
    bits: Vec<u8>,
    planes: Vec<u64>,
}

/// The codes of a channel.
#[derive(Clone, Copy, Debug)]
pub(super) struct Channel<'a> {
    bits: u8,
    planes: &'a [u64],
}

impl Codes {
    pub(super) fn push(&mut self, bits: u8, codes: &[u8; BLOCK]) {
        self.bits.push(bits);
        if bits == BYTES {
            self.planes.extend(codes.as_chunks().0.iter().map(|eight| u64::from_le_bytes(*eight)));
            return;
        }
        for bit in 0..bits {
            let plane = codes.iter().rev().fold(0, |plane, code| plane << 1 | u64::from(code >> bit & 1));
            self.planes.push(plane);
        }
    }

    /// Of every channel, in order.
    pub(super) fn channels(&self) -> impl Iterator<Item = Channel<'_>> {
        let mut planes = &self.planes[..];
        self.bits.iter().map(move |bits| {
            let (own, rest) = planes.split_at(usize::from(*bits));
            planes = rest;
            Channel { bits: *bits, planes: own }
        })
    }

    /// Bytes in use: and a byte for the width of each channel, if they differ.
    pub(super) fn bytes(&self) -> usize {
        let alike = self.bits.iter().all(|bits| *bits == self.bits[0]);
        8 * self.planes.len() + if alike { 0 } else { self.bits.len() }
    }
}

impl Channel<'_> {
    /// The levels of its codes, from −1 to 1.
    #[inline(always)]
    pub(super) fn levels(self, out: &mut [f32; BLOCK]) {
        let levels = Levels::new(self.bits);
        let mut indices = [0_u8; BLOCK];
        if self.bits == BYTES {
            let bytes = indices.as_chunks_mut().0.iter_mut();
            bytes.zip(self.planes).for_each(|(bytes, plane)| *bytes = plane.to_le_bytes());
        } else {
            let [low, high] = classes(self.planes[0]);
            add(low, 0, &mut indices);
            add(high, 1, &mut indices);
            (2..).zip(&self.planes[1..]).for_each(|(bit, plane)| add(*plane, bit, &mut indices));
        }
        out.iter_mut().zip(indices).for_each(|(x, index)| *x = levels.at(f32::from(index)));
    }
}

/// Adds a plane as bit `bit` of 64 bytes.
#[inline(always)]
fn add(plane: u64, bit: u32, indices: &mut [u8; BLOCK]) {
    for (eight, byte) in indices.as_chunks_mut::<8>().0.iter_mut().zip(plane.to_le_bytes()) {
        // Bit i of the byte in byte i, then in the lowest bit of it.
        let spread = (u64::from(byte) * 0x0101_0101_0101_0101) & 0x8040_2010_0804_0201;
        let ones = (spread + 0x7f7f_7f7f_7f7f_7f7f) >> 7 & 0x0101_0101_0101_0101;
        *eight = (u64::from_le_bytes(*eight) | ones << bit).to_le_bytes();
    }
}
