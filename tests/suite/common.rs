//! Fixtures and how to open them.

use std::{
    fs,
    path::{Path, PathBuf},
};

use burn::tensor::{Device, Tensor};
use qins_burn::Backend;
use safetensors::SafeTensors;
use serde::Deserialize;
use serde_json::Value;

/// A file or folder under `tests/fixtures`.
pub(crate) fn fixture(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(path)
}

/// What Transformers makes of the prompts of a fixture.
#[derive(Deserialize)]
pub(crate) struct Goldens {
    pub(crate) prompts: Vec<Golden>,
    /// What wrong models make of them.
    #[serde(default)]
    pub(crate) controls: Value,
}

#[derive(Deserialize)]
pub(crate) struct Golden {
    pub(crate) input_ids: Vec<u32>,
    pub(crate) generated: Vec<u32>,
}

impl Golden {
    pub(crate) fn whole(&self) -> Vec<u32> {
        [&self.input_ids[..], &self.generated].concat()
    }
}

/// Those of a fixture's folder.
pub(crate) fn goldens(dir: &Path) -> Goldens {
    serde_json::from_slice(&fs::read(dir.join("goldens.json")).unwrap()).unwrap()
}

/// The device under test: of the backend that `cargo xtask test --backend` names, or the default one.
pub(crate) fn device() -> Device {
    let backend = std::env::var("QINS_TEST_BACKEND").map_or(Ok(Backend::Flex), |name| name.parse());
    backend.unwrap().device().unwrap()
}

/// Whether that backend computes on the CPU, with the codec's own arithmetic.
pub(crate) fn on_cpu() -> bool {
    !std::env::var("QINS_TEST_BACKEND").is_ok_and(|name| name == "wgpu")
}

/// All cases on CPUs; on GPUs the first `few`, since on a software Vulkan driver each takes a hundred times as long.
pub(crate) fn cases<T>(all: impl IntoIterator<Item = T>, few: usize) -> impl Iterator<Item = T> {
    all.into_iter().take(if on_cpu() { usize::MAX } else { few })
}

/// Elements of an `f32` tensor of a safetensors file.
pub(crate) fn floats(file: &SafeTensors<'_>, name: &str) -> Vec<f32> {
    let tensor = file.tensor(name).unwrap();
    assert_eq!(tensor.dtype(), safetensors::Dtype::F32, "{name}");
    tensor.data().as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
}

/// A tensor's elements.
pub(crate) fn values(tensor: Tensor<2>) -> Vec<f32> {
    tensor.into_data().iter().collect()
}

/// The largest difference of two slices of one length.
pub(crate) fn max_abs_diff(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}
