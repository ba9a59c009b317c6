//! Rows of 32-bit words, the layout of all parts in memory.

use half::f16;

use super::{Element, MatrixFormat, PartSpec};

impl PartSpec {
    /// Converts the bytes of a file, whose length is not checked, to the layout in memory. Integers are packed, the last word
    /// of a row is padded with zeros, and `f16` becomes `f32`.
    pub fn words(&self, bytes: &[u8]) -> Vec<u32> {
        match self.element {
            Element::F16 => halves(bytes).map(|half| f16::from_bits(half).to_f32().to_bits()).collect(),
            Element::U8 | Element::I8 | Element::U16 | Element::I32 | Element::F32 => {
                filled_up(bytes, self.row_bytes())
            }
        }
    }

    /// Converts the layout in memory back to the bytes of a file.
    pub fn bytes_of(&self, words: &[u32]) -> Vec<u8> {
        match self.element {
            Element::F16 => words.iter().flat_map(|w| f16::from_f32(f32::from_bits(*w)).to_le_bytes()).collect(),
            Element::U8 | Element::I8 | Element::U16 | Element::I32 | Element::F32 => {
                let (bytes, row) = (bytemuck::cast_slice(words), self.row_bytes());
                if row == stride(row) {
                    return bytes.to_vec();
                }
                bytes.chunks(stride(row)).flat_map(|bytes| &bytes[..row]).copied().collect()
            }
        }
    }
}

impl MatrixFormat {
    /// Converts the bytes of parts in a file, in the order of [`parts`](Self::parts), to their layout in memory.
    pub fn read(&self, bytes: impl IntoIterator<Item = impl AsRef<[u8]>>) -> Vec<Vec<u32>> {
        self.parts().iter().zip(bytes).map(|(part, bytes)| part.words(bytes.as_ref())).collect()
    }
}

fn halves(bytes: &[u8]) -> impl Iterator<Item = u16> {
    crate::dtype::chunks(bytes).map(u16::from_le_bytes)
}

/// Converts rows of this many bytes to rows of words; a truncated last row too.
fn filled_up(bytes: &[u8], row: usize) -> Vec<u32> {
    let row = row.max(1);
    if row == stride(row) {
        let mut words = vec![0; bytes.len().div_ceil(size_of::<u32>())];
        bytemuck::cast_slice_mut::<u32, u8>(&mut words)[..bytes.len()].copy_from_slice(bytes);
        return words;
    }
    let mut words = vec![0; bytes.len().div_ceil(row) * (stride(row) / size_of::<u32>())];
    let rows = bytemuck::cast_slice_mut::<u32, u8>(&mut words).chunks_mut(stride(row));
    rows.zip(bytes.chunks(row)).for_each(|(out, row)| out[..row.len()].copy_from_slice(row));
    words
}

/// Words as the floats they hold.
pub(crate) fn floats(words: &[u32]) -> &[f32] {
    bytemuck::cast_slice(words)
}

/// Floats as words.
pub(super) fn words_of(floats: Vec<f32>) -> Vec<u32> {
    floats.into_iter().map(f32::to_bits).collect()
}

/// Bytes from one row to the next, for rows of this many bytes in words. Without the division of `next_multiple_of`,
/// since kernels call it for every row.
#[inline]
pub(crate) const fn stride(bytes: usize) -> usize {
    bytes.saturating_add(size_of::<u32>() - 1) & !(size_of::<u32>() - 1)
}

/// The same for rows of 16-bit numbers, counted in such numbers.
pub(crate) const fn stride_of_halves(cols: usize) -> usize {
    cols.saturating_add(1) & !1
}
