//! Invalid checkpoints: each is rejected with a sentence that names the file, what was expected and what was found.

use std::{fs, path::Path};

use qins_quant::checkpoint::FORMAT_VERSION;
use serde_json::{Value, json};

use crate::common::{Home, Shards, edit_header, edit_json, edit_tensor, list, read};

/// A name, a way to damage a valid checkpoint, and what the error must contain.
type Case = (&'static str, fn(&Path), &'static [&'static str]);

fn check(shards: Shards, cases: &[Case]) {
    check_copies_of(|| Home::encoded(shards), cases);
}

fn check_copies_of(home: impl Fn() -> Home, cases: &[Case]) {
    for (name, damage, parts) in cases {
        let home = home();
        let dir = home.path("encoded");
        read(&dir).unwrap_or_else(|e| panic!("{name}: rejected before it was damaged: {e}"));
        damage(&dir);
        let error = read(&dir).expect_err(name).to_string();
        assert!(error.starts_with(dir.to_str().unwrap()), "{name}: no path in {error:?}");
        for part in *parts {
            assert!(error.contains(part), "{name}: no {part:?} in {error:?}");
        }
    }
}

fn config(dir: &Path, edit: impl FnOnce(&mut Value)) {
    edit_json(&dir.join("config.json"), |config| edit(&mut config["quantization_config"]));
}

fn header(dir: &Path, edit: impl FnOnce(&mut Value)) {
    edit_header(&dir.join("model.safetensors"), edit);
}

fn tensor(dir: &Path, name: &str, edit: impl FnOnce(&mut [u8])) {
    edit_tensor(&dir.join("model.safetensors"), name, edit);
}

fn file(dir: &Path, edit: impl FnOnce(&mut Vec<u8>)) {
    let path = dir.join("model.safetensors");
    let mut bytes = fs::read(&path).unwrap();
    edit(&mut bytes);
    fs::write(path, bytes).unwrap();
}

fn index(dir: &Path, edit: impl FnOnce(&mut Value)) {
    edit_json(&dir.join("model.safetensors.index.json"), |index| edit(&mut index["weight_map"]));
}

/// Renames a tensor.
fn rename(dir: &Path, from: &str, to: &str) {
    header(dir, |header| {
        let info = header.as_object_mut().unwrap().remove(from).unwrap();
        header[to] = info;
    });
}

fn f16_row(dir: &Path, name: &str, row: usize, bits: u16) {
    tensor(dir, name, |bytes| bytes[2 * row..][..2].copy_from_slice(&bits.to_le_bytes()));
}

fn f32_element(dir: &Path, name: &str, index: usize, value: f32) {
    tensor(dir, name, |bytes| bytes[4 * index..][..4].copy_from_slice(&value.to_le_bytes()));
}

const Q: &str = "layer.q_proj.weight_packed";
const Q_SCALE: &str = "layer.q_proj.weight_scale";
const Q_CURVATURE: &str = "layer.q_proj.weight_curvature";
const K: &str = "layer.k_proj.weight_packed";

#[test]
fn missing_and_unreadable_files_are_rejected() {
    check(
        Shards::One,
        &[
            ("no directory", |dir| fs::remove_dir_all(dir).unwrap(), &["config.json", "No such file"]),
            ("no config.json", |dir| fs::remove_file(dir.join("config.json")).unwrap(), &["config.json"]),
            ("no weights", |dir| fs::remove_file(dir.join("model.safetensors")).unwrap(), &["model.safetensors"]),
            (
                "a directory for weights",
                |dir| {
                    fs::remove_file(dir.join("model.safetensors")).unwrap();
                    fs::create_dir(dir.join("model.safetensors")).unwrap();
                },
                &["model.safetensors"],
            ),
            (
                "a directory for config.json",
                |dir| {
                    fs::remove_file(dir.join("config.json")).unwrap();
                    fs::create_dir(dir.join("config.json")).unwrap();
                },
                &["config.json"],
            ),
        ],
    );
}

#[test]
fn truncated_and_inconsistent_safetensors_are_rejected() {
    check(
        Shards::One,
        &[
            ("empty", |dir| file(dir, Vec::clear), &["model.safetensors", "found 0 bytes"]),
            (
                "one byte short",
                |dir| file(dir, |f| f.truncate(f.len() - 1)),
                &["expected a complete safetensors file", "found"],
            ),
            ("one byte long", |dir| file(dir, |f| f.push(0)), &["expected a complete safetensors file"]),
            ("huge header", |dir| file(dir, |f| f[..8].fill(0xff)), &["HeaderTooLarge"]),
            ("long header", |dir| file(dir, |f| f[1] += 0x40), &["InvalidHeaderLength"]),
            ("short header", |dir| file(dir, |f| f[0] -= 8), &["InvalidHeader"]),
            ("header no JSON", |dir| file(dir, |f| f[8] = b'?'), &["InvalidHeader"]),
            ("header no UTF-8", |dir| file(dir, |f| f[9] = 0xff), &["InvalidHeader"]),
            ("offsets beyond the file", |dir| header(dir, |h| h[Q]["data_offsets"][1] = json!(1_u64 << 40)), &[]),
            ("offsets backwards", |dir| header(dir, |h| h[Q]["data_offsets"] = json!([40, 8])), &[]),
            ("offsets negative", |dir| header(dir, |h| h[Q]["data_offsets"][0] = json!(-1)), &[]),
            ("overlapping tensors", |dir| header(dir, |h| h[Q]["data_offsets"] = h[K]["data_offsets"].clone()), &[]),
            ("a gap", |dir| header(dir, |h| drop(h.as_object_mut().unwrap().remove(K))), &["InvalidOffset"]),
            (
                "overflowing shape",
                |dir| header(dir, |h| h[Q]["shape"] = json!([1_u64 << 40, 1_u64 << 40])),
                &["Overflow"],
            ),
            ("wrapping shape", |dir| header(dir, |h| h[K]["shape"] = json!([1_u64 << 62, 16])), &["Overflow"]),
            ("unknown dtype", |dir| header(dir, |h| h[Q]["dtype"] = json!("Q8")), &["model.safetensors"]),
        ],
    );
}

#[test]
fn every_truncation_is_rejected() {
    let home = Home::encoded(Shards::One);
    let path = home.path("encoded/model.safetensors");
    let whole = fs::read(&path).unwrap();
    for length in 0..whole.len() {
        fs::write(&path, &whole[..length]).unwrap();
        let error = read(&home.path("encoded")).expect_err("a cut file").to_string();
        assert!(error.contains("model.safetensors") && error.contains(&format!("found {length} bytes")), "{error}");
    }
    fs::write(&path, &whole).unwrap();
    read(&home.path("encoded")).unwrap();
}

#[test]
fn invalid_q8_and_float_tensors_are_rejected() {
    check(
        Shards::One,
        &[
            ("packed I8", |dir| header(dir, |h| h[Q]["dtype"] = json!("I8")), &[Q, "expected U8", "found I8"]),
            ("packed I32", |dir| header(dir, |h| h[K]["dtype"] = json!("I32")), &[K, "expected F32", "found I32"]),
            ("packed transposed", |dir| header(dir, |h| h[Q]["shape"] = json!([8, 4])), &[Q, "[4, 8]", "[8, 4]"]),
            ("packed flat", |dir| header(dir, |h| h[Q]["shape"] = json!([32])), &[Q, "[4, 8]", "[32]"]),
            ("scale a column", |dir| header(dir, |h| h[Q_SCALE]["shape"] = json!([4, 1])), &[Q_SCALE, "[4]", "[4, 1]"]),
            ("scale bf16", |dir| header(dir, |h| h[Q_SCALE]["dtype"] = json!("BF16")), &[Q_SCALE, "F16", "BF16"]),
            ("no packed", |dir| rename(dir, Q, "x"), &[Q, "expected", "found no such tensor"]),
            ("no scale", |dir| rename(dir, Q_SCALE, "x"), &[Q_SCALE, "expected", "found no such tensor"]),
            ("no curvature", |dir| rename(dir, Q_CURVATURE, "x"), &[Q_CURVATURE, "expected", "found no such tensor"]),
            ("scale NaN", |dir| f16_row(dir, Q_SCALE, 2, 0x7e00), &["layer.q_proj", "scale", "NaN", "row 2"]),
            ("scale negative", |dir| f16_row(dir, Q_SCALE, 1, 0xbc00), &["layer.q_proj", "scale", "-1", "row 1"]),
            ("scale infinite", |dir| f16_row(dir, Q_SCALE, 0, 0x7c00), &["layer.q_proj", "scale", "inf", "row 0"]),
            ("curvature NaN", |dir| f16_row(dir, Q_CURVATURE, 3, 0xfe01), &["curvature", "NaN", "row 3"]),
            ("curvature negative", |dir| f16_row(dir, Q_CURVATURE, 1, 0x8001), &["curvature", "row 1"]),
            // The codec's largest, 65536, is more than an f16 holds: stored, it is ∞.
            ("curvature infinite", |dir| f16_row(dir, Q_CURVATURE, 0, 0x7c00), &["curvature", "inf", "row 0"]),
            ("u NaN", |dir| f32_element(dir, K, 5, f32::NAN), &[K, "below 1", "NaN", "row 0, column 5"]),
            ("u one", |dir| f32_element(dir, K, 0, 1.0), &[K, "below 1", "found 1", "row 0, column 0"]),
            ("u beyond minus one", |dir| f32_element(dir, K, 15, -1.5), &[K, "below 1", "-1.5", "row 1, column 7"]),
            ("u infinite", |dir| f32_element(dir, K, 1, f32::INFINITY), &[K, "below 1", "inf", "row 0, column 1"]),
            (
                "a module plain as well",
                |dir| rename(dir, "layer.v_proj.weight", "layer.q_proj.weight"),
                &["layer.q_proj.weight", "encoded"],
            ),
        ],
    );
}

#[test]
fn invalid_grouped_tensors_are_rejected() {
    const PACKED: &str = "layer.o_proj.weight_packed";
    const SCALE: &str = "layer.o_proj.weight_scale";
    const GROUP_SCALE: &str = "layer.o_proj.weight_group_scale";
    const SELECTOR: &str = "layer.o_proj.weight_selector";
    const CURVATURE: &str = "layer.o_proj.weight_curvature";
    check_copies_of(
        Home::grouped,
        &[
            ("no packed", |dir| rename(dir, PACKED, "x"), &[PACKED, "expected", "found no such tensor"]),
            ("no scale", |dir| rename(dir, SCALE, "x"), &[SCALE, "expected", "found no such tensor"]),
            ("no group_scale", |dir| rename(dir, GROUP_SCALE, "x"), &[GROUP_SCALE, "expected", "no such tensor"]),
            ("no selector", |dir| rename(dir, SELECTOR, "x"), &[SELECTOR, "expected", "found no such tensor"]),
            ("no curvature", |dir| rename(dir, CURVATURE, "x"), &[CURVATURE, "expected", "found no such tensor"]),
            ("packed I8", |dir| header(dir, |h| h[PACKED]["dtype"] = json!("I8")), &[PACKED, "U8", "found I8"]),
            ("packed flat", |dir| header(dir, |h| h[PACKED]["shape"] = json!([60])), &[PACKED, "[3, 20]", "[60]"]),
            ("scale a vector", |dir| header(dir, |h| h[SCALE]["shape"] = json!([3])), &[SCALE, "[3, 1]", "[3]"]),
            (
                "group_scale U8",
                |dir| header(dir, |h| h[GROUP_SCALE]["dtype"] = json!("U8")),
                &[GROUP_SCALE, "I8", "found U8"],
            ),
            (
                "selector transposed",
                |dir| header(dir, |h| h[SELECTOR]["shape"] = json!([1, 3])),
                &[SELECTOR, "[3, 1]", "[1, 3]"],
            ),
            (
                "curvature a column",
                |dir| header(dir, |h| h[CURVATURE]["shape"] = json!([4, 1])),
                &[CURVATURE, "[4]", "[4, 1]"],
            ),
            (
                "codes of another width",
                |dir| config(dir, |q| q["config_groups"]["group_0"]["scheme"] = json!("q6")),
                &["layer.q_proj.weight_packed", "[4, 24]", "[4, 20]"],
            ),
            ("scale NaN", |dir| f16_row(dir, SCALE, 2, 0x7e00), &["layer.o_proj", "scale", "NaN", "row 2"]),
            ("scale negative", |dir| f16_row(dir, SCALE, 1, 0xbc00), &["layer.o_proj", "scale", "-1", "row 1"]),
            ("scale infinite", |dir| f16_row(dir, SCALE, 0, 0x7c00), &["layer.o_proj", "scale", "inf", "row 0"]),
            ("curvature NaN", |dir| f16_row(dir, CURVATURE, 3, 0x7e00), &["curvature", "NaN", "row 3"]),
            ("curvature negative", |dir| f16_row(dir, CURVATURE, 1, 0x8001), &["curvature", "row 1"]),
            ("curvature infinite", |dir| f16_row(dir, CURVATURE, 0, 0x7c00), &["curvature", "inf", "row 0"]),
        ],
    );
}

#[test]
fn invalid_quantization_config_is_rejected() {
    check(
        Shards::One,
        &[
            ("no JSON", |dir| fs::write(dir.join("config.json"), "{").unwrap(), &["config.json", "end of the file"]),
            ("no UTF-8", |dir| fs::write(dir.join("config.json"), b"{\"\xff\": 1}").unwrap(), &["config.json"]),
            ("a list", |dir| fs::write(dir.join("config.json"), "[]").unwrap(), &["config.json", "object"]),
            (
                "deeper than any",
                |dir| fs::write(dir.join("config.json"), "[".repeat(100_000)).unwrap(),
                &["config.json", "recursion"],
            ),
            ("a string", |dir| config(dir, |q| *q = json!("qins")), &["quant_method `qins`", "found"]),
            ("method of another tool", |dir| config(dir, |q| q["quant_method"] = json!("awq")), &["`qins`", "`awq`"]),
            ("no method", |dir| config(dir, |q| q["quant_method"] = json!(null)), &["expected quant_method `qins`"]),
            ("newer", |dir| config(dir, |q| q["format_version"] = json!(4)), &["expected format_version 3", "found 4"]),
            ("older", |dir| config(dir, |q| q["format_version"] = json!(1)), &["expected format_version 3", "found 1"]),
            ("negative", |dir| config(dir, |q| q["format_version"] = json!(-1)), &["format_version 3", "found -1"]),
            ("fraction", |dir| config(dir, |q| q["format_version"] = json!(1.5)), &["format_version 3", "found 1.5"]),
            ("string", |dir| config(dir, |q| q["format_version"] = json!("1")), &["format_version 3", "found \"1\""]),
            (
                "no version",
                |dir| config(dir, |q| drop(q.as_object_mut().unwrap().remove("format_version"))),
                &["expected format_version 3", "found null"],
            ),
            (
                "unknown scheme",
                |dir| config(dir, |q| q["config_groups"]["group_1"]["scheme"] = json!("q9")),
                &["quantization_config", "q9", "expected"],
            ),
            (
                "unknown type",
                |dir| config(dir, |q| q["config_groups"]["group_1"]["source_dtype"] = json!("float8")),
                &["quantization_config", "float8", "expected"],
            ),
            ("no groups", |dir| config(dir, |q| q["config_groups"] = json!(7)), &["quantization_config", "expected"]),
            (
                "a target that is not stored",
                |dir| config(dir, |q| q["config_groups"]["group_1"]["targets"][0] = json!("layer.x_proj")),
                &["layer.x_proj.weight_packed", "expected", "found no such tensor"],
            ),
            (
                "a target of two groups",
                |dir| config(dir, |q| q["config_groups"]["group_1"]["targets"][0] = json!("layer.k_proj")),
                &["layer.k_proj", "group_0", "group_1"],
            ),
            (
                "a target that is no target",
                |dir| config(dir, |q| drop(q["config_groups"].as_object_mut().unwrap().remove("group_0"))),
                &["layer.k_proj", "expected in quantization_config"],
            ),
        ],
    );
}

#[test]
fn invalid_alpha_is_rejected() {
    fn alpha(dir: &Path, group: &str, alpha: Value) {
        config(dir, |q| q["config_groups"][group]["alpha"] = alpha);
    }
    check(
        Shards::One,
        &[
            ("zero", |dir| alpha(dir, "group_0", json!(0)), &["config.json", "alpha", "positive", "not 0"]),
            ("negative", |dir| alpha(dir, "group_0", json!(-1)), &["config.json", "alpha", "positive", "not -1"]),
            ("beyond f32", |dir| alpha(dir, "group_0", json!(1e39)), &["config.json", "alpha", "finite", "inf"]),
            ("of q8", |dir| alpha(dir, "group_1", json!(-1)), &["config.json", "alpha", "positive", "not -1"]),
            ("a string", |dir| alpha(dir, "group_0", json!("NaN")), &["config.json", "quantization_config", "NaN"]),
        ],
    );
}

#[test]
fn invalid_index_is_rejected() {
    const FIRST: &str = "a-1-of-2.safetensors";
    check(
        Shards::Two,
        &[
            (
                "no JSON",
                |dir| fs::write(dir.join("model.safetensors.index.json"), "").unwrap(),
                &["index.json", "end of the file"],
            ),
            ("no map", |dir| edit_json(&dir.join("model.safetensors.index.json"), |i| *i = json!({})), &["weight_map"]),
            ("an empty map", |dir| index(dir, |map| *map = json!({})), &["index.json", "expected a weight_map"]),
            ("a number for a shard", |dir| index(dir, |map| map["norm.weight"] = json!(1)), &["index.json", "string"]),
            (
                "a shard that is missing",
                |dir| index(dir, |map| map["norm.weight"] = json!("b.safetensors")),
                &["b.safet"],
            ),
            ("a shard removed", |dir| fs::remove_file(dir.join(FIRST)).unwrap(), &[FIRST]),
            (
                "a shard that is a directory",
                |dir| {
                    fs::remove_file(dir.join(FIRST)).unwrap();
                    fs::create_dir(dir.join(FIRST)).unwrap();
                },
                &[FIRST],
            ),
            ("an empty shard", |dir| fs::write(dir.join(FIRST), "").unwrap(), &[FIRST, "found 0 bytes"]),
            (
                "a tensor that is not there",
                |dir| index(dir, |map| map["x"] = json!(FIRST)),
                &[FIRST, "`x`", "index.json"],
            ),
            (
                "a tensor that is elsewhere",
                |dir| index(dir, |map| map["norm.weight"] = json!(FIRST)),
                &["`norm.weight`"],
            ),
            ("the directory above", |dir| index(dir, |map| map["x"] = json!("../x")), &["index.json", "`../x`"]),
            ("a directory below", |dir| index(dir, |map| map["x"] = json!("y/x")), &["index.json", "`y/x`"]),
            ("a trailing slash", |dir| index(dir, |map| map["x"] = json!("x/")), &["index.json", "`x/`"]),
            (
                "an absolute path",
                |dir| index(dir, |map| map["x"] = json!("/etc/passwd")),
                &["index.json", "`/etc/passwd`"],
            ),
            ("the directory itself", |dir| index(dir, |map| map["x"] = json!(".")), &["index.json", "`.`"]),
            ("its parent", |dir| index(dir, |map| map["x"] = json!("..")), &["index.json", "`..`"]),
            ("no name", |dir| index(dir, |map| map["x"] = json!("")), &["index.json", "``"]),
            ("a name with a zero", |dir| index(dir, |map| map["x"] = json!("a\0b")), &["a\0b"]),
            (
                "a tensor in two shards",
                |dir| {
                    fs::copy(dir.join(FIRST), dir.join("b.safetensors")).unwrap();
                    index(dir, |map| map["x"] = json!("b.safetensors"));
                },
                &["b.safetensors", "expected once", FIRST],
            ),
        ],
    );
}

#[test]
#[cfg(unix)]
fn unreadable_file_is_named() {
    use std::os::unix::fs::PermissionsExt;
    for file in ["config.json", "model.safetensors"] {
        let home = Home::encoded(Shards::One);
        let path = home.path("encoded").join(file);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).unwrap();
        // Root can read it anyway.
        if fs::File::open(&path).is_err() {
            let error = read(&home.path("encoded")).unwrap_err().to_string();
            assert!(error.contains(file) && error.contains("denied"), "{error}");
        }
    }
}

#[test]
fn rejected_checkpoint_is_left_unchanged() {
    let home = Home::encoded(Shards::One);
    let before = list(&home.path("encoded"));
    config(&home.path("encoded"), |q| q["format_version"] = json!(FORMAT_VERSION + 1));
    read(&home.path("encoded")).unwrap_err();
    assert_eq!(list(&home.path("encoded")), before);
}
