//! `qins export`: what was encoded becomes a checkpoint again that anybody reads.

use std::{fs, path::Path};

use serde_json::{Value, json};

use crate::{
    common::{Home, NEW, Tensor, edit_tensors, ids, json_file, read_tensors},
    decode::{bf16, f16, numbers, q8, shards, tensors_of, words},
};

const FIXTURES: [&str; 7] = ["a_mha", "b_gqa", "c_longrope", "d_sliding", "e_tied", "f_partial", "g_phi4mini"];

/// Both directories have the same files, the same tensors in each, and say the same in all JSON.
#[track_caller]
fn same_checkpoint(what: &str, a: &Path, b: &Path) {
    let list = |dir: &Path| {
        let mut names: Vec<_> = fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        names
    };
    assert_eq!(list(a), list(b), "{what}");
    for name in list(a) {
        let (a, b) = (a.join(&name), b.join(&name));
        let what = format!("{what}: {name:?}");
        match a.extension().and_then(|e| e.to_str()) {
            Some("safetensors") => {
                let (a, b) = (read_tensors(&a), read_tensors(&b));
                assert_eq!(a.keys().collect::<Vec<_>>(), b.keys().collect::<Vec<_>>(), "{what}");
                for (tensor, other) in a.values().zip(b.values()) {
                    assert!(tensor.dtype == other.dtype && tensor.shape == other.shape, "{what}");
                    assert!(tensor.bytes == other.bytes, "{what}");
                }
            }
            Some("json") => {
                let (mut a, mut b) = (json_file(&a), json_file(&b));
                // The sum of all bytes, which some writers take of the files, not of the tensors.
                for index in [&mut a, &mut b].into_iter().filter(|json| json.get("weight_map").is_some()) {
                    index.as_object_mut().unwrap().remove("metadata");
                }
                assert_eq!(a, b, "{what}");
            }
            _ => assert!(fs::read(a).unwrap() == fs::read(b).unwrap(), "{what}"),
        }
    }
}

#[test]
fn lossless_round_trip_is_bit_exact() {
    for fixture in FIXTURES {
        for dtype in ["f32", "bf16"] {
            let home = Home::new(&format!("{fixture}/{dtype}"));
            home.write("model/LICENSE", "as it was\n");
            for targets in ["safe", "all", "full"] {
                let what = format!("{fixture}/{dtype} {targets}");
                let (out, back) = (format!("out-{targets}"), format!("back-{targets}"));
                home.qins(&format!("convert --model model --scheme lossless --targets {targets} --out {out}")).done();
                let text = home.qins(&format!("export {out} --out {back}")).done();
                assert!(text.starts_with(&format!("{back}: ")) && text.lines().count() == 1, "{text}");
                same_checkpoint(&what, &home.path("model"), &home.path(&back));
                home.qins(&format!("verify {out} --against {back}")).done();
            }
        }
    }
}

/// Numbers that arithmetic would not keep: a signalling NaN and one with a payload, −0, infinity and a denormal.
const STRANGE: [u32; 5] = [0x7fa1_2345, 0xffc0_dead, 0x8000_0000, 0xff80_0000, 0x0000_0001];

fn plant(tensor: &mut Tensor) {
    let size = tensor.bytes.len() / tensor.shape.iter().product::<usize>();
    for (i, bits) in STRANGE.iter().enumerate() {
        tensor.bytes[(3 * i + 1) * size..][..size].copy_from_slice(&bits.to_le_bytes()[4 - size..]);
    }
}

#[test]
fn non_finite_weights_survive_lossless_and_are_rejected_elsewhere() {
    const LINEAR: &str = "model.layers.1.mlp.gate_up_proj.weight";
    for fixture in ["e_tied/f32", "e_tied/bf16"] {
        for (planted, norm) in [(LINEAR, false), ("model.layers.0.input_layernorm.weight", true)] {
            let what = format!("{fixture} {planted}");
            let home = Home::new(fixture);
            let file = home.path("model/model.safetensors");
            edit_tensors(&file, |tensors| plant(tensors.get_mut(planted).unwrap()));
            for form in ["lossless --targets full", "lossless --targets full --entropy --override q=none"] {
                home.qins(&format!("convert --model model --scheme {form} --out out")).done();
                home.qins("export out --out back").done();
                same_checkpoint(&what, &home.path("model"), &home.path("back"));
                home.qins("verify out --against model").done();
                // To decode it is one thing, to compute with it another.
                let part =
                    if norm { planted.to_owned() } else { "model.layers.1.mlp.gate_proj.weight_packed".to_owned() };
                home.qins("generate --model out --prompt-ids 5")
                    .rejected(&what, &["out/model.safetensors", &part, "finite"]);
                ["out", "back"].iter().for_each(|dir| fs::remove_dir_all(home.path(dir)).unwrap());
            }
            for scheme in ["companded-f32", "q8g", "q8", "q6", "q5", "q4", "q3", "rate"] {
                let run = home.qins(&format!("convert --model model --scheme {scheme} --out out"));
                let found =
                    format!("expected finite weights, found NaN at {}", if norm { "element 1" } else { "row 0" });
                run.rejected(&what, &["model/model.safetensors", planted, &found]);
                assert_eq!(home.list(), NEW, "{what}");
            }
        }
    }
}

#[test]
fn exported_weights_equal_the_decoded_ones() {
    for fixture in ["b_gqa/f32", "e_tied/bf16"] {
        let home = Home::new(fixture);
        home.qins("convert --model model --scheme q8 --targets full --out out").done();
        home.qins("export out --out f32 --dtype f32").done();
        let (encoded, exported) = (tensors_of(&home.path("out")), tensors_of(&home.path("f32")));
        let source = tensors_of(&home.path("model"));
        assert_eq!(exported.keys().collect::<Vec<_>>(), source.keys().collect::<Vec<_>>());
        for (name, tensor) in &exported {
            assert_eq!((&tensor.dtype[..], &tensor.shape), ("F32", &source[name].shape), "{name}");
            let module = name.trim_end_matches(".weight");
            let part = |from: &str, to: &str| q8(&encoded, &module.replace(from, to));
            let expected = if module.ends_with("qkv_proj") {
                ["q_proj", "k_proj", "v_proj"].map(|to| part("qkv_proj", to)).concat()
            } else if module.ends_with("gate_up_proj") {
                ["gate_proj", "up_proj"].map(|to| part("gate_up_proj", to)).concat()
            } else if encoded.contains_key(name) {
                numbers(&encoded[name])
            } else {
                q8(&encoded, module)
            };
            assert_eq!(numbers(tensor), expected, "{name}");
        }
    }
}

#[test]
fn dtype_applies_to_all_weights_and_the_configuration() {
    let home = Home::new("b_gqa/f32");
    for (i, form) in
        ["q4 --targets all", "rate --targets full", "lossless", "q5 --entropy --override down=none"].iter().enumerate()
    {
        let out = format!("out{i}");
        home.qins(&format!("convert --model model --scheme {form} --out {out}")).done();
        home.qins(&format!("export {out} --out {out}-f32 --dtype f32")).done();
        let wide = tensors_of(&home.path(&format!("{out}-f32")));
        for (dtype, stored, name, widen) in
            [("bf16", "BF16", "bfloat16", bf16 as fn(u16) -> f32), ("f16", "F16", "float16", f16)]
        {
            home.qins(&format!("export {out} --out {out}-{dtype} --dtype {dtype}")).done();
            let dir = home.path(&format!("{out}-{dtype}"));
            let narrow = tensors_of(&dir);
            assert_eq!(narrow.len(), wide.len());
            for (tensor, wide) in narrow.values().zip(wide.values()) {
                assert_eq!((&tensor.dtype[..], &tensor.shape), (stored, &wide.shape), "{form}");
                for (word, x) in words(tensor).zip(numbers(wide)) {
                    let error = |word: u16| (f64::from(widen(word)) - f64::from(x)).abs();
                    // Of the numbers of that type the nearest; of two as near the even one.
                    for neighbour in [word.wrapping_sub(1), word.wrapping_add(1)] {
                        let is_nearest =
                            error(word) < error(neighbour) || (error(word) == error(neighbour) && word % 2 == 0);
                        assert!(is_nearest || word & 0x7fff == 0, "{form} {dtype}: {x} as {}", widen(word));
                    }
                }
            }
            let mut config = json_file(&dir.join("config.json"));
            assert_eq!(config["dtype"], name);
            config["dtype"] = json!("float32");
            assert_eq!(config, json_file(&home.path("model/config.json")));
        }
    }
}

#[test]
fn exported_model_generates_as_the_encoded_one() {
    // Codes are multiplied as whole numbers, and their floats as floats: sooner or later a model of random weights comes to
    // a tie that this decides.
    let texts = |home: &Home, dir: &str, form: &str| -> Vec<Value> {
        let tokens = if form.starts_with('q') { 8 } else { 48 };
        let generate = format!("generate --prompts prompts.jsonl --max-new-tokens {tokens} --ignore-eos --json");
        home.qins(&format!("{generate} --model {dir}")).lines()[..2].to_vec()
    };
    for fixture in ["b_gqa/bf16", "g_phi4mini/f32"] {
        let home = Home::new(fixture);
        for form in ["q8", "q4", "q3 --targets full --entropy", "rate --bits-per-weight 3", "companded-f32 --alpha 3"] {
            home.qins(&format!("convert --model model --scheme {form} --out out")).done();
            home.qins("export out --out back --dtype f32").done();
            assert_eq!(texts(&home, "out", form), texts(&home, "back", form), "{fixture} {form}");
            assert!(
                form != "q3 --targets full --entropy" || texts(&home, "out", form) != texts(&home, "model", form),
                "{fixture}"
            );
            ["out", "back"].iter().for_each(|dir| fs::remove_dir_all(home.path(dir)).unwrap());
        }
    }
}

#[test]
fn embedded_model_round_trips() {
    let home = Home::new("e_tied/f32");
    home.qins("convert --scheme lossless --targets full --out out").done();
    home.qins("export out --out back").done();
    let from = crate::common::repository("crates/qins/assets/atlas/model.safetensors");
    let (from, back) = (read_tensors(&from), read_tensors(&home.path("back/model.safetensors")));
    assert!(from.len() == back.len() && from.iter().all(|(name, tensor)| back[name].bytes == tensor.bytes));
    let answer = |model: &[&str]| {
        let prompt = ["generate", "--prompt", "The capital of France is", "--json"];
        ids(&home.run(&[&prompt[..], model].concat()).lines()[0]["generated_ids"])
    };
    assert_eq!(answer(&["--model", "back"]), answer(&[]));
    assert!(home.path("back/tokenizer.json").is_file());
}

#[test]
fn invalid_input_is_rejected_and_leaves_no_output() {
    let home = Home::new("e_tied/f32");
    home.qins("convert --model model --scheme q8 --out out").done();
    let mut before = home.list();
    let rejected = |command: &str, messages: &[&str], before: &[String]| {
        home.qins(command).rejected(command, messages);
        assert_eq!(home.list(), before, "{command}");
    };
    rejected("export out", &["--out <DIR>"], &before);
    rejected("export out --out new --dtype f64", &["'f64'", "bf16, f16, f32"], &before);
    rejected(
        "export model --out new",
        &["model/config.json", "expected an encoded checkpoint, found a plain one"],
        &before,
    );
    rejected("export nowhere --out new", &["nowhere: no such file or directory"], &before);
    rejected("export out --out model", &["model", "expected a new or empty directory"], &before);
    // A weight beyond the type would be an infinity there.
    edit_tensors(&home.path("model/model.safetensors"), |tensors| {
        tensors.get_mut("model.layers.1.input_layernorm.weight").unwrap().set(3, 70_000.0);
        tensors.get_mut("model.layers.2.mlp.down_proj.weight").unwrap().set(3, -65_504.0);
    });
    home.qins("convert --model model --scheme q8 --out large").done();
    before = home.list();
    let messages = ["large/model.safetensors", "`model.layers.1.input_layernorm.weight`", "F16 can hold, found 70000"];
    rejected("export large --out new --dtype f16", &messages, &before);
    home.qins("export large --out new --dtype bf16").done();
    fs::remove_dir_all(home.path("new")).unwrap();
    // Damage is no weights.
    let shard = shards(&home.path("out")).remove(0);
    let mut bytes = fs::read(&shard).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&shard, bytes).unwrap();
    rejected("export out --out new", &["out/model.safetensors", "checksum"], &before);
}
