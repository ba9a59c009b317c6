//! Backends compiled in, chosen at run time.

#[cfg(feature = "cuda")]
mod cuda;
#[cfg(feature = "gpu")]
mod launches;
#[cfg(feature = "wgpu")]
mod wgpu;

use std::{collections::BTreeMap, fmt, str::FromStr};

use burn::tensor::{Device, Tensor};

use crate::Error;

/// A Burn backend. Cargo features decide which are built in; one of those is chosen at run time.
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
    /// All backends, built in or not.
    pub const ALL: [Self; 4] = [Self::Flex, Self::NdArray, Self::Wgpu, Self::Cuda];

    /// The name on the command line, and of the cargo feature.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Flex => "flex",
            Self::NdArray => "ndarray",
            Self::Wgpu => "wgpu",
            Self::Cuda => "cuda",
        }
    }

    /// Whether this build has it.
    pub const fn is_built(self) -> bool {
        match self {
            Self::Flex => cfg!(feature = "flex"),
            Self::NdArray => cfg!(feature = "ndarray"),
            Self::Wgpu => cfg!(feature = "wgpu"),
            Self::Cuda => cfg!(feature = "cuda"),
        }
    }

    /// The backend's default device.
    ///
    /// # Errors
    /// When the backend is not built in, or finds no graphics card.
    pub fn device(self) -> Result<Device, Error> {
        one_stream();
        match self {
            #[cfg(feature = "flex")]
            Self::Flex => Ok(Device::flex()),
            #[cfg(feature = "ndarray")]
            #[allow(deprecated)]
            // As in Burn, flex is preferred; ndarray is for those who request it.
            Self::NdArray => Ok(Device::ndarray()),
            #[cfg(feature = "wgpu")]
            Self::Wgpu => wgpu::device(),
            #[cfg(feature = "cuda")]
            Self::Cuda => cuda::device(),
            #[allow(unreachable_patterns)]
            missing => Err(Error::Backend(format!(
                "backend `{missing}` is not in this build: build with `--features {missing}`"
            ))),
        }
    }

    /// The name of the graphics card it computes on; `None` for CPU backends, and if there is no card.
    pub fn card(self) -> Option<String> {
        #[cfg(feature = "gpu")]
        if let Self::Wgpu | Self::Cuda = self {
            return self.device().ok()?.identity().map(|identity| identity.name);
        }
        None
    }
}

/// Executes all work of this process in the order of submission, from whichever thread.
///
/// Otherwise every thread has its own stream, and Burn's fused kernels are in another stream than the operations around them. In
/// CubeCL a stream waits for the one that *allocated* what it reads, not for the one that wrote it last: what a fused kernel wrote
/// in place could be read too early, and chunked prefill sometimes gave wrong results.
pub(crate) fn one_stream() {
    #[cfg(feature = "gpu")]
    burn_std::stream::set_policy(burn_std::stream::StreamPolicy::Single);
}

/// The first backend of this build.
impl Default for Backend {
    fn default() -> Self {
        Self::ALL.into_iter().find(|backend| backend.is_built()).unwrap_or(Self::Flex)
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

/// A graphics card, or a software driver, as reported by `wgpu`.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Adapter {
    /// Its name.
    pub name: String,
    /// `discrete`, `integrated`, `virtual`, `cpu` or `other`.
    pub kind: &'static str,
    /// Its graphics API: `vulkan`, `metal` or `dx12`.
    pub api: String,
    /// Its driver's name and version.
    pub driver: String,
    /// Whether it supports arithmetic in f16.
    pub f16: bool,
    /// Whether it supports subgroup operations.
    pub subgroups: bool,
    /// Bytes of the largest buffer, and so of the largest weight matrix.
    pub largest_tensor_bytes: u64,
    /// Bytes of shared memory of a workgroup.
    pub shared_memory_bytes: u64,
    /// Whether [`Backend::Wgpu`] computes on it.
    pub used: bool,
}

/// The adapters of this machine; none in a build without `wgpu`.
pub fn adapters() -> Vec<Adapter> {
    #[cfg(feature = "wgpu")]
    let adapters = wgpu::adapters();
    #[cfg(not(feature = "wgpu"))]
    let adapters = Vec::new();
    adapters
}

/// A tensor's elements, row-major, on the host.
///
/// # Errors
/// When the device failed while computing the tensor: it ran out of memory, or was lost.
pub fn read<const D: usize>(tensor: Tensor<D>) -> Result<Vec<f32>, Error> {
    let data = tensor.try_into_data().map_err(|error| Error::Device(root(&error.to_string())))?;
    data.try_into_vec_as().map_err(|error| Error::Device(error.to_string()))
}

/// The first failure in a report, which caused the others.
fn root(report: &str) -> String {
    let ends = ["Backtrace:", "No backtrace", "Asked at:"];
    let causes = report.split("Caused by:").map(|cause| {
        let end = ends.iter().filter_map(|end| cause.find(end)).min().unwrap_or(cause.len());
        cause[..end].trim()
    });
    let causes = causes.filter(|cause| !cause.is_empty() && !cause.contains("skipped `"));
    causes.last().unwrap_or(report).lines().map(str::trim).collect::<Vec<_>>().join(" ")
}

/// Bytes of a device's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceMemory {
    /// In use by tensors.
    pub in_use: u64,
    /// Reserved by the allocator, including what is kept for later tensors.
    pub reserved: u64,
}

/// The GPU kernels that this process launches while `f` runs, and the number of launches of each; none on a CPU. Work that was
/// submitted but not read back may not have been launched by then.
pub fn count_launches<R>(f: impl FnOnce() -> R) -> (R, BTreeMap<String, usize>) {
    #[cfg(feature = "gpu")]
    let counted = launches::count(f);
    #[cfg(not(feature = "gpu"))]
    let counted = (f(), BTreeMap::new());
    counted
}

/// The copy bandwidth of a GPU's memory in bytes per second, read and written; `None` for a CPU, and if it cannot be
/// measured.
pub fn copy_bandwidth(device: &Device) -> Option<f64> {
    #[cfg(feature = "gpu")]
    {
        use burn::tensor::{MemoryAccess, ThroughputKey, ThroughputMode};
        let key = ThroughputKey { mode: ThroughputMode::memory(MemoryAccess::Copy) };
        let measured = device.performance_stats(&[key]).first()?.value.ok()?;
        Some(measured.bytes_per_s(&key)).filter(|bytes| bytes.is_finite())
    }
    #[cfg(not(feature = "gpu"))]
    {
        let _ = device;
        None
    }
}

/// The GPU memory of this process; `None` for a CPU.
pub fn device_memory(device: &Device) -> Option<DeviceMemory> {
    let usage = device.memory_pool_usage()?;
    Some(DeviceMemory { in_use: usage.bytes_in_use, reserved: usage.bytes_reserved })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_failure_is_reported() {
        let report = "An error happened\nCaused by:\n  Several failures at once\nCaused by:\n  skipped `Matvec`: it needed \
                      memory 7\nCaused by:\n  no room for\n  9 bytes\nNo backtrace available\nAsked at:\nnowhere";
        assert_eq!(root(report), "no room for 9 bytes");
        assert_eq!(root("lost"), "lost");
    }
}
