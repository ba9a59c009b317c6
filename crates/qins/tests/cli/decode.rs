//! An independent decoder of stored bytes, written from docs/format.md.

use std::{collections::BTreeMap, path::Path};

use crate::common::{Tensor, read_tensors};

/// A `f16` by its bits.
pub(crate) fn f16(bits: u16) -> f32 {
    let (sign, exponent, mantissa) = (bits >> 15, i32::from(bits >> 10 & 0x1f), f32::from(bits & 0x3ff));
    let magnitude = match exponent {
        0 => mantissa * 2_f32.powi(-24),
        31 => f32::INFINITY,
        _ => (1.0 + mantissa / 1024.0) * 2_f32.powi(exponent - 15),
    };
    if sign == 1 { -magnitude } else { magnitude }
}

/// A `bf16` by its bits.
pub(crate) fn bf16(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

/// The 16-bit words of a tensor.
pub(crate) fn words(tensor: &Tensor) -> impl Iterator<Item = u16> {
    tensor.bytes.chunks(2).map(|b| u16::from_le_bytes([b[0], b[1]]))
}

/// The numbers of a plain tensor.
pub(crate) fn numbers(tensor: &Tensor) -> Vec<f32> {
    match &tensor.dtype[..] {
        "F32" => tensor.bytes.chunks(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect(),
        "F16" => words(tensor).map(f16).collect(),
        "BF16" => words(tensor).map(bf16).collect(),
        other => panic!("{other} is no type of weights"),
    }
}

/// A module of the scheme `q8`.
pub(crate) fn q8(tensors: &BTreeMap<String, Tensor>, module: &str) -> Vec<f32> {
    let part = |suffix: &str| &tensors[&format!("{module}.weight_{suffix}")];
    let (codes, scale, curvature) = (part("packed"), part("scale"), part("curvature"));
    let rows = codes.bytes.chunks(codes.shape[1]).zip(words(scale).zip(words(curvature)));
    let decode = |(codes, (scale, curvature)): (&[u8], _)| {
        let (scale, curvature) = (f16(scale), f16(curvature));
        let one = |code: &u8| {
            let q = f32::from(code & 0x7f);
            let x = scale * (q / (127.0 + curvature * (127.0 - q)));
            if *code < 0x80 { x } else { -x }
        };
        codes.iter().map(one).collect::<Vec<f32>>()
    };
    rows.flat_map(decode).collect()
}

/// All tensors of a model directory.
pub(crate) fn tensors_of(dir: &Path) -> BTreeMap<String, Tensor> {
    shards(dir).iter().flat_map(|path| read_tensors(path)).collect()
}

/// The safetensors files of a model directory, sorted.
pub(crate) fn shards(dir: &Path) -> Vec<std::path::PathBuf> {
    let files = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let mut shards: Vec<_> = files.filter(|path| path.extension().is_some_and(|e| e == "safetensors")).collect();
    shards.sort();
    shards
}

/// Takes every fused matrix of a model of one file apart, into the names that Llama uses.
pub(crate) fn unfuse(tensors: &mut BTreeMap<String, Tensor>, query_rows: usize) {
    let fused: Vec<String> =
        tensors.keys().filter(|name| name.contains("qkv_proj") || name.contains("gate_up")).cloned().collect();
    for name in fused {
        let Tensor { dtype, shape, bytes } = tensors.remove(&name).unwrap();
        let (parent, is_attention) =
            (name.rsplit_once('.').unwrap().0.rsplit_once('.').unwrap().0, name.contains("qkv"));
        let rest = shape[0] - query_rows;
        let parts = if is_attention {
            vec![("q_proj", query_rows), ("k_proj", rest / 2), ("v_proj", rest / 2)]
        } else {
            vec![("gate_proj", shape[0] / 2), ("up_proj", shape[0] / 2)]
        };
        let mut bytes = &bytes[..];
        for (part, rows) in parts {
            let (own, others) = bytes.split_at(bytes.len() / (bytes.len() / (shape[1] * size(&dtype))) * rows);
            bytes = others;
            let tensor = Tensor { dtype: dtype.clone(), shape: vec![rows, shape[1]], bytes: own.to_vec() };
            tensors.insert(format!("{parent}.{part}.weight"), tensor);
        }
    }
}

fn size(dtype: &str) -> usize {
    if dtype == "F32" { 4 } else { 2 }
}
