//! The first NVIDIA card.

use std::{panic::catch_unwind, sync::OnceLock};

use burn::tensor::{Device, DeviceType};

use crate::Error;

/// The device, opened once.
pub(super) fn device() -> Result<Device, Error> {
    static OPENED: OnceLock<Result<Device, String>> = OnceLock::new();
    OPENED.get_or_init(open).clone().map_err(|found| {
        Error::Backend(format!("backend `cuda`: expected an NVIDIA card and its driver, found {found}"))
    })
}

fn open() -> Result<Device, String> {
    let device = Device::enumerate(DeviceType::Cuda).into_iter().next().ok_or("none")?;
    // CubeCL panics when opening a card fails, such as when another process uses it exclusively.
    let opened = catch_unwind(|| device.identity().is_some()).map_err(|_| "one that cannot be opened")?;
    if opened { Ok(device) } else { Err("one that does not name itself".to_owned()) }
}
