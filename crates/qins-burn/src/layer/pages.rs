//! Weights in memory pages of their own.

use burn::tensor::{AllocationProperty, Bytes};
use bytemuck::cast_slice;

/// Bytes from which numbers are moved: many more than are lost at the end of a page.
const LEAST: usize = 64 << 10;

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
    map.copy_from_slice(source);
    Some(bytes::Bytes::from_owner(map.make_read_only().ok()?))
}
