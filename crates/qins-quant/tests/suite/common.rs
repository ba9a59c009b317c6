//! Random numbers, and a small model to write, convert and read.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use half::{bf16, f16};
use qins_quant::{
    EncodedTensor, Error, FloatDtype, Recipe, Scheme,
    checkpoint::{Checkpoint, Files},
    convert::{self, Part},
};
use safetensors::{Dtype, serialize_to_file, tensor::TensorView};
use serde_json::{Value, json};
use tempfile::TempDir;

/// SplitMix64: the same numbers on every machine.
#[derive(Clone)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }

    pub(crate) fn normal(&mut self) -> f64 {
        let (radius, angle) = (-2.0 * (1.0 - self.uniform()).ln(), std::f64::consts::TAU * self.uniform());
        radius.sqrt() * angle.cos()
    }

    /// Student's t with 5 degrees of freedom: the heavy tails of trained weights.
    pub(crate) fn student(&mut self) -> f64 {
        let square: f64 = (0..5).map(|_| self.normal().powi(2)).sum();
        self.normal() / (square / 5.0).sqrt()
    }

    pub(crate) fn normals(&mut self, n: usize, sigma: f64) -> Vec<f32> {
        (0..n).map(|_| (sigma * self.normal()) as f32).collect()
    }
}

/// The NMSE of `decoded`.
pub(crate) fn nmse(weights: &[f32], decoded: &[f32]) -> f64 {
    assert_eq!(weights.len(), decoded.len());
    let square = |x: f64| x * x;
    let error: f64 = weights.iter().zip(decoded).map(|(w, d)| square(f64::from(*w) - f64::from(*d))).sum();
    error / weights.iter().map(|w| square(f64::from(*w))).sum::<f64>()
}

pub(crate) fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}

/// Little-endian bytes of `values` in a storage type.
pub(crate) fn narrow(values: &[f32], dtype: FloatDtype) -> Vec<u8> {
    match dtype {
        FloatDtype::F32 => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        FloatDtype::F16 => values.iter().flat_map(|v| f16::from_f32(*v).to_le_bytes()).collect(),
        FloatDtype::Bf16 => values.iter().flat_map(|v| bf16::from_f32(*v).to_le_bytes()).collect(),
    }
}

pub(crate) fn safetensors_dtype(dtype: FloatDtype) -> Dtype {
    match dtype {
        FloatDtype::F32 => Dtype::F32,
        FloatDtype::F16 => Dtype::F16,
        FloatDtype::Bf16 => Dtype::BF16,
    }
}

/// A tensor to store.
pub(crate) struct Tensor {
    pub(crate) name: &'static str,
    pub(crate) dtype: Dtype,
    pub(crate) shape: Vec<usize>,
    pub(crate) bytes: Vec<u8>,
}

impl Tensor {
    pub(crate) fn float(name: &'static str, dtype: FloatDtype, shape: &[usize], values: &[f32]) -> Self {
        Self { name, dtype: safetensors_dtype(dtype), shape: shape.to_vec(), bytes: narrow(values, dtype) }
    }

    fn random(name: &'static str, dtype: FloatDtype, shape: &[usize], random: &mut Random) -> Self {
        Self::float(name, dtype, shape, &random.normals(shape.iter().product(), 0.05))
    }
}

pub(crate) fn write_shard(path: &Path, tensors: &[Tensor]) {
    let views = tensors.iter().map(|t| (t.name, TensorView::new(t.dtype, t.shape.clone(), &t.bytes).unwrap()));
    serialize_to_file(views, None, path).unwrap();
}

/// A plain model of one layer: a fused matrix of three linears, two other linears, and tensors that are not linears.
pub(crate) fn plain_model(dtype: FloatDtype) -> Vec<Tensor> {
    let mut random = Random(7);
    vec![
        Tensor::random("embed.weight", dtype, &[5, 8], &mut random),
        Tensor::random("layer.qkv_proj.weight", dtype, &[8, 8], &mut random),
        Tensor::random("layer.o_proj.weight", dtype, &[3, 8], &mut random),
        Tensor::random("lm_head.weight", dtype, &[5, 8], &mut random),
        Tensor::random("norm.weight", FloatDtype::F32, &[8], &mut random),
        Tensor { name: "positions", dtype: Dtype::I64, shape: vec![2], bytes: (0..16).collect() },
    ]
}

/// The linears of [`plain_model`]: q and o become `q8`, k `f32`, v and the head stay plain.
pub(crate) fn parts(tensor: &str, shape: &[usize]) -> Option<Vec<Part>> {
    let part = |module: &str, rows, scheme: Option<Scheme>| Part {
        module: module.to_owned(),
        rows,
        recipe: scheme.map(Recipe::from),
    };
    Some(match tensor {
        "layer.qkv_proj.weight" => vec![
            part("layer.q_proj", 0..4, Some(Scheme::Q8)),
            part("layer.k_proj", 4..6, Some(Scheme::CompandedF32)),
            part("layer.v_proj", 6..8, None),
        ],
        "layer.o_proj.weight" => vec![part("layer.o_proj", 0..shape[0], Some(Scheme::Q8))],
        "lm_head.weight" => vec![part("lm_head", 0..shape[0], None)],
        _ => return None,
    })
}

/// As [`parts`], but with grouped schemes: k becomes `q3`, q and o `q5`.
pub(crate) fn grouped_parts(tensor: &str, shape: &[usize]) -> Option<Vec<Part>> {
    let mut parts = parts(tensor, shape)?;
    for part in &mut parts {
        part.recipe =
            part.recipe.take().map(|r| if r.scheme == Scheme::CompandedF32 { Scheme::Q3 } else { Scheme::Q5 }.into());
    }
    Some(parts)
}

/// The bytes of a part stored in words, without the padding of rows.
pub(crate) fn bytes_of(encoded: &EncodedTensor, name: &str) -> Vec<u8> {
    let part = encoded.format().parts().into_iter().find(|part| part.name == name).unwrap();
    let row = part.width() * part.element.size();
    let bytes: &[u8] = bytemuck::cast_slice(encoded.part(name).unwrap());
    bytes.chunks(row.next_multiple_of(4).max(1)).flat_map(|bytes| &bytes[..row]).copied().collect()
}

/// The modules that [`parts`] encodes.
pub(crate) const ENCODED: [(&str, [usize; 2]); 3] =
    [("layer.q_proj", [4, 8]), ("layer.k_proj", [2, 8]), ("layer.o_proj", [3, 8])];

/// The number of shards of a model.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Shards {
    One,
    Two,
}

type FilesByName = Vec<(String, Vec<u8>)>;

/// A temporary directory with the checkpoint `plain`, and `encoded` if requested.
pub(crate) struct Home(TempDir);

impl Home {
    pub(crate) fn new(dtype: FloatDtype, shards: Shards) -> Self {
        let home = Self(TempDir::new().unwrap());
        fs::create_dir(home.path("plain")).unwrap();
        let tensors = plain_model(dtype);
        match shards {
            Shards::One => write_shard(&home.path("plain/model.safetensors"), &tensors),
            Shards::Two => {
                let mut map = serde_json::Map::new();
                for (tensors, name) in tensors.chunks(3).zip(["a-1-of-2.safetensors", "a-2-of-2.safetensors"]) {
                    write_shard(&home.path("plain").join(name), tensors);
                    map.extend(tensors.iter().map(|t| (t.name.to_owned(), json!(name))));
                }
                let index = json!({ "metadata": {}, "weight_map": map });
                fs::write(home.path("plain/model.safetensors.index.json"), index.to_string()).unwrap();
            }
        }
        fs::write(home.path("plain/config.json"), CONFIG).unwrap();
        home
    }

    /// With `encoded`, converted from `plain`; only once per process, since a conversion flushes to disk.
    pub(crate) fn encoded(shards: Shards) -> Self {
        static FILES: [OnceLock<FilesByName>; 2] = [const { OnceLock::new() }; 2];
        Self::copy(&FILES[shards as usize], shards, &parts)
    }

    /// As [`encoded`](Self::encoded), with the encoded modules in groups.
    pub(crate) fn grouped() -> Self {
        static FILES: OnceLock<FilesByName> = OnceLock::new();
        Self::copy(&FILES, Shards::One, &grouped_parts)
    }

    fn copy(files: &OnceLock<FilesByName>, shards: Shards, parts: &convert::Parts<'_>) -> Self {
        let files = files.get_or_init(|| {
            let home = Self::new(FloatDtype::Bf16, shards);
            home.convert_parts("plain", "encoded", parts).unwrap();
            let dir = home.path("encoded");
            list(&dir).into_iter().map(|name| (name.clone(), fs::read(dir.join(name)).unwrap())).collect()
        });
        let home = Self::new(FloatDtype::Bf16, shards);
        fs::create_dir(home.path("encoded")).unwrap();
        for (name, content) in files {
            fs::write(home.path("encoded").join(name), content).unwrap();
        }
        home
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn convert(&self, from: &str, to: &str) -> Result<(), Error> {
        self.convert_parts(from, to, &parts)
    }

    pub(crate) fn convert_parts(&self, from: &str, to: &str, parts: &convert::Parts<'_>) -> Result<(), Error> {
        convert::convert(&open(&self.path(from))?, &self.path(to), parts, &|_| {}).map(drop)
    }

    /// All entries, hidden ones included.
    pub(crate) fn list(&self) -> Vec<String> {
        list(self.0.path())
    }
}

/// Numbers that rewriting could change: many digits, large integers, exponents.
pub(crate) const CONFIG: &str = r#"{
  "architectures": ["Tiny"], "rope_theta": 10000.0, "eps": 1e-05, "window": null, "big": 18446744073709551615,
  "factors": [1.190238070557007, 0.1, 1.0299999713897705, 64.76000000000001, 5e-324, 1.7976931348623157e308],
  "nested": { "ünïcode": "\u0000 \" \\ ☃" }
}"#;

pub(crate) fn list(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

pub(crate) fn open(dir: &Path) -> Result<Checkpoint, Error> {
    Checkpoint::open(Files::Directory(dir.to_owned()))
}

/// Opens a checkpoint and reads all of it: encoded modules decoded, other tensors as bytes.
pub(crate) fn read(dir: &Path) -> Result<(), Error> {
    let checkpoint = open(dir)?;
    for (module, shape) in ENCODED {
        if checkpoint.quantization().is_some() {
            let encoded = checkpoint.encoded(module)?;
            if encoded.shape() != shape {
                return Err(Error::tensor(
                    dir,
                    module,
                    format!("expected shape {shape:?}, found {:?}", encoded.shape()),
                ));
            }
            encoded.decode_into(&mut vec![0.0; shape[0] * shape[1]]);
        }
    }
    for name in checkpoint.tensors() {
        let (dtype, _, bytes) = checkpoint.raw(name).unwrap();
        if FloatDtype::from_safetensors(dtype).is_some() {
            assert_eq!(checkpoint.plain(name)?.bytes, bytes);
        }
    }
    Ok(())
}

pub(crate) fn edit_json(path: &Path, edit: impl FnOnce(&mut Value)) {
    let mut value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    edit(&mut value);
    fs::write(path, value.to_string()).unwrap();
}

/// Rewrites the header of a safetensors file; the tensors' bytes stay.
pub(crate) fn edit_header(path: &Path, edit: impl FnOnce(&mut Value)) {
    let file = fs::read(path).unwrap();
    let (header, data) = file[8..].split_at(u64::from_le_bytes(file[..8].try_into().unwrap()) as usize);
    let mut value = serde_json::from_slice(header).unwrap();
    edit(&mut value);
    let header = value.to_string();
    let length = (header.len() as u64).to_le_bytes();
    fs::write(path, [&length, header.as_bytes(), data].concat()).unwrap();
}

/// Rewrites the bytes of one tensor of a safetensors file, and its checksum, if it has one.
pub(crate) fn edit_tensor(path: &Path, name: &str, edit: impl FnOnce(&mut [u8])) {
    let mut file = fs::read(path).unwrap();
    let start = 8 + u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
    let header: Value = serde_json::from_slice(&file[8..start]).unwrap();
    let offset = |i: usize| start + header[name]["data_offsets"][i].as_u64().unwrap() as usize;
    let (from, to) = (offset(0), offset(1));
    let checksum = |bytes: &[u8]| format!("\\\"{name}\\\":\\\"{:016x}\\\"", xxhash_rust::xxh3::xxh3_64(bytes));
    let before = checksum(&file[from..to]);
    edit(&mut file[from..to]);
    let after = checksum(&file[from..to]);
    if let Some(at) = file[..start].windows(before.len()).position(|w| w == before.as_bytes()) {
        file[at..at + after.len()].copy_from_slice(after.as_bytes());
    }
    fs::write(path, file).unwrap();
}
