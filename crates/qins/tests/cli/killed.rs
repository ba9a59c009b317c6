//! `qins convert`, killed at any moment: there is a whole checkpoint or none, and the next run is as if nothing had been.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::process::ExitStatusExt,
    path::Path,
    process::Stdio,
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::common::{Home, NEW, edit_json, edit_tensors};

const HIDDEN: usize = 512;
const LAYERS: usize = 4;
const MOMENTS: u32 = 20;
const CONVERT: &str = "convert --model model --scheme q8 --targets full --entropy --out out";

/// Some tens of megabytes of weights in a file for each layer.
pub(crate) fn large_model(home: &Home) {
    edit_json(&home.path("model/config.json"), |config| {
        for (field, value) in
            [("hidden_size", HIDDEN), ("intermediate_size", 2 * HIDDEN), ("num_hidden_layers", LAYERS)]
        {
            config[field] = json!(value);
        }
    });
    let mut seed = 1_u64;
    let mut weights = |n: usize| -> Vec<u8> {
        let mut one = || {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            // Of the upper half of an f32: a sign, an exponent near that of 0.02, and a mantissa.
            let bits = (seed >> 48) as u16;
            (bits & 0x807f | (0x3c80 - 0x80 * (bits >> 7 & 7).min(bits >> 10 & 7))).to_le_bytes()
        };
        (0..n).flat_map(|_| one()).collect()
    };
    let mut tensors = vec![BTreeMap::new(); LAYERS];
    let mut add = |shard: usize, name: String, shape: &[usize]| {
        tensors[shard].insert(name, (shape.to_vec(), weights(shape.iter().product())));
    };
    for layer in 0..LAYERS {
        let name = |last: &str| format!("model.layers.{layer}.{last}.weight");
        add(layer, name("input_layernorm"), &[HIDDEN]);
        add(layer, name("post_attention_layernorm"), &[HIDDEN]);
        add(layer, name("self_attn.qkv_proj"), &[3 * HIDDEN, HIDDEN]);
        add(layer, name("self_attn.o_proj"), &[HIDDEN, HIDDEN]);
        add(layer, name("mlp.gate_up_proj"), &[4 * HIDDEN, HIDDEN]);
        add(layer, name("mlp.down_proj"), &[HIDDEN, 2 * HIDDEN]);
    }
    add(0, "model.embed_tokens.weight".to_owned(), &[112, HIDDEN]);
    add(LAYERS - 1, "model.norm.weight".to_owned(), &[HIDDEN]);
    let mut map = serde_json::Map::new();
    for (shard, tensors) in tensors.into_iter().enumerate() {
        let file = format!("model-{:05}-of-{LAYERS:05}.safetensors", shard + 1);
        map.extend(tensors.keys().map(|name| (name.clone(), json!(file))));
        write_tensors(&home.path("model").join(file), tensors);
    }
    home.write("model/model.safetensors.index.json", json!({ "weight_map": Value::Object(map) }).to_string());
    fs::remove_file(home.path("model/model.safetensors")).unwrap();
}

fn write_tensors(path: &Path, tensors: BTreeMap<String, (Vec<usize>, Vec<u8>)>) {
    fs::write(path, [&2_u64.to_le_bytes()[..], b"{}"].concat()).unwrap();
    edit_tensors(path, |all| {
        let tensor = |(shape, bytes)| crate::common::Tensor { dtype: "BF16".to_owned(), shape, bytes };
        all.extend(tensors.into_iter().map(|(name, parts)| (name, tensor(parts))));
    });
}

/// Every file of a directory.
pub(crate) fn content(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let files = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
    files.map(|file| (file.file_name().into_string().unwrap(), fs::read(file.path()).unwrap())).collect()
}

#[test]
fn killed_conversion_leaves_no_partial_checkpoint() {
    let home = Home::new("e_tied/bf16");
    large_model(&home);
    let convert = || {
        let start = Instant::now();
        home.qins(CONVERT).done();
        start.elapsed()
    };
    let mut undisturbed = convert();
    let whole = content(&home.path("out"));
    fs::remove_dir_all(home.path("out")).unwrap();
    let (mut killed, mut left_something) = (0, 0);
    for moment in 0..MOMENTS {
        let mut child = home.command(&CONVERT.split(' ').collect::<Vec<_>>());
        let mut child = child.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        thread::sleep(undisturbed * (2 * moment + 1) / (2 * MOMENTS) + Duration::from_millis(1));
        child.kill().unwrap();
        let status = child.wait().unwrap();
        let what = format!("moment {moment} of {undisturbed:?}: {status}");
        if home.path("out").exists() {
            // In its place it is whole, whether or not the process lived to tell.
            assert!(content(&home.path("out")) == whole, "{what}");
            fs::remove_dir_all(home.path("out")).unwrap();
        } else {
            assert_eq!(status.signal(), Some(9), "{what}");
            for command in ["verify out", "inspect out"] {
                home.qins(command).rejected(&what, &["out: no such file or directory"]);
            }
            killed += 1;
        }
        left_something += usize::from(home.list().len() > NEW.len());
        // A machine that was busy at first would have the later moments come too late.
        undisturbed = undisturbed.min(convert());
        assert_eq!(home.list(), ["model", "out", "prompts.jsonl"], "{what}");
        assert!(content(&home.path("out")) == whole, "{what}");
        fs::remove_dir_all(home.path("out")).unwrap();
    }
    // Most moments are amid the work, and of those most after a file has been begun.
    assert!(killed >= 5 && left_something >= 3, "{killed} killed, {left_something} left something");
}
