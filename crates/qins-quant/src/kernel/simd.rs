//! The instruction sets that kernels are compiled for, one of which is chosen at run time.

use std::{fmt, str::FromStr, sync::OnceLock};

/// An instruction set. The result of a kernel has the same bits on all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Simd {
    /// The baseline of the architecture.
    Portable,
    /// AVX2 of x86-64, with FMA and F16C (Haswell, Zen and later).
    Avx2,
    /// AVX2 with AVX-VNNI (Alder Lake, Zen 5 and later).
    AvxVnni,
    /// AVX-512 of x86-64: F, BW, VL, VBMI, VBMI2 and VNNI, with GFNI (Ice Lake, Zen 4 and later).
    Avx512,
    /// NEON of 64-bit ARM.
    Neon,
}

impl Simd {
    /// All instruction sets; of those a machine has, the last is the widest.
    pub const ALL: [Self; 5] = [Self::Portable, Self::Avx2, Self::AvxVnni, Self::Avx512, Self::Neon];

    /// The environment variable that overrides the choice of the widest.
    pub const VARIABLE: &'static str = "QINS_SIMD";

    /// The name, as used in the environment variable.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Portable => "portable",
            Self::Avx2 => "avx2",
            Self::AvxVnni => "avxvnni",
            Self::Avx512 => "avx512",
            Self::Neon => "neon",
        }
    }

    /// Whether this machine has it.
    pub fn is_available(self) -> bool {
        match self {
            Self::Portable => true,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => {
                is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c")
            }
            #[cfg(target_arch = "x86_64")]
            Self::AvxVnni => Self::Avx2.is_available() && is_x86_feature_detected!("avxvnni"),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => {
                Self::Avx2.is_available()
                    && is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("avx512vbmi")
                    && is_x86_feature_detected!("avx512vbmi2")
                    && is_x86_feature_detected!("avx512vnni")
                    && is_x86_feature_detected!("gfni")
            }
            #[cfg(not(target_arch = "x86_64"))]
            Self::Avx2 | Self::AvxVnni | Self::Avx512 => false,
            Self::Neon => cfg!(target_arch = "aarch64"),
        }
    }

    /// Whether products of floats with several rows are fused multiplications and additions, in one order: they then have the same
    /// bits on all instruction sets of which this is true.
    pub const fn fuses_floats(self) -> bool {
        match self {
            Self::Avx2 | Self::AvxVnni | Self::Avx512 => true,
            Self::Portable | Self::Neon => false,
        }
    }

    /// The instruction set that `QINS_SIMD` names; the widest of this machine if that is unset or empty.
    ///
    /// # Errors
    /// When the variable names no instruction set of this machine.
    pub fn chosen() -> Result<Self, String> {
        match std::env::var_os(Self::VARIABLE).filter(|name| !name.is_empty()) {
            Some(name) => name.to_string_lossy().parse().map_err(|e| format!("{}: {e}", Self::VARIABLE)),
            None => Ok(Self::widest()),
        }
    }

    /// The result of the first call of [`chosen`](Self::chosen), or the widest if that failed.
    pub(crate) fn get() -> Self {
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

/// Keeps loads before or after: the compiler moves them to the front of a long block otherwise, where what they load does not fit
/// the registers.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(super) fn in_order() {
    std::sync::atomic::compiler_fence(std::sync::atomic::Ordering::SeqCst);
}

/// Defines a function that takes `simd` before the arguments of `$inner`, which is compiled once for each instruction set and
/// must be `inline(always)`. So code without intrinsics runs at full vector width. It gives the same bits everywhere, since
/// the compiler does not fuse operations.
macro_rules! per_isa {
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
                    // SAFETY: `simd` is from `Simd::get` or `linear_on`, which accept available instruction sets only.
                    $crate::kernel::Simd::Avx2 | $crate::kernel::Simd::AvxVnni => return unsafe { avx2($($arg),*) },
                    // SAFETY: as above.
                    $crate::kernel::Simd::Avx512 => return unsafe { avx512($($arg),*) },
                    // Both are part of the architecture's baseline, where they are available.
                    $crate::kernel::Simd::Portable | $crate::kernel::Simd::Neon => {}
                }
            }
            #[cfg(not(target_arch = "x86_64"))]
            let _ = simd;
            $inner($($arg),*)
        }
    };
}
pub(crate) use per_isa;
