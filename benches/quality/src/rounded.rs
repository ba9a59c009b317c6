//! The embedded model with its linears rounded to the formats in common use, as candidates for `qins validate --candidate`.

use std::{collections::HashMap, error::Error, fs, path::Path};

use qins_quant::checkpoint::{Checkpoint, Files};
use safetensors::{Dtype, tensor::TensorView};

use crate::{
    data,
    reference::{self, Format},
};

/// The files that a model is besides its weights.
const OTHERS: [&str; 4] = ["config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"];

/// Writes a plain checkpoint for each format into `out`, and gives `DIR@BITS` for each.
pub(crate) fn write(model: &Path, out: &Path) -> Result<Vec<String>, Box<dyn Error>> {
    let checkpoint = Checkpoint::open(Files::Directory(model.to_owned()))?;
    reference::ALL.iter().map(|format| rounded(&checkpoint, format, &out.join(format.name))).collect()
}

fn rounded(checkpoint: &Checkpoint, format: &Format, out: &Path) -> Result<String, Box<dyn Error>> {
    let (mut tensors, mut bytes, mut weights) = (Vec::new(), 0, 0);
    for name in checkpoint.tensors() {
        let plain = checkpoint.plain(name)?;
        let mut values = plain.widen();
        if let (&[_, cols], true) = (plain.shape, data::is_in_block(name)) {
            let encoded = format.encode(&values, cols);
            format.decode(&encoded, cols, &mut values);
            bytes += encoded.len();
            weights += values.len();
        }
        let values: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
        tensors.push((name, plain.shape.to_vec(), values));
    }
    let views =
        tensors.iter().map(|(name, shape, values)| Ok((name, TensorView::new(Dtype::F32, shape.clone(), values)?)));
    let views: Vec<_> = views.collect::<Result<_, safetensors::SafeTensorError>>()?;
    let named = |e: std::io::Error| format!("{}: {e}", out.display());
    fs::create_dir_all(out).map_err(named)?;
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    fs::write(out.join("model.safetensors"), safetensors::serialize(views, Some(metadata))?).map_err(named)?;
    for name in OTHERS.into_iter().filter(|name| checkpoint.files().contains(name)) {
        fs::write(out.join(name), checkpoint.files().read(name)?).map_err(named)?;
    }
    Ok(format!("{}@{:.4}", out.display(), (8 * bytes) as f64 / weights as f64))
}
