//! The instruction sets that kernels are written for, one of which is chosen when the program runs.

use std::{fmt, str::FromStr, sync::OnceLock};

/// An instruction set. All of them give the same bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Simd {
    /// What every CPU of the architecture has.
    Portable,
    /// AVX2 of x86-64.
    Avx2,
    /// AVX-512 of x86-64: F, BW, VL, VBMI and VNNI (Ice Lake, Zen 4 and later).
    Avx512,
    /// NEON of 64-bit ARM.
    Neon,
}

impl Simd {
    /// All of them, the widest last.
    pub const ALL: [Self; 4] = [Self::Portable, Self::Avx2, Self::Avx512, Self::Neon];

    /// The environment variable that names the one to use instead of the widest.
    pub const VARIABLE: &'static str = "QINS_SIMD";

    /// The name, as in the environment variable.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Portable => "portable",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
            Self::Neon => "neon",
        }
    }

    /// Whether this machine has it.
    pub fn is_available(self) -> bool {
        match self {
            Self::Portable => true,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("f16c"),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => {
                Self::Avx2.is_available()
                    && is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("avx512vbmi")
                    && is_x86_feature_detected!("avx512vnni")
            }
            #[cfg(not(target_arch = "x86_64"))]
            Self::Avx2 | Self::Avx512 => false,
            Self::Neon => cfg!(target_arch = "aarch64"),
        }
    }

    /// The one that `QINS_SIMD` names, else the widest this machine has.
    ///
    /// # Errors
    /// When the variable names none of them, or one this machine has not.
    pub fn chosen() -> Result<Self, String> {
        match std::env::var(Self::VARIABLE) {
            Ok(name) => name.parse().map_err(|e| format!("{}: {e}", Self::VARIABLE)),
            Err(_) => Ok(Self::widest()),
        }
    }

    /// What [`chosen`](Self::chosen) said first; the widest where it fails.
    pub(super) fn get() -> Self {
        static CHOSEN: OnceLock<Simd> = OnceLock::new();
        *CHOSEN.get_or_init(|| Self::chosen().unwrap_or(Self::widest()))
    }

    fn widest() -> Self {
        Self::ALL.into_iter().rfind(|simd| simd.is_available()).unwrap_or(Self::Portable)
    }
}

impl fmt::Display for Simd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Simd {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let available = || Self::ALL.into_iter().filter(|simd| simd.is_available());
        available().find(|simd| simd.name() == name).ok_or_else(|| {
            let names: Vec<_> = available().map(Self::name).collect();
            format!("expected an instruction set of this machine ({}), found `{name}`", names.join(", "))
        })
    }
}

/// Bytes that weights are fetched ahead of their use. The hardware's own prefetching stops at each page of memory: without
/// this 8-bit codes come at 4/5 of their speed.
pub(super) const AHEAD: usize = 2048;

/// Has the cache line at `address` fetched, where it is known how. It need not be one of ours.
///
/// To all levels of cache: the hint that spares them is a tenth faster on Zen 4, and half as fast on Emerald Rapids.
#[allow(unsafe_code)]
#[inline(always)]
pub(super) fn prefetch<T>(address: *const T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: prefetching reads nothing, and faults at no address.
    unsafe {
        use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(address.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}

/// Defines a function of `simd` and more arguments: `$inner` of those, compiled for each instruction set. What is written
/// without intrinsics runs at their vector width this way, and gives the same bits, as nothing in it is fused.
macro_rules! compiled_for_each {
    ($(#[$meta:meta])* $vis:vis fn $name:ident($($arg:ident: $type:ty),* $(,)?) $(-> $result:ty)? = $inner:path) => {
        $(#[$meta])*
        #[allow(unsafe_code)]
        $vis fn $name(simd: $crate::kernel::Simd, $($arg: $type),*) $(-> $result)? {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2,f16c")]
                fn avx2($($arg: $type),*) $(-> $result)? {
                    $inner($($arg),*)
                }
                #[target_feature(enable = "avx2,f16c,avx512f,avx512bw,avx512vl")]
                fn avx512($($arg: $type),*) $(-> $result)? {
                    $inner($($arg),*)
                }
                match simd {
                    // SAFETY: nobody computes with an instruction set that is not available.
                    $crate::kernel::Simd::Avx2 => return unsafe { avx2($($arg),*) },
                    // SAFETY: as above.
                    $crate::kernel::Simd::Avx512 => return unsafe { avx512($($arg),*) },
                    // The first is what every CPU has, and so is the other where it is available.
                    $crate::kernel::Simd::Portable | $crate::kernel::Simd::Neon => {}
                }
            }
            #[cfg(not(target_arch = "x86_64"))]
            let _ = simd;
            $inner($($arg),*)
        }
    };
}
pub(super) use compiled_for_each;
