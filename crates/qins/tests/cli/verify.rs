//! `qins verify` and `qins inspect --against`: integrity, and error against the source.

use std::{collections::BTreeMap, fs, path::Path};

use serde_json::{Value, json};

use crate::{
    common::{Home, Run, Tensor, edit_json, edit_tensors, json_file, read_tensors},
    decode::{numbers, q8, shards, tensors_of},
};

/// Asserts exit code 1 and one fault for each of `messages`, which contains all its parts.
#[track_caller]
fn wrong(run: &Run, what: &str, messages: &[&[&str]]) {
    assert_eq!((run.code, &run.err[..]), (Some(1), ""), "{what}: {}", run.out);
    let faults: Vec<&str> = run.out.lines().filter(|line| line.starts_with("fault: ")).collect();
    assert_eq!(faults.len(), messages.len(), "{what}: {}", run.out);
    for (fault, words) in faults.iter().zip(messages) {
        assert!(words.iter().all(|word| fault.contains(word)), "{what}: {words:?} in {fault}");
    }
    let count = if messages.len() == 1 { "1 fault".to_owned() } else { format!("{} faults", messages.len()) };
    assert!(run.out.ends_with(&format!(": {count}\n")), "{what}: {}", run.out);
}

fn json(run: Run) -> Value {
    serde_json::from_str(&run.out).unwrap()
}

#[test]
fn written_checkpoint_has_no_faults() {
    let home = Home::new("b_gqa/bf16");
    for (i, form) in
        ["companded-f32", "lossless", "q8g --entropy", "q8", "q4 --targets full", "rate", "q3 --override '*=none'"]
            .iter()
            .enumerate()
    {
        let dir = format!("out{i}");
        home.qins(&format!("convert --model model --out {dir} --scheme {}", form.replace('\'', ""))).done();
        let tensors = tensors_of(&home.path(&dir)).len();
        let text = home.qins(&format!("verify {dir}")).done();
        assert_eq!(text, format!("{dir}: no faults, {tensors} checksums\n"), "{form}");
        let found = home.qins(&format!("verify {dir} --json")).lines();
        assert_eq!(found, [json!({ "ok": true, "checksums": tensors, "faults": [], "modules": [] })], "{form}");
        let text = home.qins(&format!("verify {dir} --against model")).done();
        let found = home.qins(&format!("verify {dir} --against model --json")).lines().remove(0);
        let modules = found["modules"].as_array().unwrap();
        let config = json_file(&home.path(&dir).join("config.json"));
        let groups = config["quantization_config"]["config_groups"].as_object().unwrap();
        let encoded: usize = groups.values().map(|group| group["targets"].as_array().unwrap().len()).sum();
        assert_eq!((modules.len(), text.lines().count()), (encoded, encoded + 1), "{form}");
        for module in modules {
            let keys: Vec<_> = module.as_object().unwrap().keys().collect();
            assert_eq!(keys, ["changed", "cosine", "name", "output_sqnr_db", "scheme", "sqnr_db", "weights"]);
            let is_exact = ["lossless", "companded-f32"].contains(form);
            assert_eq!((module["changed"] == 0, module["sqnr_db"].is_null()), (is_exact, is_exact), "{form}");
            let row = text.lines().find(|row| row.starts_with(module["name"].as_str().unwrap())).unwrap();
            let decibels = module["sqnr_db"].as_f64().map_or("exact".to_owned(), |db| format!("{db:.2} dB"));
            assert!(row.contains(module["scheme"].as_str().unwrap()) && row.contains(&decibels), "{row}");
        }
    }
}

fn flip(path: &Path, at: usize, bits: u8) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= bits;
    fs::write(path, bytes).unwrap();
}

/// Where each tensor's bytes lie in its file, and where the header ends.
fn places(shard: &Path) -> (usize, BTreeMap<String, [usize; 2]>) {
    let file = fs::read(shard).unwrap();
    let start = 8 + u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
    let header: BTreeMap<String, Value> = serde_json::from_slice(&file[8..start]).unwrap();
    let tensors = header.into_iter().filter(|(name, _)| name != "__metadata__");
    let place = |(name, info): (String, Value)| {
        let [from, to]: [usize; 2] = serde_json::from_value(info["data_offsets"].clone()).unwrap();
        (name, [start + from, start + to])
    };
    (start, tensors.map(place).collect())
}

#[test]
fn flipped_bit_is_found_in_every_tensor() {
    let home = Home::new("b_gqa/f32");
    home.qins("convert --model model --scheme q8 --out rows").done();
    home.qins("convert --model model --scheme q4 --entropy --targets full --out coded").done();
    let mut seed = 1_u32;
    for dir in ["rows", "coded"] {
        for shard in shards(&home.path(dir)) {
            let name = shard.file_name().unwrap().to_str().unwrap();
            for (tensor, [from, to]) in places(&shard).1 {
                seed = seed.wrapping_mul(0x9e37_79b9).wrapping_add(1);
                let at = from + seed as usize % (to - from);
                flip(&shard, at, 1 << (seed >> 29));
                let what = format!("{dir} {tensor} {at}");
                let run = home.qins(&format!("verify {dir}"));
                wrong(&run, &what, &[&[name, &format!("`{tensor}`"), "checksum"]]);
                if seed.is_multiple_of(8) {
                    let found = json(home.qins(&format!("verify {dir} --against model --json")));
                    assert_eq!(found["ok"], false, "{what}");
                    assert!(found["faults"][0].as_str().unwrap().contains(&tensor), "{what}: {found}");
                }
                flip(&shard, at, 1 << (seed >> 29));
            }
        }
        home.qins(&format!("verify {dir}")).done();
    }
}

/// The content of a header that readers use: its length, tensors and checksums.
fn meaning(shard: &Path) -> Option<(u64, Value)> {
    let file = fs::read(shard).unwrap();
    let length = u64::from_le_bytes(file[..8].try_into().unwrap());
    let mut header: Value = serde_json::from_slice(file.get(8..length.checked_add(8)? as usize)?).ok()?;
    // No reader of this format asks for whom it was written.
    header.get_mut("__metadata__")?.as_object_mut()?.retain(|key, _| key == "qins");
    Some((length, header))
}

#[test]
fn changed_header_is_found_unless_equivalent() {
    let home = Home::new("b_gqa/bf16");
    home.qins("convert --model model --scheme q8 --out out").done();
    let shard = &shards(&home.path("out"))[1];
    let (end, good) = (places(shard).0, meaning(shard));
    let mut same = 0;
    for at in (0..8).chain((8..end).step_by(61)).chain([end - 1]) {
        for bits in [1, 0x20, 0x13] {
            flip(shard, at, bits);
            let run = home.qins("verify out");
            let is_same = meaning(shard) == good;
            same += usize::from(is_same);
            let what = format!("byte {at} by {bits:x}: {}{}", run.out, run.err);
            assert!(if is_same { run.code == Some(0) } else { run.code == Some(1) }, "{what}");
            flip(shard, at, bits);
        }
    }
    assert!(same < 8, "{same}");
}

#[test]
fn inconsistent_index_or_configuration_is_a_fault() {
    type Case = (&'static str, fn(&Path), &'static [&'static str]);
    let cases: [Case; 6] = [
        ("a shard gone", |dir| fs::remove_file(&shards(dir)[1]).unwrap(), &["model-00002-of-00003", "No such file"]),
        ("a shard cut", |dir| fs::write(&shards(dir)[1], "").unwrap(), &["model-00002-of-00003", "found 0 bytes"]),
        ("no index", |dir| fs::remove_file(dir.join("model.safetensors.index.json")).unwrap(), &["index.json"]),
        (
            "a deeper model",
            |dir| edit_json(&dir.join("config.json"), |c| c["num_hidden_layers"] = json!(4)),
            &["`model.layers.3."],
        ),
        (
            "a wider model",
            |dir| edit_json(&dir.join("config.json"), |c| c["intermediate_size"] = json!(65)),
            &["gate_proj.weight_shape`", "expected [65, 32], found [64, 32]"],
        ),
        (
            "another model",
            |dir| edit_json(&dir.join("config.json"), |c| c["model_type"] = json!("gpt2")),
            &["config.json", "`gpt2`"],
        ),
    ];
    for (what, spoil, messages) in cases {
        let home = Home::new("b_gqa/f32");
        home.qins("convert --model model --scheme q8 --out out").done();
        spoil(&home.path("out"));
        wrong(&home.qins("verify out"), what, &[messages]);
    }
}

#[test]
fn differences_to_another_source_are_named() {
    const NORM: &str = "model.layers.0.input_layernorm.weight";
    const DOWN: &str = "model.layers.2.mlp.down_proj.weight";
    let home = Home::new("e_tied/f32");
    for scheme in ["lossless", "q8"] {
        home.qins(&format!("convert --model model --scheme {scheme} --targets full --out {scheme}")).done();
    }
    let against = |dir: &str| home.qins(&format!("verify {dir} --against other"));
    let other = |edit: &dyn Fn(&mut BTreeMap<String, Tensor>)| {
        let _ = fs::remove_dir_all(home.path("other"));
        fs::create_dir(home.path("other")).unwrap();
        for file in ["config.json", "model.safetensors"] {
            fs::copy(home.path("model").join(file), home.path("other").join(file)).unwrap();
        }
        edit_tensors(&home.path("other/model.safetensors"), edit);
    };
    other(&|_| {});
    against("lossless").done();
    against("q8").done();
    // The last bit of one weight.
    other(&|tensors| tensors.get_mut(DOWN).unwrap().bytes[400] ^= 1);
    let messages =
        ["lossless/model.safetensors", "`model.layers.2.mlp.down_proj.weight_packed`", "1 of 2048 weights changed"];
    wrong(&against("lossless"), "a bit", &[&messages]);
    against("q8").done();
    other(&|tensors| tensors.get_mut(NORM).unwrap().bytes[9] ^= 1);
    for dir in ["lossless", "q8"] {
        wrong(&against(dir), "a norm", &[&[&format!("{dir}/model.safetensors"), NORM, "other/model.safetensors has"]]);
    }
    other(&|tensors| tensors.get_mut(DOWN).unwrap().bytes.rotate_left(4 * 37));
    wrong(
        &against("q8"),
        "weights of another place",
        &[&["`model.layers.2.mlp.down_proj`", "expected 0 dB or more, found -"]],
    );
    other(&|tensors| drop(tensors.remove(NORM)));
    wrong(&against("q8"), "a tensor less", &[&[&format!("`{NORM}`"), "found other"]]);
    other(&|tensors| {
        let more = tensors[NORM].bytes.clone();
        tensors.insert("more.weight".to_owned(), Tensor { dtype: "F32".to_owned(), shape: vec![32], bytes: more });
    });
    wrong(
        &against("q8"),
        "a tensor more",
        &[&["`more.weight`", "other/model.safetensors has it, found no such tensor"]],
    );
    other(&|tensors| tensors.get_mut(DOWN).unwrap().shape.reverse());
    wrong(&against("q8"), "another shape", &[&["`model.layers.2.mlp.down_proj.weight`", "[32, 64]", "[64, 32]"]]);
    // Another model altogether.
    let elsewhere = Home::new("d_sliding/f32");
    let run = home.qins(&format!("verify q8 --against {}", elsewhere.path("model").display()));
    assert!(run.code == Some(1) && run.out.matches("fault: ").count() > 10, "{}", run.out);
}

#[test]
fn min_sqnr_applies_to_each_linear() {
    let home = Home::new("e_tied/f32");
    home.qins("convert --model model --scheme q8 --override v=q3 --out out").done();
    home.qins("verify out --against model --min-sqnr 10").done();
    home.qins("verify out --against model --min-sqnr -3.5").done();
    let values: Vec<Vec<String>> = (0..3)
        .map(|i| vec![format!("`model.layers.{i}.self_attn.v_proj`"), "expected 30 dB or more, found 1".to_owned()])
        .collect();
    let messages: Vec<Vec<&str>> = values.iter().map(|words| words.iter().map(String::as_str).collect()).collect();
    let messages: Vec<&[&str]> = messages.iter().map(Vec::as_slice).collect();
    wrong(&home.qins("verify out --against model --min-sqnr 30"), "30 dB", &messages);
    let found = json(home.qins("verify out --against model --min-sqnr 30 --json"));
    assert_eq!((&found["ok"], found["faults"].as_array().unwrap().len()), (&json!(false), 3));
    // Exact weights have no SQNR, and pass any minimum.
    home.qins("convert --model model --scheme lossless --out exact").done();
    home.qins("verify exact --against model --min-sqnr 300").done();
    for value in ["nan", "inf", "x", ""] {
        home.run(&["verify", "out", "--against", "model", "--min-sqnr", value]).rejected(value, &["a number of dB"]);
    }
    home.qins("verify out --min-sqnr 30").rejected("no source", &["--against <SOURCE>"]);
}

#[test]
fn plain_checkpoint_has_no_checksums_and_missing_one_is_an_error() {
    let home = Home::new("e_tied/f32");
    assert_eq!(home.qins("verify model").done(), "model: no faults; no checksums, as it is plain\n");
    home.qins("verify model --against model").done();
    let found = home.qins("verify model --json").lines();
    assert_eq!(found, [json!({ "ok": true, "checksums": 0, "faults": [], "modules": [] })]);
    home.qins("convert --model model --scheme q8 --out out").done();
    home.qins("verify").rejected("no directory", &["<MODEL>"]);
    home.qins("verify nowhere").rejected("nowhere", &["nowhere: no such file or directory"]);
    home.qins("verify prompts.jsonl").rejected("a file", &["prompts.jsonl/config.json", "Not a directory"]);
    home.qins("verify out --against nowhere").rejected("no source", &["nowhere: no such file or directory"]);
    for command in ["verify out --against out", "inspect out --against out"] {
        home.qins(command).rejected(command, &["out/config.json", "expected a plain checkpoint as the source"]);
    }
    // Rewritten by another program, the file has no checksums.
    edit_tensors(&home.path("out/model.safetensors"), |_| {});
    let run = home.qins("verify out");
    assert_eq!(
        (run.code, run.out.matches("found none").count()),
        (Some(1), tensors_of(&home.path("out")).len()),
        "{}",
        run.out
    );
}

/// Signal over error and cosine, from the bytes of both files.
fn fidelity(weights: &[f32], decoded: &[f32]) -> [f64; 2] {
    let sum = |f: &dyn Fn(f64, f64) -> f64| -> f64 {
        weights.iter().zip(decoded).map(|(w, d)| f(f64::from(*w), f64::from(*d))).sum()
    };
    let (signal, energy) = (sum(&|w, _| w * w), sum(&|_, d| d * d));
    [10.0 * (signal / sum(&|w, d| (w - d) * (w - d))).log10(), sum(&|w, d| w * d) / (signal * energy).sqrt()]
}

#[test]
fn sqnr_and_cosine_equal_those_of_the_stored_bytes() {
    for fixture in ["e_tied/f32", "e_tied/bf16"] {
        let home = Home::new(fixture);
        home.qins("convert --model model --scheme q8 --targets all --out out").done();
        let (source, encoded) =
            (read_tensors(&home.path("model/model.safetensors")), read_tensors(&home.path("out/model.safetensors")));
        let shown = home.qins("inspect out --against model --json").lines().remove(0);
        let verified = home.qins("verify out --against model --json").lines().remove(0);
        let text = home.qins("inspect out --against model").done();
        let mut compared = 0;
        for tensor in shown["tensors"].as_array().unwrap() {
            let name = tensor["name"].as_str().unwrap();
            let module = name.trim_end_matches(".weight");
            if tensor["scheme"] != "q8" {
                assert!(tensor["sqnr_db"].is_null() && tensor["cosine"].is_null(), "{name}");
                continue;
            }
            let (parent, part) = module.rsplit_once('.').unwrap();
            // Rows are those of the fused matrix, from this one on.
            let (from, first) = match part {
                "q_proj" => (format!("{parent}.qkv_proj"), 0),
                "k_proj" => (format!("{parent}.qkv_proj"), 32),
                "v_proj" => (format!("{parent}.qkv_proj"), 64),
                "gate_proj" => (format!("{parent}.gate_up_proj"), 0),
                "up_proj" => (format!("{parent}.gate_up_proj"), 64),
                _ => (module.to_owned(), 0),
            };
            let decoded = q8(&encoded, module);
            let all = numbers(&source[&format!("{from}.weight")]);
            let cols = tensor["shape"][1].as_u64().unwrap() as usize;
            let [db, cosine] = fidelity(&all[first * cols..][..decoded.len()], &decoded);
            let of = |value: &Value, field: &str| value[field].as_f64().unwrap();
            assert!((of(tensor, "sqnr_db") - db).abs() < 1e-6 && (30.0..60.0).contains(&db), "{name}: {db}");
            assert!((of(tensor, "cosine") - cosine).abs() < 1e-9, "{name}: {cosine}");
            let other = verified["modules"].as_array().unwrap().iter().find(|m| m["name"] == module).unwrap();
            assert_eq!((&other["sqnr_db"], &other["cosine"]), (&tensor["sqnr_db"], &tensor["cosine"]));
            let row = text.lines().find(|line| line.split_whitespace().next() == Some(name)).unwrap();
            assert!(row.ends_with(&format!("{db:.2} {cosine:>10.7}")), "{row}");
            compared += 1;
        }
        assert_eq!(compared, 7 * 3);
    }
    let home = Home::new("e_tied/f32");
    home.qins("convert --model model --scheme lossless --out out").done();
    let text = home.qins("inspect out --against model").done();
    assert_eq!(text.matches("     exact  1.0000000\n").count(), 5 * 3, "{text}");
}
