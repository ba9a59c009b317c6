//! Backends compiled in, chosen at run time.

use std::{fmt, str::FromStr};

use burn::tensor::Device;

use crate::Error;

/// A Burn backend. Which ones a program can use is decided by its cargo features, which one it uses at run time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// Burn's CPU backend, the reference (feature `flex`).
    Flex,
    /// Burn's older CPU backend (feature `ndarray`).
    NdArray,
    /// GPUs through Vulkan, Metal or DX12 (feature `wgpu`).
    Wgpu,
    /// NVIDIA GPUs (feature `cuda`).
    Cuda,
}

impl Backend {
    const ALL: [Self; 4] = [Self::Flex, Self::NdArray, Self::Wgpu, Self::Cuda];

    /// The name on the command line, and of the cargo feature.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Flex => "flex",
            Self::NdArray => "ndarray",
            Self::Wgpu => "wgpu",
            Self::Cuda => "cuda",
        }
    }

    /// The backend's default device.
    ///
    /// # Errors
    /// When the program was built without the backend.
    pub fn device(self) -> Result<Device, Error> {
        match self {
            #[cfg(feature = "flex")]
            Self::Flex => Ok(Device::flex()),
            #[cfg(feature = "ndarray")]
            #[allow(deprecated)]
            // Burn prefers flex, and so do we; ndarray is a promise to those who use it.
            Self::NdArray => Ok(Device::ndarray()),
            #[cfg(feature = "wgpu")]
            Self::Wgpu => Ok(Device::wgpu(burn::tensor::DeviceKind::DefaultDevice)),
            #[cfg(feature = "cuda")]
            Self::Cuda => Ok(Device::cuda(0)),
            #[allow(unreachable_patterns)]
            missing => Err(Error::Backend(format!(
                "backend `{missing}` is not in this build: build with `--features {missing}`"
            ))),
        }
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Backend {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        Self::ALL.into_iter().find(|b| b.name() == name).ok_or_else(|| {
            Error::Backend(format!("unknown backend `{name}`: expected one of flex, ndarray, wgpu, cuda"))
        })
    }
}
