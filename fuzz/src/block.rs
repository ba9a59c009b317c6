//! Bytes as an entropy-coded part: the element type, the shape, the lengths of the blocks, and the blocks.

use peak_alloc::PeakAlloc;
use qins_quant::{
    Element,
    fuzzing::{MOST_EXPANSION, code, decode},
};

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// Memory of a block's decoder: its tables, and a batch of numbers.
const WORKSPACE: usize = 1 << 20;

/// The last also stands where the corpus has `u32`, which is coded alike.
const ELEMENTS: [Element; 7] =
    [Element::U8, Element::I8, Element::F16, Element::U16, Element::F32, Element::I32, Element::F32];

/// Decodes them.
///
/// # Panics
/// When more is allocated than 1024 times the stream and the decoder's own memory.
pub fn run(bytes: &[u8]) -> bool {
    let Some((&[element, blocks], rest)) = bytes.split_first_chunk() else { return false };
    let Some((shape, rest)) = rest.split_first_chunk::<16>() else { return false };
    let Some((lengths, stream)) = rest.split_at_checked(4 * usize::from(blocks)) else { return false };
    let element = ELEMENTS[usize::from(element) % ELEMENTS.len()];
    let [rows, width] = [&shape[..8], &shape[8..]].map(|n| u64::from_le_bytes(n.try_into().expect("8 bytes")) as usize);
    let blocks: Vec<u32> = match blocks {
        // Block lengths that match the stream, so that edits of the stream do not break them.
        0 => vec![stream.len() as u32],
        _ => lengths.as_chunks().0.iter().map(|n| u32::from_le_bytes(*n)).collect(),
    };
    MEMORY.reset_peak_usage();
    let before = MEMORY.current_usage();
    let decoded = decode(stream, &blocks, element, [rows, width]);
    let taken = MEMORY.peak_usage() - before;
    let most = stream.len() * MOST_EXPANSION + WORKSPACE;
    assert!(taken <= most, "{taken} bytes taken, expected {most} at most, for a stream of {}", stream.len());
    decoded.is_ok_and(|bytes| bytes.len() == rows * width * element.size())
}

/// Rows of each type, and of two blocks.
pub fn seeds() -> Vec<(String, Vec<u8>)> {
    let one = |bytes: &[u8], element: usize, width: usize, name: &str| {
        let (stream, blocks) = code(bytes, ELEMENTS[element], width).expect("small blocks");
        let rows = bytes.len() / ELEMENTS[element].size() / width;
        let listed = if blocks.len() > 1 { blocks.as_slice() } else { &[] };
        let mut seed = vec![element as u8, listed.len() as u8];
        seed.extend([rows, width].iter().flat_map(|n| (*n as u64).to_le_bytes()));
        seed.extend(listed.iter().flat_map(|n| n.to_le_bytes()));
        (format!("{:?}.{name}", ELEMENTS[element]).to_lowercase(), [seed, stream].concat())
    };
    let mut seeds = Vec::new();
    for (element, size) in ELEMENTS.iter().map(|element| element.size()).enumerate().filter(|(i, _)| *i != 4) {
        // One value, few values, and all distinct, over more than one batch of the decoder.
        let of = |number: &dyn Fn(u32) -> u32| {
            (0..600).flat_map(|i| number(i).to_le_bytes()[..size].to_vec()).collect::<Vec<u8>>()
        };
        seeds.push(one(&of(&|_| 7), element, 20, "one"));
        seeds.push(one(&of(&|i| i * i % 5), element, 20, "few"));
        seeds.push(one(&of(&|i| i.wrapping_mul(0x9e37_79b9)), element, 20, "many"));
    }
    seeds.push(one(&[0; (1 << 18) + 2], 0, 2, "blocks"));
    seeds
}
