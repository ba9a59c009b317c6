//! Invalid conversions: each is rejected by name, and leaves nothing at or beside its target.

use std::{fs, ops::Range, path::Path};

use qins_quant::{
    Alpha, Error, FloatDtype, Scheme,
    checkpoint::{Directory, TensorSpec},
    convert::{Part, convert},
};
use safetensors::Dtype;
use serde_json::json;

use crate::common::{Home, Shards, Tensor, edit_json, edit_tensor, list, open, parts, plain_model, write_shard};

/// A name, a way to damage a plain model, and what the error must contain.
type Case = (&'static str, fn(&Path), &'static [&'static str]);

fn weights(dir: &Path, edit: impl FnOnce(&mut Vec<Tensor>)) {
    let mut tensors = plain_model(FloatDtype::Bf16);
    edit(&mut tensors);
    write_shard(&dir.join("model.safetensors"), &tensors);
}

/// Sets one element of a bf16 tensor of eight columns.
fn element(dir: &Path, tensor: &str, row: usize, col: usize, value: f32) {
    edit_tensor(&dir.join("model.safetensors"), tensor, |bytes| {
        bytes[2 * (8 * row + col)..][..2].copy_from_slice(&half::bf16::from_f32(value).to_le_bytes());
    });
}

#[test]
fn invalid_source_is_rejected_and_leaves_nothing() {
    let cases: [Case; 14] = [
        ("no config.json", |dir| fs::remove_file(dir.join("config.json")).unwrap(), &["config.json"]),
        ("config.json a number", |dir| fs::write(dir.join("config.json"), "3").unwrap(), &["config.json", "object"]),
        (
            "encoded by another tool",
            |dir| edit_json(&dir.join("config.json"), |c| c["quantization_config"] = json!({ "quant_method": "gptq" })),
            &["config.json", "`qins`", "`gptq`"],
        ),
        (
            "a NaN",
            |dir| element(dir, "layer.o_proj.weight", 1, 2, f32::NAN),
            &["model.safetensors", "layer.o_proj.weight", "NaN", "row 1, column 2"],
        ),
        (
            "an infinity",
            |dir| element(dir, "layer.o_proj.weight", 2, 7, f32::NEG_INFINITY),
            &["layer.o_proj.weight", "-inf", "row 2, column 7"],
        ),
        (
            "too large for q8",
            |dir| element(dir, "layer.o_proj.weight", 2, 0, 1e6),
            &["layer.o_proj.weight", "65504", "found 999424 at row 2, column 0"],
        ),
        (
            "too large for f32",
            |dir| element(dir, "layer.qkv_proj.weight", 4, 3, 1e9),
            &["layer.qkv_proj.weight", "row 4, column 3"],
        ),
        (
            "a vector for a linear",
            |dir| weights(dir, |t| t[2].shape = vec![24]),
            &["layer.o_proj.weight", "expected a matrix", "[24]"],
        ),
        (
            "integers for a linear",
            |dir| weights(dir, |t| t[2].dtype = Dtype::I16),
            &["layer.o_proj.weight", "expected F32, F16 or BF16", "I16"],
        ),
        (
            "rows without end and no columns",
            |dir| {
                weights(dir, |t| {
                    t[2].shape = vec![1 << 50, 0];
                    t[2].bytes.clear();
                });
            },
            &["layer.o_proj.weight", "expected a matrix", "0]"],
        ),
        (
            "more rows than the linears of a fused matrix",
            |dir| {
                weights(dir, |t| {
                    t[1].shape = vec![9, 8];
                    t[1].bytes.extend([0; 16]);
                });
            },
            &["layer.qkv_proj.weight", "9 rows", "found 8"],
        ),
        (
            "fewer rows",
            |dir| weights(dir, |t| t[1].shape = vec![4, 16]),
            &["layer.qkv_proj.weight", "within 4", "found 4..6", "layer.k_proj"],
        ),
        (
            "a tensor under the name of an encoded linear",
            |dir| weights(dir, |t| t[0].name = "layer.q_proj.weight"),
            &["model.safetensors", "layer.q_proj.weight", "encoded"],
        ),
        (
            "a tensor under the name of a packed one",
            |dir| weights(dir, |t| t[0].name = "layer.o_proj.weight_packed"),
            &["layer.o_proj.weight_packed", "expected once"],
        ),
    ];
    for (name, damage, parts) in cases {
        let home = Home::new(FloatDtype::Bf16, Shards::One);
        damage(&home.path("plain"));
        for out in ["out", "empty"] {
            let _ = fs::create_dir(home.path("empty"));
            let error = home.convert("plain", out).expect_err(name).to_string();
            for part in parts {
                assert!(error.contains(part), "{name}: no {part:?} in {error:?}");
            }
            assert_eq!(home.list(), ["empty", "plain"], "{name}");
            assert!(list(&home.path("empty")).is_empty(), "{name}");
        }
    }
    let home = Home::new(FloatDtype::Bf16, Shards::One);
    weights(&home.path("plain"), |_| {});
    home.convert("plain", "out").unwrap();
}

#[test]
fn name_taken_in_another_shard_is_rejected() {
    let home = Home::new(FloatDtype::Bf16, Shards::Two);
    let dir = home.path("plain");
    let mut tensors = plain_model(FloatDtype::Bf16);
    tensors[4].name = "layer.q_proj.weight_scale";
    write_shard(&dir.join("a-2-of-2.safetensors"), &tensors[3..]);
    edit_json(&dir.join("model.safetensors.index.json"), |index| {
        drop(index["weight_map"].as_object_mut().unwrap().remove("norm.weight"));
    });
    let error = home.convert("plain", "out").unwrap_err().to_string();
    assert!(error.contains("layer.q_proj.weight_scale") && error.contains("expected once"), "{error}");
    assert_eq!(home.list(), ["plain"]);
}

#[test]
fn linears_not_tiling_their_matrix_are_rejected() {
    let home = Home::new(FloatDtype::Bf16, Shards::One);
    let source = open(&home.path("plain")).unwrap();
    let attempt = |ranges: &[Range<usize>]| {
        let split = |tensor: &str, shape: &[usize]| {
            if tensor != "layer.o_proj.weight" {
                return parts(tensor, shape);
            }
            let part = |(i, rows): (usize, &Range<usize>)| Part {
                module: format!("part.{i}"),
                rows: rows.clone(),
                recipe: Some(Scheme::Q8.into()),
            };
            Some(ranges.iter().enumerate().map(part).collect())
        };
        convert(&source, &home.path("out"), &split, &|_| {})
    };
    #[allow(clippy::reversed_empty_ranges, clippy::single_range_in_vec_init)]
    let wrong: [&[Range<usize>]; 8] =
        [&[0..2], &[1..3], &[0..4], &[0..2, 1..3], &[0..1, 2..3], &[2..3, 0..2], &[0..3, 3..2, 2..3], &[0..usize::MAX]];
    for ranges in wrong {
        let error = attempt(ranges).expect_err(&format!("{ranges:?}")).to_string();
        assert!(error.contains("layer.o_proj.weight") && error.contains("found"), "{ranges:?}: {error}");
        assert_eq!(home.list(), ["plain"]);
    }
    attempt(&[0..1, 1..1, 1..3]).unwrap();
}

#[test]
fn occupied_and_impossible_targets_are_rejected() {
    let home = Home::encoded(Shards::One);
    fs::create_dir(home.path("full")).unwrap();
    fs::write(home.path("full/file"), "mine").unwrap();
    fs::write(home.path("file"), "mine").unwrap();
    for (out, message) in
        [("full", "empty"), ("plain", "empty"), ("file", "file"), ("file/out", "file"), ("file/a/b", "file")]
    {
        let error = home.convert("plain", out).expect_err(out).to_string();
        assert!(error.contains(out.split('/').next().unwrap()) && error.contains(message), "{out}: {error}");
        assert_eq!(home.list(), ["encoded", "file", "full", "plain"], "{out}");
        assert_eq!(list(&home.path("full")), ["file"], "{out}");
    }
    assert_eq!(fs::read(home.path("file")).unwrap(), b"mine");
    let error = home.convert("encoded", "out").unwrap_err().to_string();
    assert!(error.contains("config.json") && error.contains("expected a plain checkpoint"), "{error}");
    assert_eq!(home.list(), ["encoded", "file", "full", "plain"]);
}

#[test]
#[cfg(unix)]
fn unwritable_parent_is_named() {
    use std::os::unix::fs::PermissionsExt;
    let home = Home::new(FloatDtype::Bf16, Shards::One);
    fs::create_dir(home.path("locked")).unwrap();
    fs::set_permissions(home.path("locked"), fs::Permissions::from_mode(0o555)).unwrap();
    // Root can write there anyway.
    if fs::write(home.path("locked/probe"), "").is_err() {
        let error = home.convert("plain", "locked/out").unwrap_err().to_string();
        assert!(error.contains("locked") && error.contains("denied"), "{error}");
        assert!(list(&home.path("locked")).is_empty());
    }
}

#[test]
fn alpha_beyond_f16_scale_is_rejected() {
    let home = Home::new(FloatDtype::Bf16, Shards::One);
    let source = open(&home.path("plain")).unwrap();
    let attempt = |alpha: f32| {
        let alpha = Some(Alpha::new(alpha).unwrap());
        let fixed = |tensor: &str, shape: &[usize]| {
            let mut parts = parts(tensor, shape)?;
            parts.iter_mut().filter_map(|part| part.recipe.as_mut()).for_each(|recipe| recipe.options.alpha = alpha);
            Some(parts)
        };
        convert(&source, &home.path("out"), &fixed, &|_| {})
    };
    let error = attempt(1e15).unwrap_err().to_string();
    assert!(error.contains("layer.") && error.contains("scale"), "{error}");
    assert_eq!(home.list(), ["plain"]);
    attempt(1.0).unwrap();
}

fn spec(name: &str, shape: &[usize]) -> TensorSpec {
    TensorSpec { name: name.to_owned(), dtype: qins_quant::checkpoint::Dtype::F16, shape: shape.to_vec() }
}

#[test]
fn shard_writer_rejects_undeclared_and_incomplete_tensors() {
    let home = Home::new(FloatDtype::Bf16, Shards::One);
    let begin = |specs: Vec<TensorSpec>| {
        Directory::create(&home.path("out")).unwrap().shard("s.safetensors", specs, Vec::new())
    };
    let names = |error: Error, tensor: &str| {
        let error = error.to_string();
        assert!(error.contains("s.safetensors") && error.contains(tensor), "{error}");
    };
    let mut writer = begin(vec![spec("a", &[2]), spec("b", &[1])]).unwrap();
    names(writer.write("c", &[]).unwrap_err(), "`c`");
    writer.write("b", &[0; 2]).unwrap();
    names(writer.write("b", &[0; 2]).unwrap_err(), "`b`");
    names(writer.finish().unwrap_err(), "`a`");
    let mut writer = begin(vec![spec("a", &[2])]).unwrap();
    names(writer.write("a", &[0; 5]).unwrap_err(), "`a`");
    writer.write("a", &[0; 3]).unwrap();
    names(writer.finish().unwrap_err(), "`a`");
    names(begin(vec![spec("a", &[2]), spec("a", &[2])]).unwrap_err(), "a");
    for overflowing in [[1 << 60, 1 << 60], [1 << 60, 16], [1 << 63, 1]] {
        names(begin(vec![spec("a", &overflowing)]).unwrap_err(), "Overflow");
    }
    assert_eq!(home.list(), ["plain"]);
}
