//! How early weights are asked for.

#![allow(unsafe_code)]

use super::panel::PANEL;
#[cfg(target_arch = "x86_64")]
use super::row::GroupedRow;

/// How far ahead of their use weights are prefetched, and to where: into the second level of cache and those above, or into all.
/// The hardware's own prefetching stops at the end of each page: with it alone, 8-bit codes are read at 4/5 of the speed.
///
/// The level is a constant, so that loops have no branches.
#[derive(Clone, Copy)]
pub(super) struct Ahead<const SECOND: bool>(usize);

/// What suits a machine.
#[derive(Clone, Copy)]
pub(super) enum Prefetch {
    /// Into all levels.
    Near(Ahead<false>),
    /// Into the second.
    #[cfg_attr(not(target_arch = "x86_64"), expect(dead_code, reason = "only AMD's"))]
    Far(Ahead<true>),
}

impl Prefetch {
    /// Measured on Zen 4, where a short distance into all levels costs a fifth of the speed; on Zen 5 both are as fast.
    #[cfg(target_arch = "x86_64")]
    const AMD: Self = Self::Far(Ahead(8192));

    /// Measured on Emerald Rapids, where the non-temporal hint halves the speed.
    const OTHER: Self = Self::Near(Ahead(2048));

    /// What suits this machine.
    pub(super) fn get() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            static CHOSEN: std::sync::LazyLock<Prefetch> = std::sync::LazyLock::new(|| {
                let vendor = raw_cpuid::CpuId::new().get_vendor_info();
                if vendor.is_some_and(|v| v.as_str() == "AuthenticAMD") { Prefetch::AMD } else { Prefetch::OTHER }
            });
            *CHOSEN
        }
        #[cfg(not(target_arch = "x86_64"))]
        Self::OTHER
    }
}

impl<const SECOND: bool> Ahead<SECOND> {
    /// Prefetches the cache line that follows `address`, which need not be valid memory, by the distance.
    #[inline(always)]
    pub(super) fn line<T>(self, address: *const T) {
        fetch::<SECOND, T>(address.wrapping_byte_add(self.0));
    }

    /// How many rows the distance is, if their codes take as many bytes as these.
    #[cfg(target_arch = "x86_64")]
    pub(super) fn rows(self, codes: &[u8]) -> usize {
        self.0.div_ceil(codes.len().max(1))
    }

    /// Prefetches the scales and selectors of the row that is `rows` rows after this one.
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    pub(super) fn parts(self, row: &GroupedRow<'_>, rows: usize) {
        part::<SECOND, _>(row.group_scale, rows);
        part::<SECOND, _>(row.selector, rows);
        part::<SECOND, _>(row.scale, rows);
    }
}

/// Prefetches what is `rows` rows after a part of a row. The rows of a part are contiguous.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn part<const SECOND: bool, T>(part: &[T], rows: usize) {
    let bytes = size_of_val(part).next_multiple_of(4);
    for line in (0..bytes).step_by(64) {
        fetch::<SECOND, T>(part.as_ptr().wrapping_byte_add(rows * bytes + line));
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
