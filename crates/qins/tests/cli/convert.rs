//! `qins convert` and `qins inspect`: a converted model equals one encoded while loading, and `inspect` shows its size.

use std::fs;

use serde_json::{Value, json};

use crate::common::{Home, NEW, ids, json_file, read_tensors, tensor_bytes};

/// The linears of a block that a policy encodes, and whether the tables are too.
const TARGETS: [(&str, &[&str], bool); 4] = [
    ("safe", &["mlp.down_proj", "mlp.gate_proj", "mlp.up_proj", "self_attn.o_proj", "self_attn.v_proj"], false),
    ("all", &BLOCK, false),
    ("full", &BLOCK, true),
    ("v_proj,down", &["mlp.down_proj", "self_attn.v_proj"], false),
];

const BLOCK: [&str; 7] = [
    "mlp.down_proj",
    "mlp.gate_proj",
    "mlp.up_proj",
    "self_attn.k_proj",
    "self_attn.o_proj",
    "self_attn.q_proj",
    "self_attn.v_proj",
];

/// The names `inspect` must show as encoded, sorted, of a model of three blocks.
fn expected_names(block: &[&str], tables: bool, tied: bool) -> Vec<String> {
    let blocks = (0..3).flat_map(|i| block.iter().map(move |linear| format!("model.layers.{i}.{linear}.weight")));
    let tables = match (tables, tied) {
        (false, _) => &[][..],
        (true, true) => &["model.embed_tokens.weight"],
        (true, false) => &["lm_head.weight", "model.embed_tokens.weight"],
    };
    let mut names: Vec<String> = tables.iter().map(|name| (*name).to_owned()).chain(blocks).collect();
    names.sort();
    names
}

fn inspect(home: &Home, dir: &str) -> Value {
    let mut lines = home.run(&["inspect", dir, "--json"]).lines();
    assert_eq!(lines.len(), 1);
    lines.remove(0)
}

/// A field of each tensor that `inspect` shows and `filter` takes.
fn tensors(inspection: &Value, filter: impl Fn(&Value) -> bool) -> Vec<&Value> {
    inspection["tensors"].as_array().unwrap().iter().filter(|tensor| filter(tensor)).collect()
}

fn weights(tensor: &Value) -> usize {
    tensor["shape"].as_array().unwrap().iter().map(|n| n.as_u64().unwrap() as usize).product()
}

fn bytes(tensor: &Value) -> f64 {
    tensor["bits_per_weight"].as_f64().unwrap() * weights(tensor) as f64 / 8.0
}

#[test]
fn converted_model_generates_as_when_encoded_while_loading() {
    const GENERATE: &str = "generate --prompts prompts.jsonl --max-new-tokens 24 --ignore-eos --json";
    for (fixture, tied) in [("b_gqa/f32", false), ("e_tied/bf16", true)] {
        for scheme in ["companded-f32", "q8", "q4"] {
            for (targets, block, tables) in TARGETS {
                let what = format!("{fixture} {scheme} {targets}");
                let home = Home::new(fixture);
                let run = home.qins(&format!("convert --model model --scheme {scheme} --targets {targets} --out out"));
                assert!(run.done().starts_with("out: "), "{what}");
                assert_eq!(home.list(), ["model", "out", "prompts.jsonl"], "{what}");
                let loading = format!("{GENERATE} --model model --scheme {scheme} --targets {targets}");
                let (loaded, stored) =
                    (home.qins(&loading).lines(), home.qins(&format!("{GENERATE} --model out")).lines());
                assert_eq!(loaded[..2], stored[..2], "{what}");
                for field in ["weight_bytes", "bits_per_weight"] {
                    assert_eq!(loaded[2][field], stored[2][field], "{what}");
                }
                adds_up(&home, &what, scheme, &expected_names(block, tables, tied));
            }
        }
    }
}

/// `inspect` shows exactly `names` as encoded, and figures that agree with the files and with each other.
fn adds_up(home: &Home, what: &str, scheme: &str, names: &[String]) {
    let found = inspect(home, "out");
    let fields: Vec<_> = found.as_object().unwrap().keys().collect();
    assert_eq!(fields, ["bits_per_weight", "encoded_weights", "file_bytes", "tensors"], "{what}");
    let is_encoded = |tensor: &Value| names.iter().any(|name| tensor["name"] == *name);
    let encoded = tensors(&found, is_encoded);
    assert_eq!(encoded.iter().map(|t| t["name"].as_str().unwrap()).collect::<Vec<_>>(), names, "{what}");
    assert!(encoded.iter().all(|t| t["scheme"] == scheme), "{what}");
    let plain = inspect(home, "model")["tensors"][0]["scheme"].clone();
    assert!(tensors(&found, |t| !is_encoded(t)).iter().all(|t| t["scheme"] == plain && !t["name"].is_null()), "{what}");
    // Together the tensors are those of the source, in parts where it has them fused.
    let count = |inspection: &Value| tensors(inspection, |_| true).into_iter().map(weights).sum::<usize>();
    assert_eq!(count(&found), count(&inspect(home, "model")), "{what}");

    let encoded_weights: usize = encoded.iter().map(|t| weights(t)).sum();
    let encoded_bytes: f64 = encoded.iter().map(|t| bytes(t)).sum();
    assert_eq!(found["encoded_weights"], encoded_weights, "{what}");
    let bits = found["bits_per_weight"].as_f64().unwrap();
    assert!((bits - 8.0 * encoded_bytes / encoded_weights as f64).abs() < 1e-9, "{what}: {bits}");
    assert_eq!(found["file_bytes"], tensor_bytes(&home.path("out")), "{what}");
    let all: f64 = tensors(&found, |_| true).into_iter().map(bytes).sum();
    assert!((all - found["file_bytes"].as_f64().unwrap()).abs() < 1e-6, "{what}: {all}");
}

#[test]
fn safe_targets_leave_q_and_k_unchanged() {
    let home = Home::new("e_tied/f32");
    home.qins("convert --model model --scheme q8 --out out").done();
    let (from, to) =
        (read_tensors(&home.path("model/model.safetensors")), read_tensors(&home.path("out/model.safetensors")));
    for layer in 0..3 {
        let name = |linear: &str| format!("model.layers.{layer}.self_attn.{linear}");
        let fused = &from[&name("qkv_proj.weight")].bytes;
        for (linear, rows) in [("q_proj", 0..32), ("k_proj", 32..64)] {
            let tensor = &to[&name(&format!("{linear}.weight"))];
            assert_eq!((&tensor.dtype[..], &tensor.shape[..]), ("F32", &[32, 32][..]));
            assert!(tensor.bytes == fused[rows.start * 128..rows.end * 128], "{linear}");
        }
        assert!(!to.contains_key(&name("qkv_proj.weight")) && !to.contains_key(&name("v_proj.weight")));
        assert_eq!(to[&name("v_proj.weight_packed")].shape, [32, 32]);
    }
    let ignore = &json_file(&home.path("out/config.json"))["quantization_config"]["ignore"];
    let ignored: Vec<&str> = ignore.as_array().unwrap().iter().map(|m| m.as_str().unwrap()).collect();
    assert!(ignored.contains(&"model.layers.0.self_attn.q_proj") && ignored.contains(&"model.embed_tokens"));
}

#[test]
fn alpha_is_stored_with_the_weights() {
    for (scheme, alpha) in [("companded-f32", "2.5"), ("q8", "3")] {
        let home = Home::new("b_gqa/f32");
        let encode = format!("--scheme {scheme} --alpha {alpha}");
        home.qins(&format!("convert --model model --out out {encode}")).done();
        let generate = "generate --prompts prompts.jsonl --max-new-tokens 16 --json";
        let loaded = home.qins(&format!("{generate} --model model {encode}")).lines();
        assert_eq!(loaded[..2], home.qins(&format!("{generate} --model out")).lines()[..2], "{scheme}");
        let plain = home.qins(&format!("{generate} --model model")).lines();
        let is_like_plain = ids(&loaded[0]["generated_ids"]) == ids(&plain[0]["generated_ids"]);
        assert!(scheme == "q8" || is_like_plain, "{scheme}");
    }
}

#[test]
fn output_directory_may_be_empty_or_new_and_gets_the_other_files() {
    let home = Home::new("b_gqa/f32");
    home.write("model/LICENSE", "as it was\n");
    fs::create_dir(home.path("empty")).unwrap();
    for out in ["empty", "new/deep/out"] {
        home.qins(&format!("convert --model model --scheme q8 --out {out}")).done();
        let read = |file: &str| fs::read(home.path(out).join(file)).unwrap();
        assert_eq!(read("LICENSE"), b"as it was\n");
        assert!(read("generation_config.json") == fs::read(home.path("model/generation_config.json")).unwrap());
        let mut config = json_file(&home.path(out).join("config.json"));
        config.as_object_mut().unwrap().remove("quantization_config").unwrap();
        assert_eq!(config, json_file(&home.path("model/config.json")));
        let index = json_file(&home.path(out).join("model.safetensors.index.json"));
        assert_eq!(index["metadata"]["total_size"], tensor_bytes(&home.path(out)));
    }
    assert_eq!(home.list(), [&["empty"], &NEW[..1], &["new"], &NEW[1..]].concat());
    assert_eq!(fs::read_dir(home.path("new/deep")).unwrap().count(), 1);
    // The same source gives the same bytes.
    let shard = "model-00001-of-00003.safetensors";
    let read = |dir: &str| fs::read(home.path(dir).join(shard)).unwrap();
    assert!(read("empty") == read("new/deep/out"));
}

#[test]
fn embedded_model_converts_and_loads() {
    let home = Home::new("e_tied/f32");
    home.qins("convert --scheme q8 --out out").done();
    let prompt = ["generate", "--prompt", "The capital of France is", "--json"];
    let stored = home.run(&[&prompt[..], &["--model", "out"]].concat()).lines();
    let loaded = home.run(&[&prompt[..], &["--scheme", "q8"]].concat()).lines();
    assert_eq!(stored[0], loaded[0]);
    assert!(inspect(&home, "out")["bits_per_weight"].as_f64().unwrap() < 9.0);
}

#[test]
fn inspect_prints_a_row_per_tensor() {
    let home = Home::new("e_tied/f32");
    let plain = inspect(&home, "model");
    assert_eq!((&plain["encoded_weights"], &plain["bits_per_weight"]), (&json!(0), &Value::Null));
    assert_eq!(plain["file_bytes"], tensor_bytes(&home.path("model")));
    let text = home.qins("inspect model").done();
    assert!(text.ends_with("nothing is encoded\n"), "{text}");
    home.qins("convert --model model --scheme q8 --targets full --out out").done();
    let (text, json) = (home.qins("inspect out").done(), inspect(&home, "out"));
    for tensor in tensors(&json, |_| true) {
        let name = tensor["name"].as_str().unwrap();
        let row = text.lines().find(|line| line.split_whitespace().next() == Some(name)).unwrap();
        let bits = format!("{:.3}", tensor["bits_per_weight"].as_f64().unwrap());
        assert!(row.contains(tensor["scheme"].as_str().unwrap()) && row.ends_with(&bits), "{row}");
    }
    let bits = format!("{:.3} bits per weight (bpw)", json["bits_per_weight"].as_f64().unwrap());
    assert!(text.trim_end().lines().last().unwrap().contains(&bits), "{text}");
}
