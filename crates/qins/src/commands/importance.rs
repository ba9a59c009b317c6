//! `qins importance`.

use std::{
    collections::{BTreeMap, HashMap},
    path::PathBuf,
    process::ExitCode,
};

use clap::Args;
use qins_model::{ModelConfig, check_plain, linears};
use safetensors::{Dtype, tensor::TensorView};

use crate::{
    Outcome,
    args::{DeviceArgs, ModelArgs},
    model,
    output::Outputs,
    policy::Engine,
};

/// Write how large the inputs of each linear are on the calibration: an importance matrix, for other tools.
///
/// The file is in safetensors. For each matrix of the plain checkpoint that is multiplied with, under the tensor's name, it has F32 `[in]`:
/// the mean square of each input channel over all tokens that `convert` calibrates on, which is what llama.cpp's quantiser takes as
/// its importance matrix. An embedding is there if the head is tied to it. `convert` itself uses more: products of channels, and the first
/// tokens of texts by themselves.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  qins importance --out importance.safetensors
  qins importance --model DIR --calibrate text.txt --out importance.safetensors")]
pub(crate) struct WriteImportance {
    #[command(flatten)]
    model: ModelArgs,
    /// Read this text, in place of the standard calibration
    #[arg(long, value_name = "FILE")]
    calibrate: Option<PathBuf>,
    /// The file to write; `-` is standard output
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    #[command(flatten)]
    device: DeviceArgs,
}

impl WriteImportance {
    pub(crate) fn run(self) -> Outcome {
        let mut outputs = Outputs::default().reads("--calibrate", self.calibrate.as_deref());
        let out = outputs.open("--out", &self.out)?;
        let source = model::open(&self.model)?;
        outputs.expect_apart(&source)?;
        let config = ModelConfig::of(&source.checkpoint)?;
        check_plain(&source.checkpoint, &config)?;
        self.device.set_up()?;
        let found = Engine::of(self.device.backend).importance(self.calibrate.as_deref(), &source)?;

        // The parts of a fused matrix have the same inputs.
        let mut tensors = BTreeMap::new();
        for spec in linears(&config) {
            if let Some(means) = found.get(&spec.module) {
                let bytes: Vec<u8> = means.iter().flat_map(|mean| mean.to_le_bytes()).collect();
                tensors.insert(spec.place(&source.checkpoint).0, bytes);
            }
        }
        let views =
            tensors.iter().map(|(name, bytes)| Ok((name, TensorView::new(Dtype::F32, vec![bytes.len() / 4], bytes)?)));
        let views: Vec<_> = views.collect::<Result<_, safetensors::SafeTensorError>>()?;
        let metadata = HashMap::from([("qins_importance".to_owned(), source.name.clone())]);
        out.write(&safetensors::serialize(views, Some(metadata))?)?;
        Ok(ExitCode::SUCCESS)
    }
}
