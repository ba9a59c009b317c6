//! What a conversion and an export carry over besides weights: files of any name, in subdirectories too, and metadata.

use std::{collections::BTreeMap, fs, path::Path};

use qins_quant::{
    FloatDtype,
    checkpoint::{Checkpoint, Files},
    convert::{convert, convert_without},
    export::export,
    verify::verify,
};
use safetensors::tensor::{SafeTensors, TensorView, serialize_to_file};
use serde_json::{Value, json};

use crate::common::{Home, Shards, list, open, parts};

/// The names of what was left out, with the reason.
fn left_out(home: &Home) -> Vec<String> {
    let left_out = convert(&open(&home.path("plain")).unwrap(), &home.path("out"), &parts, &|_| {}).unwrap();
    left_out.iter().map(ToString::to_string).collect()
}

fn write(home: &Home, path: &str, content: &[u8]) {
    let path = home.path("plain").join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

#[test]
fn files_in_subdirectories_and_of_odd_names_are_carried_over_and_back() {
    let long = "x".repeat(255);
    let names = [
        "additional_chat_templates/rag.jinja",
        "a/b/c/d e.txt",
        "with space.json",
        "..hidden",
        "...",
        "-rf",
        "new\nline",
        "naïve — 名前.txt",
        &long,
    ];
    let home = Home::new(FloatDtype::Bf16, Shards::Two);
    names.iter().for_each(|name| write(&home, name, name.as_bytes()));
    assert_eq!(left_out(&home), [""; 0]);
    export(&open(&home.path("out")).unwrap(), &home.path("back"), None, &|_| {}).unwrap();
    for name in names {
        for dir in ["out", "back"] {
            assert_eq!(fs::read(home.path(dir).join(name)).unwrap(), name.as_bytes(), "{dir} {name}");
        }
    }
    assert_eq!(list(&home.path("plain")), list(&home.path("back")));
}

#[test]
#[cfg(unix)]
fn names_of_other_bytes_than_utf_8_are_carried_over() {
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt};
    let home = Home::new(FloatDtype::Bf16, Shards::One);
    let name = OsStr::from_bytes(b"latin-\xe9.txt");
    fs::write(home.path("plain").join(name), "x").unwrap();
    assert_eq!(left_out(&home), [""; 0]);
    assert_eq!(fs::read(home.path("out").join(name)).unwrap(), b"x");
}

#[test]
fn other_weights_and_directories_of_programs_are_left_out_by_name() {
    let home = Home::new(FloatDtype::Bf16, Shards::One);
    let names = ["pytorch_model.bin", "onnx/Model.ONNX", "onnx/onnx.json", ".git/HEAD", ".cache/x", "q4/config.json"];
    names.iter().for_each(|name| write(&home, name, b"x"));
    // The index of other shards, beside a whole file.
    write(&home, "model.safetensors.index.json", b"{}");
    let expected = [
        ".cache (a program's own directory)",
        ".git (a program's own directory)",
        "model.safetensors.index.json (other weights)",
        "onnx/Model.ONNX (other weights)",
        "pytorch_model.bin (other weights)",
        "q4 (another model)",
    ];
    let mut found = left_out(&home);
    found.sort();
    assert_eq!(found, expected);
    assert_eq!(list(&home.path("out")), ["config.json", "model.safetensors", "onnx"]);
    assert_eq!(list(&home.path("out/onnx")), ["onnx.json"]);
}

#[test]
#[cfg(unix)]
fn links_to_files_are_followed_and_all_else_is_left_out_by_name() {
    use std::os::unix::fs::symlink;
    let home = Home::new(FloatDtype::Bf16, Shards::One);
    fs::create_dir(home.path("blobs")).unwrap();
    fs::write(home.path("blobs/1a2b"), "from the cache").unwrap();
    let plain = home.path("plain");
    symlink("../blobs/1a2b", plain.join("tokenizer.json")).unwrap();
    symlink("../blobs", plain.join("blobs")).unwrap();
    symlink(".", plain.join("self")).unwrap();
    symlink("nowhere", plain.join("dangling")).unwrap();
    symlink("ring", plain.join("ring")).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(plain.join("pipe")).status().unwrap().success());
    let expected = [
        "blobs (a link to a directory)",
        "dangling (a link that leads to no file)",
        "pipe (neither a file nor a directory)",
        "ring (a link that leads to no file)",
        "self (a link to a directory)",
    ];
    assert_eq!(left_out(&home), expected);
    assert_eq!(list(&home.path("out")), ["config.json", "model.safetensors", "tokenizer.json"]);
    assert_eq!(fs::read(home.path("out/tokenizer.json")).unwrap(), b"from the cache");
    assert!(!fs::symlink_metadata(home.path("out/tokenizer.json")).unwrap().is_symlink());
}

#[test]
fn output_within_the_source_is_not_carried_into_itself() {
    let home = Home::new(FloatDtype::Bf16, Shards::One);
    for out in ["plain/out", "plain/again"] {
        convert(&open(&home.path("plain")).unwrap(), &home.path(out), &parts, &|_| {}).unwrap();
        assert_eq!(list(&home.path(out)), ["config.json", "model.safetensors"]);
    }
}

/// Files in memory have any names that their maker gave them.
#[test]
fn names_that_lead_out_of_the_model_are_left_out() {
    let home = Home::new(FloatDtype::Bf16, Shards::One);
    let mut files: BTreeMap<String, _> = list(&home.path("plain"))
        .into_iter()
        .map(|name| (name.clone(), fs::read(home.path("plain").join(name)).unwrap().into()))
        .collect();
    for name in ["../escaped.txt", "/tmp/qins-escaped.txt", "sub/../../escaped.txt", "sub/kept.txt"] {
        files.insert(name.to_owned(), b"x"[..].into());
    }
    let source = Checkpoint::open(Files::Memory(files.into())).unwrap();
    let left_out = convert(&source, &home.path("out"), &parts, &|_| {}).unwrap();
    assert_eq!(left_out.len(), 3);
    assert!(left_out.iter().all(|left_out| left_out.reason == "not within the model"));
    assert_eq!(fs::read(home.path("out/sub/kept.txt")).unwrap(), b"x");
    assert!(!home.path("escaped.txt").exists() && !Path::new("/tmp/qins-escaped.txt").exists());
}

fn edit_shard(path: &Path, metadata: &[(&str, &str)], add: &[(&str, &str)]) {
    let bytes = fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let mut tensors: Vec<(String, TensorView<'_>)> =
        file.names().into_iter().map(|name| (name.to_owned(), file.tensor(name).unwrap())).collect();
    for (name, original) in add {
        tensors.push(((*name).to_owned(), file.tensor(original).unwrap()));
    }
    let metadata = metadata.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    serialize_to_file(tensors, Some(metadata), path).unwrap();
}

fn metadata(path: &Path) -> BTreeMap<String, String> {
    let bytes = fs::read(path).unwrap();
    let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
    header.metadata().clone().unwrap_or_default().into_iter().filter(|(key, _)| key != "qins").collect()
}

#[test]
fn metadata_of_shards_and_index_is_carried_over_and_back() {
    let home = Home::new(FloatDtype::Bf16, Shards::Two);
    let of_first = [("format", "pt"), ("licence", "MIT \"quoted\""), ("step", "17")];
    edit_shard(&home.path("plain/a-1-of-2.safetensors"), &of_first, &[]);
    edit_shard(&home.path("plain/a-2-of-2.safetensors"), &[("format", "mlx")], &[]);
    let index = home.path("plain/model.safetensors.index.json");
    let mut value: Value = serde_json::from_slice(&fs::read(&index).unwrap()).unwrap();
    value["metadata"] = json!({ "total_size": 1, "total_parameters": 2 });
    fs::write(&index, value.to_string()).unwrap();
    assert_eq!(left_out(&home), [""; 0]);
    export(&open(&home.path("out")).unwrap(), &home.path("back"), None, &|_| {}).unwrap();
    for dir in ["out", "back"] {
        let found = metadata(&home.path(dir).join("a-1-of-2.safetensors"));
        assert!(found.iter().map(|(key, value)| (&key[..], &value[..])).eq(of_first), "{dir}: {found:?}");
        assert_eq!(metadata(&home.path(dir).join("a-2-of-2.safetensors"))["format"], "mlx");
        let index: Value =
            serde_json::from_slice(&fs::read(home.path(dir).join("model.safetensors.index.json")).unwrap()).unwrap();
        assert_eq!(index["metadata"]["total_parameters"], 2);
        assert!(index["metadata"]["total_size"].as_u64() > Some(1));
    }
    assert!(verify(&open(&home.path("out")).unwrap(), None, &|_| {}).unwrap().faults.is_empty());
}

#[test]
fn copy_of_another_tensor_is_dropped_and_known_to_verify() {
    let home = Home::new(FloatDtype::Bf16, Shards::One);
    let shard = home.path("plain/model.safetensors");
    edit_shard(&shard, &[], &[("head.weight", "embed.weight")]);
    let copies = BTreeMap::from([("head.weight".to_owned(), "embed.weight".to_owned())]);
    let source = open(&home.path("plain")).unwrap();
    convert_without(&source, &home.path("out"), &parts, &copies, None, None, &|_| {}).unwrap();
    let out = open(&home.path("out")).unwrap();
    assert!(!out.contains("head.weight") && out.contains("embed.weight"));
    let faults = |source| verify(&out, Some(source), &|_| {}).unwrap().faults;
    assert!(faults(&source).is_empty());
    // In another source it is another head.
    edit_shard(&shard, &[], &[]);
    let bytes = fs::read(&shard).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let mut changed = file.tensor("head.weight").unwrap().data().to_vec();
    changed[5] ^= 1;
    let view = TensorView::new(
        file.tensor("head.weight").unwrap().dtype(),
        file.tensor("head.weight").unwrap().shape().to_vec(),
        &changed,
    )
    .unwrap();
    let tensors =
        file.names().into_iter().map(|n| (n, if n == "head.weight" { view.clone() } else { file.tensor(n).unwrap() }));
    serialize_to_file(tensors, None, &home.path("other.safetensors")).unwrap();
    fs::rename(home.path("other.safetensors"), &shard).unwrap();
    let source = open(&home.path("plain")).unwrap();
    let [fault] = &faults(&source)[..] else { panic!() };
    assert!(fault.to_string().contains("`head.weight`: expected the weights of `embed.weight`"), "{fault}");
    assert!(fault.to_string().contains("at element 2"), "{fault}");
    let error =
        convert_without(&source, &home.path("no"), &parts, &copies, None, None, &|_| {}).unwrap_err().to_string();
    assert_eq!(error, fault.to_string());
    assert!(!home.path("no").exists());
}
