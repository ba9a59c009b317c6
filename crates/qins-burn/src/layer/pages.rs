//! Weights in memory pages of their own.

use burn::tensor::{AllocationProperty, Bytes};
use bytemuck::cast_slice;
use rayon::prelude::*;

/// Bytes from which numbers are moved: many more than are lost at the end of a page.
const LEAST: usize = 64 << 10;

/// Bytes that a thread copies at a time. The system clears each page when it is first written, which takes as long as the copy.
const COPIED: usize = 4 << 20;

/// The words in an anonymous map, in huge pages where the system has them. An allocator rounds large buffers up, by up to an eighth, and
/// what it adds lies in the last huge page, and so in memory. Few words, and any where there is no such map, stay where they are.
pub(super) fn resident(words: Vec<u32>) -> Bytes {
    match mapped(&words) {
        Some(bytes) => Bytes::from_shared(bytes, AllocationProperty::Other),
        None => Bytes::from_elems(words),
    }
}

fn mapped(words: &[u32]) -> Option<bytes::Bytes> {
    let source: &[u8] = cast_slice(words);
    if source.len() < LEAST {
        return None;
    }
    let mut map = memmap2::MmapMut::map_anon(source.len()).ok()?;
    // Without huge pages it is slower, and no worse.
    #[cfg(target_os = "linux")]
    let _ = map.advise(memmap2::Advice::HugePage);
    map.par_chunks_mut(COPIED).zip(source.par_chunks(COPIED)).for_each(|(to, from)| to.copy_from_slice(from));
    Some(bytes::Bytes::from_owner(map.make_read_only().ok()?))
}

#[cfg(test)]
mod tests {
    use bytemuck::pod_collect_to_vec;

    use super::*;

    #[test]
    fn words_of_any_number_are_kept_and_a_copy_is_written_apart() {
        let border = LEAST / 4;
        for n in [0, 1, border - 1, border, border + 1, 3 * border, COPIED / 4 + 1] {
            let words: Vec<u32> = (0..n as u32).map(|i| i.wrapping_mul(0x9e37_79b9)).collect();
            assert_eq!(mapped(&words).is_some(), n >= border, "{n} words");
            let resident = resident(words.clone());
            let mut copy = resident.clone();
            if let Some(byte) = copy.last_mut() {
                *byte ^= 0xff;
                assert_ne!(copy[..], resident[..], "{n} words");
            }
            // Collected, for the bytes of no words have no address that is one of a word.
            assert_eq!(pod_collect_to_vec::<u8, u32>(&resident), words, "{n} words");
        }
    }
}
