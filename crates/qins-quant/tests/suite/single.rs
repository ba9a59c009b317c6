//! One matrix: its product, and its file.

use std::{fs, path::Path};

use proptest::prelude::*;
use qins_quant::{
    Alpha, EncodeOptions, EncodedTensor, FloatDtype, MatmulError, Recipe, Scheme, checkpoint::FORMAT_VERSION, kernel,
};
use serde_json::{Value, json};
use tempfile::{TempDir, tempdir};

use crate::{
    common::{Random, bits, edit_header, edit_tensor, list},
    fuzz::{edit_file, edit_header_bytes, edits},
};

const SHAPE: [usize; 2] = [5, 70];

fn encoded(scheme: Scheme, source: FloatDtype) -> EncodedTensor {
    let weights = source.widen(&source.narrow(&Random(40).normals(SHAPE[0] * SHAPE[1], 0.02)));
    EncodedTensor::encode_as(&weights, SHAPE, source, &scheme.into()).unwrap()
}

fn saved(w: &EncodedTensor) -> (TempDir, std::path::PathBuf) {
    let dir = tempdir().unwrap();
    let path = dir.path().join("w.safetensors");
    w.save(&path).unwrap();
    (dir, path)
}

#[test]
fn matmul_equals_kernel_linear_and_rejects_wrong_lengths() {
    let x = Random(41).normals(3 * SHAPE[1], 1.0);
    for scheme in Scheme::ALL {
        let w = encoded(scheme, FloatDtype::F32);
        let (mut y, mut expected) = ([f32::NAN; 15], [0.0; 15]);
        w.matmul(&x, &mut y).unwrap();
        kernel::linear(w.rows(), SHAPE, &x, &mut expected);
        assert_eq!(bits(&y), bits(&expected), "{scheme}");
        let error = w.matmul(&x[1..], &mut y).unwrap_err();
        assert_eq!(error, MatmulError::Input { cols: 70, found: 209 });
        let error = w.matmul(&x, &mut y[1..]).unwrap_err();
        assert_eq!(error, MatmulError::Output { expected: [3, 5], found: 14 });
        assert_eq!(error.to_string(), "expected y to have 15 elements (shape [3, 5]), found 14");
        assert_eq!(w.matmul(&[], &mut []), Ok(()), "no rows");
    }
    let empty = |shape| EncodedTensor::encode(&[], shape, Scheme::Q4).unwrap();
    let mut y = [1.0; 6];
    assert_eq!((empty([3, 0]).matmul(&[], &mut y), y), (Ok(()), [0.0; 6]));
    assert!(empty([3, 0]).matmul(&[1.0], &mut y).is_err() && empty([3, 0]).matmul(&[], &mut y[..5]).is_err());
    assert_eq!(empty([0, 3]).matmul(&[1.0; 6], &mut []), Ok(()));
    assert!(empty([0, 3]).matmul(&[1.0; 6], &mut y).is_err());
}

#[test]
fn saved_matrix_loads_equal_and_replaces_an_existing_file() {
    for scheme in Scheme::ALL {
        for source in [FloatDtype::F32, FloatDtype::F16, FloatDtype::Bf16] {
            let w = encoded(scheme, source);
            let (dir, path) = saved(&w);
            w.save(&path).unwrap();
            assert_eq!(EncodedTensor::load(&path).unwrap(), w, "{scheme} {source:?}");
            assert_eq!(list(dir.path()), ["w.safetensors"], "{scheme}: nothing else is left");
        }
    }
    let options = EncodeOptions { alpha: Some(Alpha::new(0.37).unwrap()), ..EncodeOptions::default() };
    for shape in [[0, 0], [0, 5], [5, 0], [5, 1]] {
        let weights = vec![0.25; shape[0] * shape[1]];
        let recipe = Recipe::new(Scheme::CompandedF32, options);
        let w = EncodedTensor::encode_as(&weights, shape, FloatDtype::F16, &recipe).unwrap();
        let (dir, _) = saved(&w);
        // A missing directory is created.
        let path = dir.path().join("a/b/w");
        w.save(&path).unwrap();
        assert_eq!(EncodedTensor::load(&path).unwrap(), w, "{shape:?}");
    }
    let w = encoded(Scheme::Q4, FloatDtype::F32);
    assert!(w.save("/").is_err() && EncodedTensor::load("/").is_err());
}

#[test]
fn saved_matrix_has_the_tensors_of_a_checkpoint() {
    let (_dir, path) = saved(&encoded(Scheme::Q4, FloatDtype::Bf16));
    let mut names = Vec::new();
    let mut own = Value::Null;
    edit_header(&path, |header| {
        own = serde_json::from_str(header["__metadata__"]["qins"].as_str().unwrap()).unwrap();
        names = header.as_object().unwrap().keys().filter(|name| *name != "__metadata__").cloned().collect();
    });
    let expected = ["curvature", "group_scale", "packed", "scale", "selector", "shape"];
    assert_eq!(names, expected.map(|part| format!("matrix.weight_{part}")));
    assert_eq!(own["xxh3"].as_object().unwrap().len(), names.len());
    let group = json!({ "targets": ["matrix"], "scheme": "q4", "source_dtype": "bfloat16" });
    let groups = json!({ "quant_method": "qins", "format_version": FORMAT_VERSION, "config_groups": { "group_0": group }, "ignore": [] });
    assert_eq!(own["quantization_config"], groups);
}

fn own_metadata(path: &Path, edit: impl FnOnce(&mut Value)) {
    edit_header(path, |header| {
        let text = &mut header["__metadata__"]["qins"];
        let mut own = serde_json::from_str(text.as_str().unwrap()).unwrap();
        edit(&mut own);
        *text = own.to_string().into();
    });
}

fn config(path: &Path, edit: impl FnOnce(&mut Value)) {
    own_metadata(path, |own| edit(&mut own["quantization_config"]));
}

/// A name, a way to damage a valid file, and what the error must contain.
type Case = (&'static str, fn(&Path), &'static [&'static str]);

#[test]
fn invalid_matrix_file_is_rejected() {
    let cases: &[Case] = &[
        ("missing", |p| fs::remove_file(p).unwrap(), &["No such file"]),
        ("empty", |p| fs::write(p, "").unwrap(), &["found 0 bytes"]),
        ("cut", |p| fs::write(p, &fs::read(p).unwrap()[..200]).unwrap(), &["expected a complete safetensors file"]),
        ("no metadata", |p| edit_header(p, |h| h["__metadata__"] = json!({})), &["expected one encoded matrix", "[]"]),
        ("no checksums", |p| own_metadata(p, |own| own["xxh3"] = json!({})), &["weight_shape", "expected a checksum"]),
        (
            "no quantization_config",
            |p| own_metadata(p, |own| own["quantization_config"] = Value::Null),
            &["expected one encoded matrix"],
        ),
        ("another method", |p| config(p, |c| c["quant_method"] = json!("gptq")), &["quant_method", "`gptq`"]),
        ("a newer format", |p| config(p, |c| c["format_version"] = json!(99)), &["found 99; a newer qins may read it"]),
        (
            "another name",
            |p| config(p, |c| c["config_groups"]["group_0"]["targets"] = json!(["m"])),
            &["m.weight_packed", "found no such tensor"],
        ),
        (
            "two names",
            |p| config(p, |c| c["config_groups"]["group_0"]["targets"] = json!(["matrix", "matrix"])),
            &["expected matrix once"],
        ),
        (
            "no scheme",
            |p| config(p, |c| c["config_groups"]["group_0"]["scheme"] = json!("q7")),
            &["quantization_config", "q7"],
        ),
        (
            "another scheme",
            |p| config(p, |c| c["config_groups"]["group_0"]["scheme"] = json!("q3")),
            &["matrix.weight_packed", "expected U8 of shape"],
        ),
        (
            "a bad alpha",
            |p| config(p, |c| c["config_groups"]["group_0"]["alpha"] = json!(-1.0)),
            &["quantization_config: alpha"],
        ),
        (
            "a scheme that is coded",
            |p| config(p, |c| c["config_groups"]["group_0"]["scheme"] = json!("rate")),
            &["expected a coding with scheme rate"],
        ),
        (
            "a tensor too many",
            |p| {
                edit_header(p, |h| {
                    let end = h["matrix.weight_selector"]["data_offsets"][1].clone();
                    h["other"] = json!({ "dtype": "U8", "shape": [0], "data_offsets": [end, end] });
                });
            },
            &["`other`", "expected the tensors of one matrix"],
        ),
        (
            "a flipped bit",
            |p| {
                let mut bytes = fs::read(p).unwrap();
                *bytes.last_mut().unwrap() ^= 1;
                fs::write(p, bytes).unwrap();
            },
            &["expected bytes that match their checksum"],
        ),
        (
            "a huge shape",
            |p| edit_tensor(p, "matrix.weight_shape", |b| b[..8].copy_from_slice(&(1_u64 << 62).to_le_bytes())),
            &["expected"],
        ),
        (
            "a negative shape",
            |p| edit_tensor(p, "matrix.weight_shape", |b| b[..8].copy_from_slice(&(-1_i64).to_le_bytes())),
            &["matrix.weight_shape", "at least 0"],
        ),
        (
            "an infinite scale",
            |p| edit_tensor(p, "matrix.weight_scale", |b| b[..2].copy_from_slice(&[0x00, 0x7c])),
            &["expected a finite scale"],
        ),
    ];
    for (name, damage, parts) in cases {
        let (_dir, path) = saved(&encoded(Scheme::Q4, FloatDtype::F32));
        damage(&path);
        let error = EncodedTensor::load(&path).expect_err(name).to_string();
        assert!(error.starts_with(path.to_str().unwrap()), "{name}: no path in {error:?}");
        for part in *parts {
            assert!(error.contains(part), "{name}: no {part:?} in {error:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn mutated_matrix_file_is_loaded_or_rejected(edits in edits(), in_header in any::<bool>(), scheme in 0..9_usize) {
        let (_dir, path) = saved(&encoded(Scheme::ALL[scheme], FloatDtype::F16));
        if in_header { edit_header_bytes(&path, &edits) } else { edit_file(&path, &edits) }
        if let Err(error) = EncodedTensor::load(&path) {
            prop_assert!(error.to_string().contains("w.safetensors"), "{}", error);
        }
    }
}
