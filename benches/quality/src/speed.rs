//! Speed of encoding, entropy coding, loading and decoding of each scheme. The best of three; only ratios within one run are
//! meaningful.

use std::{error::Error, fs, time::Instant};

use half::bf16;
use qins_quant::{
    EncodedTensor, FloatDtype, Recipe,
    checkpoint::{Checkpoint, Files},
    convert::{Part, convert},
};
use safetensors::{Dtype, serialize_to_file, tensor::TensorView};
use serde::Serialize;

use crate::{data, measure::schemes};

/// Millions of weights per second.
#[derive(Debug, Serialize)]
pub(crate) struct Speed {
    pub(crate) name: String,
    /// Encoding in memory; of `rate`, the search for its step included.
    pub(crate) encode: f64,
    /// Entropy coding.
    pub(crate) code: f64,
    /// Loading an entropy-coded file from the page cache.
    pub(crate) load: f64,
    /// Decoding to weights.
    pub(crate) decode: f64,
}

/// Every scheme on the same bf16 weights.
pub(crate) fn measure() -> Result<Vec<Speed>, Box<dyn Error>> {
    const MODULE: &str = "linear";
    let matrix = data::many();
    let bytes: Vec<u8> = matrix.weights.iter().flat_map(|w| bf16::from_f32(*w).to_le_bytes()).collect();
    let home = tempfile::tempdir()?;
    let plain = home.path().join("plain");
    fs::create_dir(&plain)?;
    fs::write(plain.join("config.json"), "{}")?;
    let tensor = (format!("{MODULE}.weight"), TensorView::new(Dtype::BF16, matrix.shape.to_vec(), &bytes)?);
    serialize_to_file([tensor], None, &plain.join("model.safetensors"))?;
    let plain = Checkpoint::open(Files::Directory(plain))?;

    let speed = |(name, recipe): (String, Recipe)| {
        let (encode, encoded) = timed(|| EncodedTensor::encode_bytes(&bytes, matrix.shape, FloatDtype::Bf16, &recipe));
        let encoded = encoded?;
        let (code, size) = timed(|| encoded.file_bytes(true));
        size?;
        let coded = home.path().join(&name);
        let recipe = Recipe { coded: true, ..recipe };
        let part = Part { module: MODULE.to_owned(), rows: 0..matrix.shape[0], recipe: Some(recipe) };
        convert(&plain, &coded, &|_, _| Some(vec![part.clone()]), &|_| {})?;
        let coded = Checkpoint::open(Files::Directory(coded))?;
        let (load, loaded) = timed(|| coded.encoded(MODULE));
        let loaded = loaded?;
        let mut out = vec![0.0; matrix.weights.len()];
        let (decode, ()) = timed(|| loaded.decode_into(&mut out));
        let rate = |seconds: f64| 1e-6 * out.len() as f64 / seconds;
        Ok(Speed { name, encode: rate(encode), code: rate(code), load: rate(load), decode: rate(decode) })
    };
    schemes().into_iter().map(speed).collect()
}

fn timed<T>(mut work: impl FnMut() -> T) -> (f64, T) {
    let mut least = f64::INFINITY;
    let mut once = || {
        let start = Instant::now();
        let result = work();
        least = least.min(start.elapsed().as_secs_f64());
        result
    };
    once();
    once();
    let result = once();
    (least, result)
}
