//! What a model's files say twice, wrongly, or besides.

use std::fs;

use serde_json::{Value, json};

use crate::common::{Home, NEW, Tensor, edit_json, edit_tensors, expect_rejections, json_file, read_tensors};

const FILE: &str = "model/model.safetensors";

const EMBEDDING: &str = "model.embed_tokens.weight";

fn copy_of(tensor: &Tensor) -> Tensor {
    Tensor { dtype: tensor.dtype.clone(), shape: tensor.shape.clone(), bytes: tensor.bytes.clone() }
}

#[test]
fn tied_head_that_equals_the_embedding_is_dropped_and_noted() {
    for targets in ["safe", "full"] {
        let home = Home::new("e_tied/f32");
        let generate = |home: &Home, dir: &str| {
            home.qins(&format!("generate --model {dir} --prompt-ids 5,7 --max-new-tokens 4 --json"))
        };
        let before = generate(&home, "model").lines()[0].clone();
        edit_tensors(&home.path(FILE), |t| drop(t.insert("lm_head.weight".to_owned(), copy_of(&t[EMBEDDING]))));
        let note = "note: model: tensors the model does not use: lm_head.weight (tied to model.embed_tokens.weight";
        for command in ["generate --model model --prompt-ids 5 --max-new-tokens 1", "inspect model"] {
            let run = home.qins(command);
            assert!(run.err.contains(note), "{command}: {}", run.err);
        }
        assert_eq!(generate(&home, "model").lines()[0], before);
        let run = home.qins(&format!("convert --model model --scheme q3 --targets {targets} --out out"));
        assert!(run.err.contains(note), "{}", run.err);
        assert!(!read_tensors(&home.path("out/model.safetensors")).contains_key("lm_head.weight"));
        home.qins("verify model").done();
        home.qins("verify out --against model").done();
        home.qins("export out --out back --dtype f32").done();
        assert!(!read_tensors(&home.path("back/model.safetensors")).contains_key("lm_head.weight"));
        assert_eq!(generate(&home, "out").lines()[0], generate(&home, "back").lines()[0]);
    }
}

#[test]
fn tied_head_that_differs_from_the_embedding_is_rejected_by_both_names() {
    type Edit = fn(&mut Tensor);
    let edits: [(Edit, &str); 3] = [
        (|head| head.set(77, 0.5), "instead of"),
        (
            |head| {
                head.shape = vec![111, 32];
                head.bytes.truncate(111 * 32 * 4);
            },
            "shape [111, 32] instead of [112, 32]",
        ),
        (|head| head.dtype = "I32".to_owned(), "expected F32, F16 or BF16, found I32"),
    ];
    for (edit, message) in edits {
        let home = Home::new("e_tied/f32");
        edit_tensors(&home.path(FILE), |t| {
            let mut head = copy_of(&t[EMBEDDING]);
            edit(&mut head);
            t.insert("lm_head.weight".to_owned(), head);
        });
        expect_rejections(&home, message, "gqvc", &[FILE, "`lm_head.weight`", message]);
        let run = home.qins("verify model");
        assert!(run.code == Some(1) && run.out.contains("`lm_head.weight`"), "{}", run.out);
        home.qins("logits --model model --prompt-ids 5 --out l.safetensors").rejected(message, &["`lm_head.weight`"]);
        assert!(home.qins("inspect model").err.contains("`lm_head.weight`"));
    }
    // In an encoded checkpoint the two cannot be compared.
    let home = Home::new("e_tied/f32");
    let head = copy_of(&read_tensors(&home.path(FILE))[EMBEDDING]);
    home.qins("convert --model model --scheme q8 --targets full --out out").done();
    edit_tensors(&home.path("out/model.safetensors"), |t| drop(t.insert("lm_head.weight".to_owned(), head)));
    for command in ["export out --out back", "generate --model out --prompt-ids 5"] {
        home.qins(command).rejected(command, &["`lm_head.weight`", "`model.embed_tokens.weight`", "encoded"]);
    }
}

#[test]
fn untied_model_without_a_head_is_rejected() {
    let home = Home::new("e_tied/f32");
    edit_json(&home.path("model/config.json"), |c| c["tie_word_embeddings"] = json!(false));
    expect_rejections(&home, "no head", "gqvc", &[FILE, "`lm_head.weight`", "no such tensor"]);
}

#[test]
fn linear_stored_fused_and_by_itself_is_rejected_by_both_names() {
    for (fused, own) in [
        ("model.layers.1.self_attn.qkv_proj.weight", "model.layers.1.self_attn.q_proj.weight"),
        ("model.layers.1.self_attn.qkv_proj.weight", "model.layers.1.self_attn.v_proj.weight"),
        ("model.layers.2.mlp.gate_up_proj.weight", "model.layers.2.mlp.up_proj.weight"),
    ] {
        let home = Home::new("e_tied/f32");
        edit_tensors(&home.path(FILE), |t| drop(t.insert(own.to_owned(), copy_of(&t[fused]))));
        expect_rejections(&home, own, "gqvc", &[FILE, &format!("`{own}`"), &format!("`{fused}`"), "found both"]);
        // And beside the encoded linears of a matrix.
        let home = Home::new("e_tied/f32");
        let whole = copy_of(&read_tensors(&home.path(FILE))[fused]);
        home.qins("convert --model model --scheme q8 --targets all --out out").done();
        edit_tensors(&home.path("out/model.safetensors"), |t| drop(t.insert(fused.to_owned(), whole)));
        home.qins("generate --model out --prompt-ids 5").rejected(fused, &[&format!("`{fused}`"), "found both"]);
    }
}

#[test]
fn unused_tensors_are_named_by_convert_as_by_generate() {
    let home = Home::new("e_tied/f32");
    edit_tensors(&home.path(FILE), |t| {
        for name in ["model.layers.3.input_layernorm.weight", "model.layers.0.self_attn.rotary_emb.inv_freq"] {
            t.insert(name.to_owned(), copy_of(&t["model.norm.weight"]));
        }
    });
    let note = "note: model: tensors the model does not use: model.layers.3.input_layernorm.weight\n";
    for command in
        ["generate --model model --prompt-ids 5", "convert --model model --scheme q8 --out out", "inspect model"]
    {
        let run = home.qins(command);
        assert!(run.code == Some(0) && run.err.contains(note), "{command}: {}", run.err);
    }
    home.qins("verify out --against model").done();
}

#[test]
fn files_that_are_not_carried_over_are_noted() {
    let home = Home::new("e_tied/f32");
    fs::create_dir(home.path("model/additional_chat_templates")).unwrap();
    home.write("model/additional_chat_templates/rag.jinja", "{{ messages }}");
    home.write("model/model.gguf", "weights");
    let note = "note: model: files that are not carried over: model.gguf (other weights)\n";
    let run = home.qins("convert --model model --scheme q8 --out out");
    assert!(run.code == Some(0) && run.err.contains(note), "{}", run.err);
    fs::rename(home.path("model/model.gguf"), home.path("out/model.gguf")).unwrap();
    let run = home.qins("export out --out back");
    assert!(run.code == Some(0) && run.err.contains("note: out: files that are not carried over: model.gguf"));
    assert_eq!(fs::read(home.path("back/additional_chat_templates/rag.jinja")).unwrap(), b"{{ messages }}");
}

/// JSON that Python writes or reads, and JSON that nobody does: in every file, before the work.
#[test]
fn json_that_is_not_plain_is_named_by_file_and_field() {
    type Edit = fn(&str) -> String;
    let cases: [(&str, Edit, &[&str]); 7] = [
        ("a byte order mark", |json| format!("\u{feff}{json}"), &["byte order mark"]),
        ("NaN", |json| format!("{{\"x\": NaN,{}", &json[1..]), &["x: expected a finite number, found NaN"]),
        ("infinity", |json| format!("{{\"x\": -Infinity,{}", &json[1..]), &["x: expected a finite number, found -Inf"]),
        ("a huge number", |json| format!("{{\"x\": 1e999,{}", &json[1..]), &["x: expected a number", "1e999"]),
        ("a key twice", |json| format!("{{\"x\": 1, \"x\": 2,{}", &json[1..]), &["each key once", "`x`"]),
        ("a list", |json| format!("[{json}]"), &["expected a JSON object"]),
        (
            "the end missing",
            |json| json[..json.len() - 1].to_owned(),
            &["expected more JSON, found the end of the file"],
        ),
    ];
    for (what, edit, messages) in cases {
        for (file, rejecting) in [
            ("config.json", "gqvci"),
            ("generation_config.json", "gqvc"),
            ("tokenizer_config.json", "gqv"),
            ("model.safetensors.index.json", "gqvci"),
        ] {
            let home = Home::new("b_gqa/f32");
            let path = home.path(&format!("model/{file}"));
            let json = if path.exists() { json_file(&path) } else { json!({ "bos_token": "<s>" }) };
            fs::write(&path, edit(&json.to_string())).unwrap();
            let file = format!("model/{file}: ");
            expect_rejections(&home, &format!("{file}{what}"), rejecting, &[&[&file[..]], messages].concat());
        }
    }
}

#[test]
fn stop_ids_beyond_the_vocabulary_are_named() {
    for file in ["config.json", "generation_config.json"] {
        for id in ["-1", "112", "1e99", "1099511627776", "2.0", "true", "\"</s>\"", "[2, -1]", "{}"] {
            let home = Home::new("e_tied/f32");
            let value: Value = serde_json::from_str(id).unwrap();
            edit_json(&home.path(&format!("model/{file}")), |c| c["eos_token_id"] = value);
            let found = if id == "[2, -1]" { "-1" } else { &id.replace("1e99", "1e+99") };
            let messages =
                [&format!("model/{file}: eos_token_id: "), "below vocab_size 112", &format!("found {found}")];
            expect_rejections(&home, &format!("{file} {id}"), "gqvc", &messages);
        }
    }
}

#[test]
#[cfg(unix)]
fn generation_config_that_is_no_file_is_named() {
    type Make = fn(&std::path::Path);
    let cases: [(Make, &str); 4] = [
        (|path| fs::create_dir(path).unwrap(), "expected a file, found a directory"),
        (|path| std::os::unix::fs::symlink("nowhere", path).unwrap(), "No such file"),
        (|path| std::os::unix::fs::symlink("generation_config.json", path).unwrap(), "symbolic links"),
        (
            |path| assert!(std::process::Command::new("mkfifo").arg(path).status().unwrap().success()),
            "expected a file, found a pipe",
        ),
    ];
    for (make, message) in cases {
        let home = Home::new("e_tied/f32");
        let path = home.path("model/generation_config.json");
        fs::remove_file(&path).unwrap();
        make(&path);
        expect_rejections(&home, message, "gqvc", &["model/generation_config.json: ", message]);
        assert_eq!(home.list(), NEW);
    }
}

#[test]
fn contradicting_rope_settings_are_rejected_by_every_command_that_builds_the_model() {
    type Case = (fn(&mut Value), &'static [&'static str]);
    let cases: [Case; 3] = [
        (|c| c["rope_theta"] = json!(500.0), &["expected one rope_theta", "rope_parameters", "500 beside it"]),
        (
            |c| c["rope_scaling"] = json!({ "rope_type": "default" }),
            &["rope_scaling and rope_parameters", "`default` and `longrope`"],
        ),
        (|c| c["rope_parameters"]["long_mscale"] = json!(1.2), &["rope_parameters", "found long_mscale 1.2"]),
    ];
    for (edit, messages) in cases {
        let home = Home::new("c_longrope/f32");
        edit_json(&home.path("model/config.json"), edit);
        expect_rejections(&home, messages[0], "gqvc", &[&["model/config.json"], messages].concat());
    }
}
