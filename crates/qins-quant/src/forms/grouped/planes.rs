//! Packing of 32 codes of b bits into 4·b bytes.
//!
//! The bits of a code are split into fields of 8, 4, 2 or 1 bits, following b as a sum of powers of two: 6 = 4 + 2, lowest bits
//! first. The fields of one width w, one from each code, fill a plane of 4·w bytes: field i is in byte i mod 4w, i div 4w
//! fields above the lowest bit. So a plane is unpacked with one shift and one mask for each of its 8/w stripes, at full
//! vector width.

use super::Layout;

const CODES: usize = Layout::GROUP;

/// The widths of fields, in the order of the planes.
const WIDTHS: [usize; 4] = [8, 4, 2, 1];

/// Packs 32 codes of `bits` bits into `4·bits` bytes.
pub(super) fn pack(codes: &[u8; CODES], bits: usize, out: &mut [u8]) {
    out.fill(0);
    let (mut rest, mut low) = (out, 0);
    for width in WIDTHS.into_iter().filter(|width| bits & width != 0) {
        let (plane, after) = rest.split_at_mut(4 * width);
        for (stripe, codes) in codes.chunks_exact(plane.len()).enumerate() {
            for (byte, code) in plane.iter_mut().zip(codes) {
                *byte |= (code >> low & mask(width)) << (stripe * width);
            }
        }
        (rest, low) = (after, low + width);
    }
}

/// Unpacks `4·bits` bytes into 32 codes of `bits` bits.
#[inline(always)]
pub(crate) fn unpack(packed: &[u8], bits: usize) -> [u8; CODES] {
    let mut codes = [0; CODES];
    let (mut rest, mut low) = (packed, 0);
    for width in WIDTHS.into_iter().filter(|width| bits & width != 0) {
        let (plane, after) = rest.split_at(4 * width);
        for (stripe, codes) in codes.chunks_exact_mut(plane.len()).enumerate() {
            for (code, byte) in codes.iter_mut().zip(plane) {
                *code |= (byte >> (stripe * width) & mask(width)) << low;
            }
        }
        (rest, low) = (after, low + width);
    }
    codes
}

const fn mask(width: usize) -> u8 {
    u8::MAX >> (8 - width)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unpacked_codes_equal_packed_codes_and_every_bit_is_used() {
        for bits in 1..=8 {
            let codes: [u8; CODES] = std::array::from_fn(|i| (i * 0x9d + 0x35) as u8 & mask(bits));
            let mut packed = vec![0xff; 4 * bits];
            pack(&codes, bits, &mut packed);
            assert_eq!(unpack(&packed, bits), codes, "{bits} bits");
            // Each bit of the packed bytes is a bit of one code.
            for bit in 0..8 * packed.len() {
                let mut flipped = packed.clone();
                flipped[bit / 8] ^= 1 << (bit % 8);
                let changed = unpack(&flipped, bits).iter().zip(codes).map(|(a, b)| (a ^ b).count_ones()).sum::<u32>();
                assert_eq!(changed, 1, "{bits} bits, bit {bit}");
            }
        }
    }
}
