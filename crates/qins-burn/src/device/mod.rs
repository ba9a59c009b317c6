//! Backends compiled in, chosen at run time.

#[cfg(feature = "cuda")]
mod cuda;
#[cfg(feature = "gpu")]
mod launches;
#[cfg(feature = "wgpu")]
mod wgpu;

use std::{collections::BTreeMap, fmt, str::FromStr};

use burn::tensor::{Device, Tensor, TensorData};

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
    /// All there are, in this build or not.
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

    /// Whether the program was built with it.
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
    /// When the program was built without the backend, or it finds no graphics card.
    pub fn device(self) -> Result<Device, Error> {
        one_stream();
        match self {
            #[cfg(feature = "flex")]
            Self::Flex => Ok(Device::flex()),
            #[cfg(feature = "ndarray")]
            #[allow(deprecated)]
            // Burn prefers flex, and so do we; ndarray is a promise to those who use it.
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

    /// The graphics card it computes on, as that names itself; `None` of a CPU, and where there is none.
    pub fn card(self) -> Option<String> {
        #[cfg(feature = "gpu")]
        if let Self::Wgpu | Self::Cuda = self {
            return self.device().ok()?.identity().map(|identity| identity.name);
        }
        None
    }
}

/// Has all work of this process done in the order it was asked for, whichever thread asked.
///
/// Else every thread has a stream of work, and Burn's fused kernels are in another one than those around them. CubeCL has a
/// stream wait for the one that *allocated* what it reads, not for the one that wrote it last: where a fused kernel wrote in place,
/// it was read before that, and now and then a sequence read in pieces came out wrong.
pub(crate) fn one_stream() {
    #[cfg(feature = "gpu")]
    burn_std::stream::set_policy(burn_std::stream::StreamPolicy::Single);
}

/// The first of those in this build.
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

/// A graphics card, or what plays one, as `wgpu` sees it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Adapter {
    /// As it names itself.
    pub name: String,
    /// `discrete`, `integrated`, `virtual`, `cpu` or `other`.
    pub kind: &'static str,
    /// The interface it is reached by: `vulkan`, `metal` or `dx12`.
    pub api: String,
    /// Its driver's name and version.
    pub driver: String,
    /// Whether it computes in f16.
    pub f16: bool,
    /// Whether units can sum among each other.
    pub subgroups: bool,
    /// Bytes of the largest tensor: no weight matrix may be larger.
    pub largest_tensor_bytes: u64,
    /// Bytes that the units of a cube share.
    pub shared_memory_bytes: u64,
    /// Whether it is what [`Backend::Wgpu`] computes on.
    pub used: bool,
}

/// The adapters of this machine; none where the program was built without `wgpu`.
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
/// When the device failed at what the tensor was to be computed from: it ran out of memory, or was lost.
pub fn read<const D: usize>(tensor: Tensor<D>) -> Result<Vec<f32>, Error> {
    let data = tensor.try_into_data().map_err(|error| Error::Device(root(&error.to_string())))?;
    Ok(floats(&data))
}

/// The elements of what was read, as `f32`.
pub(crate) fn floats(data: &TensorData) -> Vec<f32> {
    data.as_slice().map_or_else(|_| data.iter().collect(), <[f32]>::to_vec)
}

/// What a report of failures begins with: all that follows failed because of it.
fn root(report: &str) -> String {
    let ends = ["Backtrace:", "No backtrace", "Asked at:"];
    let causes = report.split("Caused by:").map(|cause| {
        let end = ends.iter().filter_map(|end| cause.find(end)).min().unwrap_or(cause.len());
        cause[..end].trim()
    });
    let told = causes.filter(|cause| !cause.is_empty() && !cause.contains("skipped `"));
    told.last().unwrap_or(report).lines().map(str::trim).collect::<Vec<_>>().join(" ")
}

/// Bytes of a device's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceMemory {
    /// In tensors.
    pub in_use: u64,
    /// Taken from the device for tensors: what is not in use is kept for the next ones.
    pub reserved: u64,
}

/// The kernels that GPUs launch for this process while `f` runs, and how often each; none of a CPU. What was asked for but is
/// not read by then may not have been launched yet.
pub fn count_launches<R>(f: impl FnOnce() -> R) -> (R, BTreeMap<String, usize>) {
    #[cfg(feature = "gpu")]
    let counted = launches::count(f);
    #[cfg(not(feature = "gpu"))]
    let counted = (f(), BTreeMap::new());
    counted
}

/// Bytes a second that a GPU moves when it copies its memory, those read and those written; `None` of a CPU, and where it
/// cannot be measured.
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

/// The memory that a GPU has given to this process; `None` of a CPU.
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
