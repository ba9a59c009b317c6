//! Weights that are not there, not whole, or not what the configuration asks for.

use std::{collections::BTreeMap, fs, path::Path};

use serde_json::json;

use crate::common::{Home, Tensor, edit_json, edit_tensors, expect_rejections};

const FILE: &str = "model/model.safetensors";
const INDEX: &str = "model/model.safetensors.index.json";

/// What is wrong, what is done to a file or directory, and what every command messages.
type FileCase = (&'static str, fn(&Path), &'static [&'static str]);

#[test]
fn missing_or_truncated_file_is_named() {
    let whole = fs::metadata(Home::new("e_tied/f32").path(FILE)).unwrap().len();
    for length in [0, 1, 7, 8, 9, 100, whole / 2, whole - 1] {
        let home = Home::new("e_tied/f32");
        fs::OpenOptions::new().write(true).open(home.path(FILE)).unwrap().set_len(length).unwrap();
        let found = format!("found {length} bytes");
        expect_rejections(&home, &found, "gqvci", &[FILE, "expected a complete safetensors file", &found]);
    }
    let cases: [FileCase; 5] = [
        ("missing", |path| fs::remove_file(path).unwrap(), &[FILE, "not found"]),
        ("a byte too long", |path| edit_bytes(path, |file| file.push(0)), &[FILE, "complete safetensors"]),
        ("an endless header", |path| edit_bytes(path, |file| file[..8].fill(0xff)), &[FILE, "complete safetensors"]),
        ("a header of zeros", |path| edit_bytes(path, |file| file[8..200].fill(0)), &[FILE, "complete safetensors"]),
        ("something else", |path| fs::write(path, "x".repeat(1000)).unwrap(), &[FILE, "complete safetensors"]),
    ];
    for (name, spoil, messages) in cases {
        let home = Home::new("e_tied/f32");
        spoil(&home.path(FILE));
        expect_rejections(&home, name, "gqvci", messages);
    }
}

fn edit_bytes(path: &Path, edit: impl FnOnce(&mut Vec<u8>)) {
    let mut file = fs::read(path).unwrap();
    edit(&mut file);
    fs::write(path, file).unwrap();
}

#[test]
fn inconsistent_index_and_shards_are_rejected() {
    const SHARD: &str = "model-00002-of-00003.safetensors";
    let cases: [FileCase; 9] = [
        ("a shard missing", |dir| fs::remove_file(dir.join(SHARD)).unwrap(), &[SHARD, "No such file"]),
        ("a shard empty", |dir| fs::write(dir.join(SHARD), "").unwrap(), &[SHARD, "found 0 bytes"]),
        ("no JSON", |dir| index(dir, |_| "{".to_owned()), &["index.json", "line 1"]),
        ("no map", |dir| index(dir, |_| "{}".to_owned()), &["index.json", "weight_map"]),
        ("an empty map", |dir| index(dir, |_| r#"{"weight_map":{}}"#.to_owned()), &["index.json", "found none"]),
        ("a shard outside", |dir| point(dir, "../outside.safetensors"), &["index.json", "`../outside.safetensors`"]),
        ("a shard far away", |dir| point(dir, "/dev/zero"), &["index.json", "`/dev/zero`"]),
        ("no name", |dir| point(dir, ".."), &["index.json", "`..`"]),
        (
            "a tensor in the wrong shard",
            |dir| point(dir, "model-00003-of-00003.safetensors"),
            &["model-00003-of-00003.safetensors", "`model.layers.1.mlp.down_proj.weight`", "index.json"],
        ),
    ];
    for (name, spoil, messages) in cases {
        let home = Home::new("b_gqa/f32");
        spoil(&home.path("model"));
        expect_rejections(&home, name, "gqvci", messages);
    }
    let home = Home::new("b_gqa/f32");
    fs::remove_file(home.path(INDEX)).unwrap();
    expect_rejections(&home, "no index", "gqvci", &[FILE, "index.json"]);
    let home = Home::new("b_gqa/f32");
    edit_json(&home.path(INDEX), |index| index["weight_map"]["more.weight"] = json!(SHARD));
    expect_rejections(&home, "a tensor too many", "gqvci", &[SHARD, "`more.weight`"]);
}

fn index(dir: &Path, edit: impl FnOnce(String) -> String) {
    let path = dir.join("model.safetensors.index.json");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(path, edit(text)).unwrap();
}

/// Says of one tensor that it lies in another file.
fn point(dir: &Path, file: &str) {
    edit_json(&dir.join("model.safetensors.index.json"), |index| {
        index["weight_map"]["model.layers.1.mlp.down_proj.weight"] = json!(file);
    });
}

/// The fault, how it is made, the commands that reject it, and parts of their error.
type TensorCase = (&'static str, fn(&mut BTreeMap<String, Tensor>), &'static str, &'static [&'static str]);

const NORM: &str = "model.layers.1.input_layernorm.weight";
const QKV: &str = "model.layers.1.self_attn.qkv_proj.weight";
const DOWN: &str = "model.layers.2.mlp.down_proj.weight";
const EMBEDDING: &str = "model.embed_tokens.weight";

fn tensor<'a>(tensors: &'a mut BTreeMap<String, Tensor>, name: &str) -> &'a mut Tensor {
    tensors.get_mut(name).unwrap()
}

fn refuse(cases: &[TensorCase]) {
    for (name, edit, rejecting, messages) in cases {
        let home = Home::new("e_tied/f32");
        edit_tensors(&home.path(FILE), edit);
        expect_rejections(&home, name, rejecting, &[&[FILE], *messages].concat());
    }
}

#[test]
fn missing_or_misshapen_tensor_is_named() {
    refuse(&[
        ("no norm", |t| drop(t.remove(NORM)), "gqvc", &["`model.layers.1.input_layernorm.weight`", "no such tensor"]),
        ("no last norm", |t| drop(t.remove("model.norm.weight")), "gqvc", &["`model.norm.weight`", "no such tensor"]),
        ("no values", |t| drop(t.remove(QKV)), "gqvc", &["`model.layers.1.self_attn.qkv_proj.weight`"]),
        ("no way down", |t| drop(t.remove(DOWN)), "gqvc", &["`model.layers.2.mlp.down_proj.weight`", "no such tensor"]),
        ("no embedding", |t| drop(t.remove(EMBEDDING)), "gqvc", &["`model.embed_tokens.weight`", "no such tensor"]),
        ("no tensor", |t| t.clear(), "gqvc", &["`model.embed_tokens.weight`"]),
        (
            "transposed",
            |t| tensor(t, DOWN).shape.reverse(),
            "gqvc",
            &["`model.layers.2.mlp.down_proj.weight`", "expected shape [32, 64], found [64, 32]"],
        ),
        (
            "flat",
            |t| tensor(t, QKV).shape = vec![96 * 32],
            "gqvc",
            &["`model.layers.1.self_attn.qkv_proj.weight`", "expected shape [96, 32], found [3072]"],
        ),
        (
            "a matrix for a norm",
            |t| tensor(t, NORM).shape = vec![1, 32],
            "gqvc",
            &["`model.layers.1.input_layernorm.weight`", "expected shape [32], found [1, 32]"],
        ),
        (
            "rows too few",
            |t| {
                tensor(t, EMBEDDING).shape = vec![111, 32];
                tensor(t, EMBEDDING).bytes.truncate(111 * 32 * 4);
            },
            "gqvc",
            &["`model.embed_tokens.weight`", "expected shape [112, 32], found [111, 32]"],
        ),
        (
            "integers for a linear",
            |t| tensor(t, DOWN).dtype = "I32".to_owned(),
            "gqvc",
            &["`model.layers.2.mlp.down_proj.weight`", "expected F32, F16 or BF16, found I32"],
        ),
        (
            "integers for a norm",
            |t| tensor(t, NORM).dtype = "I32".to_owned(),
            "gqvc",
            &["`model.layers.1.input_layernorm.weight`", "expected F32, F16 or BF16, found I32"],
        ),
    ]);
}

#[test]
fn non_finite_weights_are_named() {
    refuse(&[
        (
            "NaN",
            |t| tensor(t, DOWN).set(70, f32::NAN),
            "gqvc",
            &["`model.layers.2.mlp.down_proj.weight`", "expected finite weights, found NaN"],
        ),
        (
            "infinity",
            |t| tensor(t, QKV).set(95 * 32, f32::INFINITY),
            "gqvc",
            &["`model.layers.1.self_attn.qkv_proj.weight`", "expected finite weights, found inf"],
        ),
        (
            "minus infinity where nothing is encoded",
            |t| tensor(t, EMBEDDING).set(5, f32::NEG_INFINITY),
            "gqvc",
            &["`model.embed_tokens.weight`", "expected finite weights, found -inf at element 5"],
        ),
        (
            "NaN in a norm",
            |t| tensor(t, NORM).set(31, f32::NAN),
            "gqvc",
            &["`model.layers.1.input_layernorm.weight`", "found NaN at element 31"],
        ),
        (
            "NaN in a query",
            |t| tensor(t, QKV).set(0, f32::NAN),
            "gqvc",
            &["`model.layers.1.self_attn.qkv_proj.weight`", "found NaN at element 0"],
        ),
    ]);
}

/// Finite weights, and sums of them that are not.
#[test]
fn nan_logits_are_an_error() {
    let home = Home::new("e_tied/f32");
    edit_tensors(&home.path(FILE), |t| {
        for i in 0..32 {
            tensor(t, NORM).set(i, 3e38);
        }
    });
    let messages = ["prompt `prompt`", "expected finite logits"];
    home.qins("generate --model model --prompt-ids 5,7").rejected("generate", &messages);
    let messages = ["prompt `a`", "expected finite logits"];
    home.qins("validate --model model --prompts prompts.jsonl --scheme none --max-new-tokens 2")
        .rejected("validate", &messages);
}
