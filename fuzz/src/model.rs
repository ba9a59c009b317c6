//! Small matrices in every form, and checkpoints of them in memory.

use std::{collections::BTreeMap, fs, sync::OnceLock};

use qins_quant::{
    FloatDtype, Recipe, Scheme,
    checkpoint::{Checkpoint, FORMAT_VERSION, Files},
    convert::{self, Part},
    verify::verify,
};
use safetensors::{
    SafeTensors, serialize,
    tensor::{Metadata, TensorView},
};
use serde_json::{Value, json};
use xxhash_rust::xxh3::xxh3_64;

/// The shape of every small matrix: more than a group, and not a whole number of groups.
pub const SHAPE: [usize; 2] = [2, 40];

/// A matrix of one form.
#[derive(Clone, Debug)]
pub struct Kind {
    /// Its module, named after the form.
    pub module: String,
    /// How it is encoded.
    pub recipe: Recipe,
    /// The source's type.
    pub source: FloatDtype,
}

/// A matrix of every form. The source's type matters to the schemes that keep its bits.
pub fn kinds() -> Vec<Kind> {
    let mut kinds = Vec::new();
    for scheme in Scheme::ALL {
        for coded in [false, true] {
            let recipe = Recipe { coded, ..scheme.into() };
            for source in [FloatDtype::Bf16, FloatDtype::F16, FloatDtype::F32] {
                let exact = scheme.is_lossless() || source == FloatDtype::Bf16;
                if recipe.is_coded() == coded && exact {
                    let module = format!("{scheme}{}.{source:?}", if coded { ".coded" } else { "" });
                    kinds.push(Kind { module, recipe: recipe.clone(), source });
                }
            }
        }
    }
    kinds
}

/// Weights of every small matrix: multiples of 2⁻¹¹ that any of the types holds.
fn weights() -> Vec<f32> {
    (0..SHAPE[0] * SHAPE[1]).map(|i| (i * i * 37 % 255) as f32 / 2048.0 - 0.0625).collect()
}

/// Plain weights of all `kinds`.
fn plain(kinds: &[Kind]) -> Checkpoint {
    let tensors = kinds.iter().map(|kind| (kind.module.as_str(), kind.source, kind.source.narrow(&weights())));
    shard(SHAPE, &tensors.collect::<Vec<_>>())
}

/// Two matrices of bf16 in one tensor `whole.weight`.
fn fused() -> Checkpoint {
    let [rows, cols] = SHAPE;
    shard([2 * rows, cols], &[("whole", FloatDtype::Bf16, FloatDtype::Bf16.narrow(&weights()).repeat(2))])
}

fn shard(shape: [usize; 2], modules: &[(&str, FloatDtype, Vec<u8>)]) -> Checkpoint {
    let views = modules.iter().map(|(module, dtype, bytes)| {
        let view = TensorView::new(stored(*dtype), shape.to_vec(), bytes).expect("bytes of this shape");
        (format!("{module}.weight"), view)
    });
    let shard = serialize(views, None).expect("names that differ");
    Checkpoint::open(files(b"{}", &shard)).expect("a plain checkpoint")
}

fn stored(dtype: FloatDtype) -> safetensors::Dtype {
    match dtype {
        FloatDtype::F32 => safetensors::Dtype::F32,
        FloatDtype::F16 => safetensors::Dtype::F16,
        FloatDtype::Bf16 => safetensors::Dtype::BF16,
    }
}

/// A checkpoint of one shard.
pub fn files(config: &[u8], shard: &[u8]) -> Files {
    let files = [("config.json", config), ("model.safetensors", shard)];
    Files::Memory(BTreeMap::from(files.map(|(name, bytes)| (name.to_owned(), bytes.into()))).into())
}

/// The config and shard of `kinds`, written by a conversion.
pub fn converted(kinds: &[Kind]) -> (Vec<u8>, Vec<u8>) {
    let source = plain(kinds);
    let parts = |tensor: &str, shape: &[usize]| {
        let kind = kinds.iter().find(|kind| tensor.strip_suffix(".weight") == Some(&kind.module))?;
        Some(vec![Part { module: kind.module.clone(), rows: 0..shape[0], recipe: Some(kind.recipe.clone()) }])
    };
    let place = tempfile::tempdir().expect("a temporary directory");
    let out = place.path().join("out");
    convert::convert(&source, &out, &parts, &|_| {}).expect("matrices of any form");
    let read = |name| fs::read(out.join(name)).expect("what a conversion writes");
    (read("config.json"), read("model.safetensors"))
}

/// `config.json` of those `kinds` that a shard has.
pub fn config_of(shard: &[u8]) -> Value {
    static KINDS: OnceLock<Vec<Kind>> = OnceLock::new();
    let header = SafeTensors::read_metadata(shard).ok();
    let has = |kind: &&Kind| {
        header.as_ref().is_some_and(|(_, header)| header.info(&format!("{}.weight_packed", kind.module)).is_some())
    };
    let groups = KINDS.get_or_init(kinds).iter().filter(has).map(|Kind { module, recipe, source }| {
        let coding = recipe.is_coded().then_some("pco");
        let group = json!({ "targets": [module], "scheme": recipe.scheme, "source_dtype": source, "coding": coding });
        (module.clone(), group)
    });
    let groups: serde_json::Map<_, _> = groups.collect();
    let modules: Vec<_> = groups.keys().cloned().collect();
    json!({ "quantization_config": {
        "quant_method": "qins", "format_version": FORMAT_VERSION,
        "config_groups": groups, "ignore": [], "fused": { "whole": modules },
    } })
}

/// The shard with correct checksums, if it is valid: the fuzzer cannot guess them, and readers stop at damaged tensors.
pub fn signed(shard: &[u8]) -> Option<Vec<u8>> {
    let (length, header) = SafeTensors::read_metadata(shard).ok()?;
    let data = &shard[8 + length..];
    let tensors: Vec<_> = header
        .offset_keys()
        .into_iter()
        .map(|name| (name.clone(), header.info(&name).expect("a key").clone()))
        .collect();
    let checksums: BTreeMap<_, _> = tensors
        .iter()
        .map(|(name, info)| (name, format!("{:016x}", xxh3_64(&data[info.data_offsets.0..info.data_offsets.1]))))
        .collect();
    let metadata = [("qins".to_owned(), json!({ "xxh3": checksums }).to_string())].into();
    let header = serde_json::to_vec(&Metadata::new(Some(metadata), tensors).ok()?).ok()?;
    Some([&(header.len() as u64).to_le_bytes(), &*header, data].concat())
}

/// Reads a whole checkpoint; returns whether it has no faults.
///
/// # Panics
/// When a scheme that guarantees finite weights decodes to others.
pub fn read(files: Files) -> bool {
    static SOURCES: OnceLock<[Checkpoint; 2]> = OnceLock::new();
    let [source, fused] = SOURCES.get_or_init(|| [plain(&kinds()), self::fused()]);
    let Ok(checkpoint) = Checkpoint::open(files) else { return false };
    for name in checkpoint.tensors() {
        let (dtype, shape, bytes) = checkpoint.raw(name).expect("a tensor that was listed");
        assert_eq!(shape.iter().product::<usize>() * dtype.bitsize(), bytes.len() * 8);
        assert_eq!(checkpoint.plain(name).is_ok(), FloatDtype::from_safetensors(dtype).is_some());
    }
    assert_eq!(checkpoint.shards().flat_map(|s| checkpoint.tensors_of(s)).count(), checkpoint.tensors().count());
    for module in checkpoint.encoded_modules() {
        assert!(checkpoint.scheme(module).is_some() && checkpoint.source_dtype(module).is_some());
        if let Ok(encoded) = checkpoint.encoded(module) {
            assert_eq!(checkpoint.encoded_shape(module).ok(), Some(encoded.shape()));
            assert!(
                checkpoint.bytes_of_module(module).expect("of a module that was read") <= checkpoint.tensor_bytes()
            );
            crate::packed::decode(&encoded);
        }
    }
    let alone = verify(&checkpoint, None, &|_| {}).expect("no source, no error");
    let beside = verify(&checkpoint, Some(source), &|_| {}).expect("a plain source");
    assert!(alone.faults.len() <= beside.faults.len());
    if checkpoint.quantization().is_some_and(|q| !q.fused.is_empty()) {
        verify(&checkpoint, Some(fused), &|_| {}).expect("a plain source");
    }
    // The source has matrices of every form, most of which are missing from this checkpoint.
    alone.faults.is_empty()
}
