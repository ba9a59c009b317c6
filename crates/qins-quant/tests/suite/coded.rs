//! Entropy-coded files: the same codes in fewer bytes, and damage is detected.

use std::{fs, path::Path};

use qins_quant::{
    EncodeOptions, EncodedTensor, FloatDtype, Form, MatrixFormat, Prune, Rate, Recipe, Scheme,
    checkpoint::Checkpoint,
    convert::{Part, convert},
};
use serde_json::json;
use tempfile::TempDir;

use crate::common::{Random, Tensor, bits, edit_header, edit_json, edit_tensor, nmse, open, write_shard};

/// Rows and columns that are not a whole number of blocks, bands or groups.
const SHAPE: [usize; 2] = [1031, 517];

fn weights() -> Vec<f32> {
    let mut random = Random(31);
    (0..SHAPE[0] * SHAPE[1]).map(|_| FloatDtype::Bf16.round((0.02 * random.student()) as f32)).collect()
}

fn recipe(scheme: Scheme, coded: bool) -> Recipe {
    Recipe { coded, ..scheme.into() }
}

/// A plain checkpoint of one matrix in `plain`.
fn home(weights: &[f32], dtype: FloatDtype) -> TempDir {
    let home = TempDir::new().unwrap();
    let plain = home.path().join("plain");
    fs::create_dir(&plain).unwrap();
    write_shard(&plain.join("model.safetensors"), &[Tensor::float("m.weight", dtype, &SHAPE, weights)]);
    fs::write(plain.join("config.json"), "{}").unwrap();
    home
}

fn converted(home: &TempDir, name: &str, recipe: &Recipe) -> Checkpoint {
    let out = home.path().join(name);
    let parts =
        |_: &str, _: &[usize]| Some(vec![Part { module: "m".into(), rows: 0..SHAPE[0], recipe: Some(recipe.clone()) }]);
    convert(&open(&home.path().join("plain")).unwrap(), &out, &parts, &|_| {}).unwrap();
    open(&out).unwrap()
}

#[test]
fn coded_file_holds_the_same_matrix_in_fewer_bytes() {
    let weights = weights();
    let home = home(&weights, FloatDtype::Bf16);
    for scheme in Scheme::ALL {
        let whole = EncodedTensor::encode_as(&weights, SHAPE, FloatDtype::Bf16, &scheme.into()).unwrap();
        let coded = converted(&home, &format!("{scheme}-coded"), &recipe(scheme, true));
        assert_eq!(coded.encoded("m").unwrap(), whole, "{scheme}");
        let bytes = coded.bytes_of_module("m").unwrap();
        assert_eq!(bytes, whole.file_bytes(true).unwrap(), "{scheme}");
        assert_eq!(coded.tensor_bytes(), bytes, "{scheme}");
        let plain = converted(&home, &format!("{scheme}-plain"), &recipe(scheme, false));
        assert_eq!(plain.encoded("m").unwrap(), whole, "{scheme}");
        if scheme.is_storage_only() {
            assert_eq!(plain.tensor_bytes(), bytes, "{scheme} is always coded");
        } else {
            assert_eq!(plain.tensor_bytes(), whole.file_bytes(false).unwrap(), "{scheme}");
            assert!(bytes < plain.tensor_bytes(), "{scheme}: {bytes} bytes");
        }
    }
}

#[test]
fn lossless_round_trips_every_bit_under_eleven_bits_per_weight() {
    // Student-t weights use more exponents than trained weights.
    let weights = weights();
    for (dtype, most) in [(FloatDtype::Bf16, 11.0), (FloatDtype::F16, 14.5), (FloatDtype::F32, 11.1)] {
        let home = home(&weights, dtype);
        let path = home.path().join("plain/model.safetensors");
        // A quiet NaN, a signalling one, both with a payload, −0, a subnormal and ∞.
        let odd: [u32; 5] = [0x7fc1_2345, 0xff81_0001, 0x8000_0000, 0x0000_0001, 0x7f80_0000];
        edit_tensor(&path, "m.weight", |bytes| {
            for (i, bits) in odd.into_iter().enumerate() {
                let bits = bits.to_le_bytes();
                let size = dtype.size();
                bytes[i * size..][..size].copy_from_slice(&bits[4 - size..]);
            }
        });
        let out = converted(&home, "out", &recipe(Scheme::Lossless, false));
        let source = open(&home.path().join("plain")).unwrap();
        let encoded = out.encoded("m").unwrap();
        assert!(encoded.bytes_of_rows(0..SHAPE[0]) == source.plain("m.weight").unwrap().bytes, "{dtype:?}");
        let bits = 8.0 * out.tensor_bytes() as f64 / weights.len() as f64;
        println!("{dtype:?}: {bits:.3} bits");
        assert!(bits <= most, "{dtype:?}: {bits} bits");
        // Every other scheme rejects them.
        let parts = |_: &str, _: &[usize]| {
            Some(vec![Part { module: "m".into(), rows: 0..SHAPE[0], recipe: Some(Scheme::Rate.into()) }])
        };
        let error = convert(&source, &home.path().join("rate"), &parts, &|_| {}).unwrap_err().to_string();
        assert!(error.contains("m.weight") && error.contains("NaN at row 0, column 0"), "{error}");
    }
}

#[test]
fn rate_costs_the_requested_bits_and_rounds_to_uniform_steps() {
    let weights = weights();
    let home = home(&weights, FloatDtype::Bf16);
    for rate in [1.5, 3.0, 4.0, 5.5, 8.0] {
        let options = EncodeOptions { rate: Rate::bits(rate).unwrap(), ..EncodeOptions::default() };
        let out = converted(&home, &format!("{rate}"), &Recipe { options, ..Scheme::Rate.into() });
        let found = 8.0 * out.tensor_bytes() as f64 / weights.len() as f64;
        assert!((rate - 0.02..=rate + 0.002).contains(&found), "{rate}: {found}");
        let encoded = out.encoded("m").unwrap();
        let codes: &[i32] = bytemuck::cast_slice(encoded.part("packed").unwrap());
        let step = encoded.floats("step").unwrap()[0];
        let decoded = encoded.decode();
        for ((w, d), q) in weights.iter().zip(&decoded).zip(codes) {
            assert!((w - d).abs() <= 0.5001 * step && *d == step * *q as f32, "{rate}: {w} became {d}");
        }
        // The entropy of the codes, to which the coder must be near.
        let mut counts = std::collections::HashMap::new();
        codes.iter().for_each(|q| *counts.entry(q).or_insert(0_u32) += 1);
        let share = |n: &u32| f64::from(*n) / codes.len() as f64;
        let entropy: f64 = counts.values().map(|n| -share(n) * share(n).log2()).sum();
        println!(
            "{rate}: {found:.3} bits, {entropy:.3} of them needed, {:.2} dB",
            -10.0 * nmse(&weights, &decoded).log10()
        );
        assert!(found - entropy < 0.05, "{rate}: {found} bits for {entropy}");
    }
    for wrong in [0.4, 16.1, -1.0, f64::NAN, f64::INFINITY] {
        assert!(Rate::bits(wrong).unwrap_err().contains("0.5 to 16"), "{wrong}");
    }
}

#[test]
fn pruned_rows_have_the_requested_share_of_zeros() {
    let weights = weights();
    let home = home(&weights, FloatDtype::Bf16);
    let pruned = |scheme: Scheme, share: f32| Recipe {
        options: EncodeOptions { prune: Prune::new(share).unwrap(), ..EncodeOptions::default() },
        ..scheme.into()
    };
    for scheme in [Scheme::CompandedF32, Scheme::Q8, Scheme::Q4, Scheme::Rate] {
        let decoded = converted(&home, scheme.name(), &pruned(scheme, 0.5)).encoded("m").unwrap().decode();
        for (x, d) in weights.chunks(SHAPE[1]).zip(decoded.chunks(SHAPE[1])) {
            let zeros = d.iter().filter(|d| **d == 0.0).count();
            assert!(zeros >= SHAPE[1] / 2, "{scheme}: {zeros}");
            assert!(zeros == SHAPE[1].div_ceil(2) || scheme != Scheme::CompandedF32, "{scheme}: {zeros}");
            let least = x.iter().zip(d).filter(|(_, d)| **d != 0.0).map(|(x, _)| x.abs()).fold(f32::MAX, f32::min);
            let most = x.iter().zip(d).filter(|(_, d)| **d == 0.0).map(|(x, _)| x.abs()).fold(0.0, f32::max);
            assert!(least >= most || scheme != Scheme::CompandedF32, "{least} was kept and {most} was not");
        }
    }
    let none = |_: &str, _: &[usize]| {
        Some(vec![Part { module: "m".into(), rows: 0..SHAPE[0], recipe: Some(pruned(Scheme::Lossless, 0.1)) }])
    };
    let source = open(&home.path().join("plain")).unwrap();
    let error = convert(&source, &home.path().join("no"), &none, &|_| {}).unwrap_err().to_string();
    assert!(error.contains("lossless") && error.contains("prune"), "{error}");
}

#[test]
fn conversion_in_bands_is_byte_identical_to_whole_and_repeatable() {
    let weights = weights();
    let home = home(&weights, FloatDtype::Bf16);
    for scheme in [Scheme::Lossless, Scheme::Rate, Scheme::Q3] {
        converted(&home, &format!("{scheme}1"), &recipe(scheme, true));
        converted(&home, &format!("{scheme}2"), &recipe(scheme, true));
        let read = |n: u8| fs::read(home.path().join(format!("{scheme}{n}/model.safetensors"))).unwrap();
        assert!(read(1) == read(2), "{scheme}");
    }
}

/// A name, a way to damage a coded checkpoint, and what the error must contain.
type Case = (&'static str, fn(&Path), &'static [&'static str]);

const PACKED: &str = "m.weight_packed";
const BLOCKS: &str = "m.weight_packed_blocks";

fn shard(dir: &Path, name: &str, edit: impl FnOnce(&mut [u8])) {
    edit_tensor(&dir.join("model.safetensors"), name, edit);
}

fn shape(dir: &Path, dimensions: [i64; 2]) {
    shard(dir, "m.weight_shape", |bytes| {
        bytes.copy_from_slice(&dimensions.map(i64::to_le_bytes).concat());
    });
}

#[test]
fn damaged_coded_parts_are_rejected() {
    let cases: [Case; 15] = [
        ("another coder", |dir| config(dir, "coding", "zip"), &["config.json", "zip"]),
        (
            "no coding, which the scheme requires",
            |dir| {
                edit_json(&dir.join("config.json"), |c| {
                    let group = &mut c["quantization_config"]["config_groups"]["group_0"];
                    drop(group.as_object_mut().unwrap().remove("coding"));
                });
            },
            &["config.json", "expected a coding with scheme rate"],
        ),
        ("a shape of more rows", |dir| shape(dir, [1 << 30, 517]), &[BLOCKS, "expected U32 of shape"]),
        ("a shape of some more rows", |dir| shape(dir, [1032, 517]), &[PACKED, "block 1", "numbers"]),
        ("a shape of fewer", |dir| shape(dir, [1030, 517]), &[PACKED, "block 0"]),
        ("other columns", |dir| shape(dir, [1031, 516]), &[PACKED, "block"]),
        ("negative rows", |dir| shape(dir, [-1, 517]), &["m.weight_shape", "at least 0"]),
        ("an absurd shape", |dir| shape(dir, [1, 1 << 50]), &[BLOCKS, "expected U32 of shape [1]"]),
        ("an overflowing shape", |dir| shape(dir, [i64::MAX, i64::MAX]), &[BLOCKS, "expected U32"]),
        ("a block longer", |dir| shard(dir, BLOCKS, |b| b[0] ^= 1), &[PACKED, "blocks"]),
        (
            "blocks cut elsewhere",
            |dir| {
                shard(dir, BLOCKS, |b| {
                    (b[0], b[4]) = (b[0] ^ 1, b[4].wrapping_add(if b[0] & 1 == 1 { 1 } else { 255 }))
                })
            },
            &[PACKED, "block"],
        ),
        ("no magic", |dir| shard(dir, PACKED, |b| b[0] ^= 1), &[PACKED, "block 0"]),
        (
            "damage under the original checksum",
            |dir| {
                let path = dir.join("model.safetensors");
                let mut file = fs::read(&path).unwrap();
                *file.last_mut().unwrap() ^= 1;
                fs::write(path, file).unwrap();
            },
            &[PACKED, "checksum"],
        ),
        (
            "no checksums",
            |dir| edit_header(&dir.join("model.safetensors"), |h| h["__metadata__"] = json!({ "format": "pt" })),
            &["m.weight_shape", "expected a checksum"],
        ),
        (
            "invalid checksums",
            |dir| edit_header(&dir.join("model.safetensors"), |h| h["__metadata__"]["qins"] = json!("[]")),
            &["model.safetensors", "metadata `qins`"],
        ),
    ];
    fn config(dir: &Path, key: &str, value: &str) {
        edit_json(&dir.join("config.json"), |c| {
            c["quantization_config"]["config_groups"]["group_0"][key] = json!(value);
        });
    }
    let home = home(&weights(), FloatDtype::Bf16);
    converted(&home, "out", &Scheme::Rate.into());
    let dir = home.path().join("out");
    let good: Vec<(&str, Vec<u8>)> =
        ["config.json", "model.safetensors"].map(|name| (name, fs::read(dir.join(name)).unwrap())).into();
    for (name, damage, parts) in cases {
        good.iter().for_each(|(file, bytes)| fs::write(dir.join(file), bytes).unwrap());
        open(&dir).unwrap().encoded("m").unwrap();
        damage(&dir);
        let error = open(&dir).and_then(|c| c.encoded("m")).expect_err(name).to_string();
        assert!(error.starts_with(dir.to_str().unwrap()), "{name}: {error}");
        for part in parts {
            assert!(error.contains(part), "{name}: no {part:?} in {error:?}");
        }
    }
}

#[test]
fn invalid_rate_parts_are_rejected() {
    let rate = |codes: Vec<i32>, step| {
        let parts = vec![codes.into_iter().map(i32::cast_unsigned).collect(), vec![f32::to_bits(step)]];
        EncodedTensor::from_parts(MatrixFormat::new(Form::Rate, FloatDtype::Bf16, 2), 1, parts)
    };
    assert_eq!(bits(&rate(vec![-3, 1 << 24], 0.5).unwrap().decode()), bits(&[-1.5, (1 << 23) as f32]));
    assert!(rate(vec![0; 3], 1.0).is_err());
    for step in [f32::NAN, f32::INFINITY, -1.0, 1e38] {
        assert!(rate(vec![0; 2], step).unwrap_err().to_string().contains("step"), "{step}");
    }
    for code in [(1 << 24) + 1, i32::MIN, i32::MAX] {
        let error = rate(vec![0, code], 1.0).unwrap_err().to_string();
        assert!(error.contains("row 0, column 1") && error.contains(&code.to_string()), "{error}");
    }
    for (dtype, low) in [(FloatDtype::Bf16, 0), (FloatDtype::F16, 0), (FloatDtype::F32, 1)] {
        let format = MatrixFormat::new(Form::Lossless, dtype, 2);
        let lossless = |high: usize, low: usize| {
            let parts = [high, low].into_iter().filter(|n| *n > 0).map(|n| vec![0; n]).collect();
            EncodedTensor::from_parts(format, 1, parts).is_ok()
        };
        assert!(lossless(1, low) && !lossless(2, low) && !lossless(0, low) && !lossless(1, low + 1));
    }
}
