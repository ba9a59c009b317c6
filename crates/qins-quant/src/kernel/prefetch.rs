//! How early weights are asked for.

#![allow(unsafe_code)]

use super::row::GroupedRow;

/// How far ahead of their use weights are prefetched, and to where. The hardware's own prefetching stops at the end of each
/// page: with it alone, 8-bit codes are read at 4/5 of the speed.
#[derive(Clone, Copy)]
pub(super) struct Ahead {
    bytes: usize,
    /// Into the second level of cache and those above; else into all levels.
    second: bool,
}

impl Ahead {
    /// Measured on Zen 4 and Zen 5, where a short distance into all levels costs up to a fifth of the speed.
    #[cfg(target_arch = "x86_64")]
    const AMD: Self = Self { bytes: 8192, second: true };

    /// Measured on Emerald Rapids, where the non-temporal hint halves the speed.
    const OTHER: Self = Self { bytes: 2048, second: false };

    /// What suits this machine.
    pub(super) fn get() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            static AHEAD: std::sync::LazyLock<Ahead> = std::sync::LazyLock::new(|| {
                let vendor = raw_cpuid::CpuId::new().get_vendor_info();
                if vendor.is_some_and(|v| v.as_str() == "AuthenticAMD") { Ahead::AMD } else { Ahead::OTHER }
            });
            *AHEAD
        }
        #[cfg(not(target_arch = "x86_64"))]
        Self::OTHER
    }

    /// Prefetches the cache line that follows `address`, which need not be valid memory, by the distance.
    #[inline(always)]
    pub(super) fn line<T>(self, address: *const T) {
        self.fetch(address.wrapping_byte_add(self.bytes));
    }

    /// Prefetches the scales and selectors of a row that is as many rows after this one as the distance is.
    #[inline(always)]
    pub(super) fn parts(self, row: &GroupedRow<'_>) {
        let rows = self.bytes.div_ceil(row.packed.len().max(1));
        self.part(row.group_scale, rows);
        self.part(row.selector, rows);
        self.part(row.scale, rows);
    }

    /// Prefetches what is `rows` rows after a part of a row. The rows of a part are contiguous.
    #[inline(always)]
    fn part<T>(self, part: &[T], rows: usize) {
        let bytes = size_of_val(part).next_multiple_of(4);
        for line in (0..bytes).step_by(64) {
            self.fetch(part.as_ptr().wrapping_byte_add(rows * bytes + line));
        }
    }

    #[inline(always)]
    fn fetch<T>(self, address: *const T) {
        if self.second { fetch::<true, T>(address) } else { fetch::<false, T>(address) }
    }
}

/// Prefetches bytes that are soon read.
pub(super) fn prefetch(bytes: &[u8]) {
    bytes.chunks(64).for_each(|line| fetch::<false, u8>(line.as_ptr()));
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
