//! Rows of numbers, entropy-coded in independent blocks, on all cores.
//!
//! A block is a whole number of rows, 2¹⁸ to 2¹⁹ numbers, as one file of the Pcodec format: integers of the part's type
//! (floats by their bits, as unsigned integers), in classic mode without delta encoding, so that only the frequencies
//! of values matter. A block takes at least 1/1024 of the bytes it decodes to, padded with zeros if necessary, which
//! bounds what a file can make its reader allocate.

use crate::{EncodeError, forms::Element};
use pco::{
    ChunkConfig, DeltaSpec, ModeSpec, PagingSpec,
    data_types::Number,
    errors::PcoError,
    standalone::{ChunkDecompressor, DecompressorItem, FileDecompressor, simple_compress},
};
use rayon::prelude::*;

/// The minimum of numbers in a block, unless a part has fewer. Parts are split evenly, since a small last block would
/// spend much on its tables.
const BLOCK: usize = 1 << 18;

/// The maximum ratio of decoded bytes to coded bytes.
pub(crate) const MOST_EXPANSION: usize = 1024;

/// Numbers decoded at a time: a whole number of the decoder's batches.
const PIECE: usize = 4 * pco::FULL_BATCH_N;

/// One above Pcodec's default: for 3 % of the speed it saves 0.01 of 8 bits per weight of `rate`, and 0.02 of 10.5 of
/// `lossless`. The next level saves about as much again for another tenth of the speed, but makes short parts larger.
const LEVEL: usize = 9;

/// A coded part: its blocks one after another, and the bytes of each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Coded {
    pub(crate) stream: Vec<u8>,
    pub(crate) blocks: Vec<u32>,
}

impl Coded {
    /// Bytes of the blocks and of the list of their lengths.
    pub(crate) fn bytes(&self) -> usize {
        self.stream.len() + size_of_val(&*self.blocks)
    }
}

/// Codes a part whose rows arrive in batches.
#[derive(Debug)]
pub(crate) struct Coder {
    element: Element,
    /// Uncoded bytes of a block.
    block: usize,
    coded: Coded,
    /// Rows of an incomplete block.
    waiting: Vec<u8>,
}

impl Coder {
    /// For a part of `rows` rows of `width` numbers.
    pub(crate) fn new(element: Element, [rows, width]: [usize; 2]) -> Self {
        let block = (block_rows([rows, width]) * width * element.size()).max(1);
        Self { element, block, coded: Coded::default(), waiting: Vec::new() }
    }

    /// Appends the bytes of more rows.
    pub(crate) fn push(&mut self, rows: &[u8]) -> Result<(), EncodeError> {
        self.waiting.extend_from_slice(rows);
        let whole = self.waiting.len() / self.block * self.block;
        self.code(whole)
    }

    /// Codes the remaining rows.
    pub(crate) fn finish(mut self) -> Result<Coded, EncodeError> {
        self.code(self.waiting.len())?;
        Ok(self.coded)
    }

    fn code(&mut self, bytes: usize) -> Result<(), EncodeError> {
        let blocks: Option<Vec<Vec<u8>>> = self.waiting[..bytes]
            .par_chunks(self.block)
            .map(|block| match self.element {
                Element::I8 => encode(block, i8::from_le_bytes),
                Element::I32 => encode(block, i32::from_le_bytes),
                Element::U8 => encode(block, u8::from_le_bytes),
                Element::U16 | Element::F16 => encode(block, u16::from_le_bytes),
                Element::F32 => encode(block, u32::from_le_bytes),
            })
            .collect();
        for block in blocks.ok_or(EncodeError::Coder)? {
            self.coded.blocks.push(u32::try_from(block.len()).map_err(|_| EncodeError::Coder)?);
            self.coded.stream.extend(block);
        }
        self.waiting.drain(..bytes);
        Ok(())
    }
}

/// Codes all rows of a part.
pub(crate) fn code(bytes: &[u8], element: Element, width: usize) -> Result<Coded, EncodeError> {
    let rows = bytes.len().checked_div(width * element.size()).unwrap_or(0);
    let mut coder = Coder::new(element, [rows, width]);
    coder.push(bytes)?;
    coder.finish()
}

/// The number of blocks for `rows` rows of `width` numbers.
pub(crate) fn block_count([rows, width]: [usize; 2]) -> usize {
    if width == 0 { 0 } else { rows.div_ceil(block_rows([rows, width])) }
}

/// The rows of one block, for `rows` rows of `width` numbers.
fn block_rows([rows, width]: [usize; 2]) -> usize {
    rows.div_ceil((rows.saturating_mul(width) / BLOCK).max(1)).max(1)
}

fn encode<T: Number, const N: usize>(bytes: &[u8], number: impl Fn([u8; N]) -> T) -> Option<Vec<u8>> {
    let numbers: Vec<T> = crate::dtype::chunks(bytes).map(number).collect();
    let config = ChunkConfig::default()
        .with_compression_level(LEVEL)
        .with_mode_spec(ModeSpec::Classic)
        .with_delta_spec(DeltaSpec::NoOp)
        .with_paging_spec(PagingSpec::EqualPagesUpTo(2 * BLOCK))
        .with_enable_8_bit(true);
    let mut block = simple_compress(&numbers, &config).ok()?;
    block.resize(block.len().max(bytes.len().div_ceil(MOST_EXPANSION)), 0);
    Some(block)
}

/// Decodes `rows` rows of `width` numbers.
///
/// # Errors
/// When the blocks are not those of such rows; in one sentence. At most 1024 times the stream is allocated, and per
/// thread less than a MiB of tables.
pub(crate) fn decode(
    stream: &[u8],
    blocks: &[u32],
    element: Element,
    [rows, width]: [usize; 2],
) -> Result<Vec<u8>, String> {
    let row = width.saturating_mul(element.size());
    let total = rows.saturating_mul(row);
    if total.div_ceil(MOST_EXPANSION) > stream.len() {
        return Err(format!("expected at least 1/{MOST_EXPANSION} of {total} bytes, found {}", stream.len()));
    }
    let expected = block_count([rows, width]);
    let length = blocks.iter().fold(0_usize, |sum, n| sum.saturating_add(*n as usize));
    if (blocks.len(), length) != (expected, stream.len()) {
        let found = blocks.len();
        return Err(format!("expected {expected} blocks of {} bytes, found {found} of {length}", stream.len()));
    }
    let mut bytes = vec![0; total];
    let mut rest = stream;
    let coded: Vec<&[u8]> = blocks.iter().map(|n| rest.split_off(..*n as usize).unwrap_or_default()).collect();
    bytes.par_chunks_mut((block_rows([rows, width]) * row).max(1)).zip(coded).enumerate().try_for_each(
        |(i, (out, coded))| {
            let block = |message| format!("block {i}: {message}");
            match element {
                Element::I8 => decode_block(coded, out, i8::to_le_bytes),
                Element::I32 => decode_block(coded, out, i32::to_le_bytes),
                Element::U8 => decode_block(coded, out, u8::to_le_bytes),
                Element::U16 | Element::F16 => decode_block(coded, out, u16::to_le_bytes),
                Element::F32 => decode_block(coded, out, u32::to_le_bytes),
            }
            .map_err(block)
        },
    )?;
    Ok(bytes)
}

fn decode_block<T: Number, const N: usize>(
    coded: &[u8],
    out: &mut [u8],
    bytes: impl Fn(T) -> [u8; N],
) -> Result<(), String> {
    let mut out = out.as_chunks_mut::<N>().0;
    let expected = out.len();
    let mut numbers = [T::default(); PIECE];
    let (file, mut rest) = FileDecompressor::new(coded).map_err(message)?;
    while let Some(mut chunk) = next_chunk::<T>(&file, rest)? {
        let Some((these, after)) = out.split_at_mut_checked(chunk.n()) else {
            return Err(format!("expected {expected} numbers, found more"));
        };
        for out in these.chunks_mut(PIECE) {
            chunk.read(&mut numbers).map_err(message)?;
            out.iter_mut().zip(&numbers).for_each(|(out, number)| *out = bytes(*number));
        }
        (out, rest) = (after, chunk.into_src());
    }
    match expected - out.len() {
        found if found < expected => Err(format!("expected {expected} numbers, found {found}")),
        _ => Ok(()),
    }
}

/// The next chunk of a file, or `None` at its end.
fn next_chunk<'a, T: Number>(
    file: &FileDecompressor,
    rest: &'a [u8],
) -> Result<Option<ChunkDecompressor<T, &'a [u8]>>, String> {
    // A chunk begins with its type, 24 bits of its length, and 4 bits each of its mode and delta encoding. Only those that
    // the encoder writes are accepted: a few bits in others can request a dictionary or window of up to 128 MiB.
    if let [1..=255, _, _, _, 1..=255, ..] = rest {
        return Err("expected classic mode without delta encoding, found another".to_owned());
    }
    match file.chunk_decompressor(rest).map_err(message)? {
        DecompressorItem::Chunk(chunk) => Ok(Some(chunk)),
        DecompressorItem::EndOfData(_) => Ok(None),
    }
}

fn message(error: PcoError) -> String {
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn coded(bytes: &[u8], element: Element, width: usize) -> Coded {
        code(bytes, element, width).unwrap()
    }

    #[test]
    fn rows_of_any_width_round_trip() {
        for element in [Element::U8, Element::I8, Element::F16, Element::U16, Element::I32, Element::F32] {
            for [rows, width] in [[0, 7], [7, 0], [1, 1], [3, 100_003], [1, BLOCK + 1], [70_000, 13]] {
                let bytes: Vec<u8> = (0..rows * width * element.size()).map(|i| ((i * i) >> 7) as u8).collect();
                let coded = coded(&bytes, element, width);
                assert_eq!(decode(&coded.stream, &coded.blocks, element, [rows, width]), Ok(bytes));
            }
        }
    }

    #[test]
    fn streamed_rows_give_the_same_bytes() {
        let width = 1000;
        let bytes: Vec<u8> = (0..600 * width).map(|i| (i % 251) as u8 ^ (i / 999) as u8).collect();
        let whole = coded(&bytes, Element::U8, width);
        assert!(whole.blocks.len() > 1);
        for rows in [1, 7, 262, 263, 599] {
            let mut coder = Coder::new(Element::U8, [600, width]);
            bytes.chunks(rows * width).for_each(|rows| coder.push(rows).unwrap());
            assert_eq!(coder.finish().unwrap(), whole, "{rows}");
        }
    }

    #[test]
    fn block_expansion_is_bounded() {
        let bits: Vec<u8> = (0..BLOCK).map(|i| (i.wrapping_mul(0x9e37_79b9) >> 20 & 1) as u8).collect();
        let entropy = coded(&bits, Element::U8, 512).stream.len();
        assert!((BLOCK / 8..BLOCK / 8 + 200).contains(&entropy), "{entropy}");
        let zeros = coded(&vec![0; 3 * BLOCK], Element::U8, 512);
        assert_eq!(zeros.stream.len(), 3 * BLOCK / MOST_EXPANSION);
        assert_eq!(decode(&zeros.stream, &zeros.blocks, Element::U8, [3 * BLOCK / 512, 512]), Ok(vec![0; 3 * BLOCK]));
    }

    #[test]
    fn invalid_stream_is_rejected() {
        let bytes: Vec<u8> = (0..2 * BLOCK + 5).map(|i| (i % 7) as u8).collect();
        let Coded { stream, blocks } = coded(&bytes, Element::U8, 1);
        let shape = [bytes.len(), 1];
        assert_eq!(decode(&stream, &blocks, Element::U8, shape), Ok(bytes));
        let rejected = |stream: &[u8], blocks: &[u32], shape, part: &str| {
            let error = decode(stream, blocks, Element::U8, shape).unwrap_err();
            assert!(error.contains(part), "{error}");
        };
        rejected(&stream[1..], &blocks, shape, "blocks");
        rejected(&stream, &blocks[..1], shape, "blocks");
        rejected(&stream, &[blocks[0] + 1, blocks[1] - 1], shape, "block 1");
        rejected(&stream, &[u32::MAX; 2], shape, "blocks");
        rejected(&stream, &blocks, [shape[0] + 1, 1], "block 1: expected 262147 numbers, found 262146");
        rejected(&stream, &blocks, [usize::MAX, usize::MAX], "1/1024");
        rejected(&stream, &blocks, [1 << 40, 1], "1/1024");
        // A stream with more numbers than expected.
        rejected(&stream, &blocks, [shape[0] - 1, 1], "block 0: expected 262146 numbers, found more");
        let mut other = stream.clone();
        other[0] ^= 1;
        rejected(&other, &blocks, shape, "block 0");
    }
}
