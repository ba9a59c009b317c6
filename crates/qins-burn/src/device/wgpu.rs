//! The adapters, and the one to compute on.

use std::sync::OnceLock;

use burn::tensor::{
    Device,
    wgpu::{
        WgpuBackend, WgpuInitError, WgpuSetup,
        wgpu::{self, DeviceType, Features},
    },
};
use burn_cubecl::cubecl::future::block_on;

use super::Adapter;
use crate::Error;

/// The graphics APIs to search for adapters: on Linux only Vulkan, as OpenGL lacks required features.
const BACKENDS: wgpu::Backends =
    if cfg!(target_os = "linux") { wgpu::Backends::VULKAN } else { wgpu::Backends::PRIMARY };

/// The environment variable with which CubeCL selects the card.
const CHOICE: &str = "CUBECL_WGPU_DEFAULT_DEVICE";

/// Bytes of shared memory that a workgroup needs: the tiles of a matrix product take 18,432, and its table the rest.
const SHARED_MEMORY: u32 = 20_480;

/// The default device, set up once.
pub(super) fn device() -> Result<Device, Error> {
    opened().clone().map(|(device, _)| device).map_err(Error::Backend)
}

fn opened() -> &'static Result<(Device, WgpuSetup), String> {
    static DEVICE: OnceLock<Result<(Device, WgpuSetup), String>> = OnceLock::new();
    DEVICE.get_or_init(|| open().map_err(|error| format!("backend `wgpu`: {error}")))
}

fn open() -> Result<(Device, WgpuSetup), String> {
    let options = Device::wgpu_options();
    let options = if cfg!(target_os = "linux") { options.graphics_api(WgpuBackend::Vulkan) } else { options };
    let (device, setup) = options.init_with_setup().map_err(|error| match (error, std::env::var(CHOICE)) {
        (WgpuInitError::AdapterUnavailable { .. } | WgpuInitError::InvalidConfiguration { .. }, Ok(choice)) => format!(
            "expected {CHOICE} to name an existing card, as DiscreteGpu(N), IntegratedGpu(N), VirtualGpu(N), Other(N) or \
             Cpu, found `{choice}`"
        ),
        (error @ WgpuInitError::AdapterUnavailable { .. }, _) => format!(
            "expected a graphics card with Vulkan, Metal or DX12, found no usable one: {error}. Debian's packages \
             libvulkan1 and mesa-vulkan-drivers have a software Vulkan driver"
        ),
        (error, _) => error.to_string(),
    })?;
    let found = setup.device.limits().max_compute_workgroup_storage_size;
    if found < SHARED_MEMORY {
        let name = setup.adapter.get_info().name;
        return Err(format!("expected {SHARED_MEMORY} bytes of memory that a cube shares, found {found} on {name}"));
    }
    Ok((device, setup))
}

pub(super) fn adapters() -> Vec<Adapter> {
    let opened = opened().as_ref().ok().map(|(_, setup)| setup);
    // From the open instance; a new one is created only if none could be opened.
    let instance = opened.map_or_else(
        || {
            wgpu::Instance::new(wgpu::InstanceDescriptor {
                backends: BACKENDS,
                ..wgpu::InstanceDescriptor::new_without_display_handle()
            })
        },
        |setup| setup.instance.clone(),
    );
    let used = opened.map(|setup| setup.adapter.get_info());
    let adapters = block_on(instance.enumerate_adapters(BACKENDS));
    adapters.iter().map(|adapter| describe(adapter, used.as_ref())).collect()
}

fn describe(adapter: &wgpu::Adapter, used: Option<&wgpu::AdapterInfo>) -> Adapter {
    let (info, features, limits) = (adapter.get_info(), adapter.features(), adapter.limits());
    Adapter {
        used: used == Some(&info),
        kind: match info.device_type {
            DeviceType::DiscreteGpu => "discrete",
            DeviceType::IntegratedGpu => "integrated",
            DeviceType::VirtualGpu => "virtual",
            DeviceType::Cpu => "cpu",
            DeviceType::Other => "other",
        },
        api: info.backend.to_string(),
        driver: format!("{} {}", info.driver, info.driver_info).trim().to_owned(),
        name: info.name,
        f16: features.contains(Features::SHADER_F16),
        subgroups: features.contains(Features::SUBGROUP),
        largest_tensor_bytes: limits.max_storage_buffer_binding_size.min(limits.max_buffer_size),
        shared_memory_bytes: limits.max_compute_workgroup_storage_size.into(),
    }
}
