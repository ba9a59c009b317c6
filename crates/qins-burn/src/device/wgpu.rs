//! Adapters, and the one that is computed on.

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

/// The interfaces asked for adapters: on Linux Vulkan alone, as OpenGL has less than is needed here.
const BACKENDS: wgpu::Backends =
    if cfg!(target_os = "linux") { wgpu::Backends::VULKAN } else { wgpu::Backends::PRIMARY };

/// The default device, which is set up once.
pub(super) fn device() -> Result<Device, Error> {
    opened().clone().map(|(device, _)| device).map_err(Error::Backend)
}

fn opened() -> &'static Result<(Device, WgpuSetup), String> {
    static DEVICE: OnceLock<Result<(Device, WgpuSetup), String>> = OnceLock::new();
    DEVICE.get_or_init(|| {
        let options = Device::wgpu_options();
        let options = if cfg!(target_os = "linux") { options.graphics_api(WgpuBackend::Vulkan) } else { options };
        options.init_with_setup().map_err(|error| {
            if !matches!(error, WgpuInitError::AdapterUnavailable { .. }) {
                return format!("backend `wgpu`: {error}");
            }
            let missing = "expected a graphics card that Vulkan, Metal or DX12 reaches, found none to use";
            format!("backend `wgpu`: {missing}: {error}. Debian's packages libvulkan1 and mesa-vulkan-drivers have one in software")
        })
    })
}

pub(super) fn adapters() -> Vec<Adapter> {
    let opened = opened().as_ref().ok().map(|(_, setup)| setup);
    // Asked of the instance that is there; of another one only where none could be opened.
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
