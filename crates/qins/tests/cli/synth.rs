//! `qins synth`: the tensors and shards of a model of that configuration, with random weights.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use crate::common::{Home, fixture, ids, json_file, read_tensors};

/// Names and shapes of all tensors of a directory, over its shards.
fn shapes(home: &Home, dir: &str) -> BTreeMap<String, Vec<usize>> {
    let files = fs::read_dir(home.path(dir)).unwrap().map(|entry| entry.unwrap().path());
    let shards = files.filter(|path| path.extension().is_some_and(|extension| extension == "safetensors"));
    shards.flat_map(|path| read_tensors(&path)).map(|(name, tensor)| (name, tensor.shape)).collect()
}

#[test]
fn checkpoint_has_the_tensors_of_its_configuration() {
    let home = Home::new("b_gqa/f32");
    for name in ["a_mha/f32", "b_gqa/f32", "e_tied/f32", "g_phi4mini/f32"] {
        let config = fixture(name).join("config.json").display().to_string();
        let out = name.split('/').next().unwrap();
        home.run(&["synth", "--config", &config, "--out", out]).done();
        let real = Home::new(name);
        assert_eq!(shapes(&home, out), shapes(&real, "model"), "{name}");
        let command = format!("generate --model {out} --prompt-ids 5,6 --max-new-tokens 8 --ignore-eos --json");
        assert_eq!(ids(&home.qins(&command).lines()[0]["generated_ids"]).len(), 8, "{name}");
    }
}

#[test]
fn shards_keep_their_limit_and_are_deterministic() {
    let home = Home::new("b_gqa/f32");
    let small = |out: &str, extra: &str| {
        let config = fixture("b_gqa/f32").join("config.json").display().to_string();
        home.qins(&format!("synth --config {config} --out {out} {extra}")).done()
    };
    assert!(small("whole", "").contains("in 1 shards"));
    let text = small("parts", "--shard-bytes 20000");
    let index = json_file(&home.path("parts/model.safetensors.index.json"));
    let names = index["weight_map"].as_object().unwrap().values().map(|name| name.as_str().unwrap());
    let shards: BTreeSet<&str> = names.collect();
    assert!(shards.len() > 2 && text.contains(&format!("in {} shards", shards.len())), "{text}");
    for shard in shards {
        assert!(fs::metadata(home.path("parts").join(shard)).unwrap().len() < 24_000);
    }
    assert_eq!(index["metadata"]["total_size"].as_u64(), Some(2 * 35_040));
    assert_eq!(shapes(&home, "whole"), shapes(&home, "parts"));
    small("again", "");
    let bytes = |dir: &str| fs::read(home.path(dir).join("model.safetensors")).unwrap();
    assert_eq!(bytes("whole"), bytes("again"));
}

#[test]
fn configuration_of_quantised_weights_gives_plain_ones() {
    let home = Home::new("b_gqa/f32");
    home.qins("convert --model model --scheme q8 --out q8").done();
    let run = home.qins("synth --config q8/config.json --out plain");
    assert!(run.err.contains("q8/config.json: quantization_config is left out"), "{}", run.err);
    run.done();
    assert!(json_file(&home.path("plain/config.json")).get("quantization_config").is_none());
    home.qins("generate --model plain --prompt-ids 5 --max-new-tokens 2").done();
}

#[test]
fn invalid_configuration_is_rejected() {
    let home = Home::new("b_gqa/f32");
    home.write("list.json", "[]");
    home.write("other.json", "{\"model_type\":\"bert\"}");
    for (config, messages) in [
        ("nowhere.json", &["nowhere.json", "No such file"][..]),
        ("list.json", &["list.json: expected a JSON object, found []"]),
        ("prompts.jsonl", &["prompts.jsonl: "]),
        ("other.json", &["bert"]),
    ] {
        home.qins(&format!("synth --config {config} --out out")).rejected(config, messages);
        assert!(!home.path("out").exists(), "{config}");
    }
    home.qins("synth --config phi-3.5-mini --out model")
        .rejected("taken", &["model", "expected a new or empty directory"]);
}
