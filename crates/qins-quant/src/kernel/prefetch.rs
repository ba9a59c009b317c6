//! How early weights are asked for.

#![allow(unsafe_code)]

use super::panel::PANEL;
#[cfg(target_arch = "x86_64")]
use super::row::GroupedRow;

/// How far ahead of their use weights are prefetched, into the second level of cache. The hardware's own prefetching stops at the end of
/// each page: with it alone, 8-bit codes are read at 4/5 of the speed. In place of this distance, 2 KiB into all levels cost a fifth of the
/// speed on Zen 4 and a twentieth to a tenth on Emerald Rapids, and nothing on Zen 5; a non-temporal hint halves it on Emerald Rapids.
const FAR: usize = 8192;

/// How far ahead they are prefetched again, from the second level into the first. On Emerald Rapids a product of 8-bit codes then takes
/// them from memory at 0.93 of the speed at which they are read alone, and at 0.83 without; up to 1 KiB gains nothing.
const NEAR: usize = 2048;

/// Prefetches the cache lines that follow `address`, which need not be valid memory, by the two distances.
#[inline(always)]
pub(super) fn line<T>(address: *const T) {
    fetch::<true, T>(address.wrapping_byte_add(FAR));
    fetch::<false, T>(address.wrapping_byte_add(NEAR));
}

/// How many rows the far distance is, if their codes take as many bytes as these.
#[cfg(target_arch = "x86_64")]
pub(super) fn rows(codes: &[u8]) -> usize {
    FAR.div_ceil(codes.len().max(1))
}

/// Prefetches the scales and selectors of the row that is `rows` rows after this one.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(super) fn parts(row: &GroupedRow<'_>, rows: usize) {
    part(row.group_scale, rows);
    part(row.selector, rows);
    part(row.scale, rows);
}

/// Prefetches the cache line that follows that of number `i`, which need not exist.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(super) fn next_line(numbers: &[f32], i: usize) {
    fetch::<false, f32>(numbers.as_ptr().wrapping_add(i).wrapping_byte_add(64));
}

/// Prefetches what is `rows` rows after a part of a row. The rows of a part are contiguous.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn part<T>(part: &[T], rows: usize) {
    let bytes = size_of_val(part).next_multiple_of(4);
    for line in (0..bytes).step_by(64) {
        fetch::<true, T>(part.as_ptr().wrapping_byte_add(rows * bytes + line));
    }
}

/// Prefetches the codes of a few blocks after block `b` of a row in a panel, of so many bytes each; after its last, those of the row
/// in the same place of the next panel.
pub(super) fn later_block(codes: &[u8], b: usize, bytes: usize) {
    const BLOCKS: usize = 4;
    let (start, end) = ((b + BLOCKS) * bytes, codes.len().next_multiple_of(4));
    let start = if start < end { start } else { PANEL * end + start - end };
    for line in 0..=bytes / 64 {
        fetch::<true, u8>(codes.as_ptr().wrapping_add(start + 64 * line));
    }
}

/// Prefetches the memory of `n` of the `whole` equal parts of `all` from `first` on.
#[inline(always)]
pub(crate) fn fetch_part<T>(all: &[T], first: usize, n: usize, whole: usize) {
    let bytes = size_of_val(all);
    let [start, end] = [first, first + n].map(|part| part * bytes / whole.max(1));
    for byte in (start..end).step_by(64) {
        fetch::<false, T>(all.as_ptr().wrapping_byte_add(byte));
    }
}

/// Prefetches the cache line at `address`, which need not be valid memory; does nothing on other architectures than x86-64.
#[inline(always)]
fn fetch<const SECOND: bool, T>(address: *const T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch does not fault, whatever the address.
    unsafe {
        use core::arch::x86_64::{_MM_HINT_T0, _MM_HINT_T1, _mm_prefetch};
        if SECOND {
            _mm_prefetch::<_MM_HINT_T1>(address.cast());
        } else {
            _mm_prefetch::<_MM_HINT_T0>(address.cast());
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}
