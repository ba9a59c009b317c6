//! Configurations that describe no model, or none of this kind.

use std::{fs, path::Path};

use serde_json::{Value, json};

use crate::common::{Home, edit_json, expect_rejections};

fn remove(config: &mut Value, field: &str) {
    config.as_object_mut().unwrap().remove(field).unwrap();
}

#[test]
fn unreadable_file_is_named() {
    type Case = (&'static str, fn(&Path), &'static [&'static str]);
    let cases: [Case; 6] = [
        ("no directory", |dir| fs::remove_dir_all(dir).unwrap(), &["model: no such file or directory", "owner/name"]),
        ("no file", |dir| fs::remove_file(dir.join("config.json")).unwrap(), &["model/config.json", "No such file"]),
        ("empty", |dir| fs::write(dir.join("config.json"), "").unwrap(), &["model/config.json", "line 1"]),
        ("no JSON", |dir| fs::write(dir.join("config.json"), "{\n\"a\": ]").unwrap(), &["model/config.json", "line 2"]),
        ("no text", |dir| fs::write(dir.join("config.json"), [0xff, 0xfe]).unwrap(), &["model/config.json"]),
        ("a list", |dir| fs::write(dir.join("config.json"), "[]").unwrap(), &["model/config.json", "object"]),
    ];
    for (name, spoil, messages) in cases {
        let home = Home::new("e_tied/f32");
        spoil(&home.path("model"));
        for command in ["generate --model model --prompt-ids 5", "validate --model model", "inspect model"] {
            home.qins(command).rejected(&format!("{name}: {command}"), messages);
        }
        home.qins("convert --model model --scheme q8 --out new/out").rejected(name, messages);
        assert!(!home.path("new").exists() && !home.path("report.json").exists(), "{name}");
    }
}

#[test]
fn missing_or_out_of_range_field_is_named() {
    let home = Home::new("e_tied/f32");
    let path = home.path("model/config.json");
    let good = fs::read(&path).unwrap();
    let rejected = |edit: &dyn Fn(&mut Value), field: &str| {
        edit_json(&path, edit);
        home.qins("generate --model model --prompt-ids 5").rejected(field, &["model/config.json: ", field]);
        fs::write(&path, &good).unwrap();
    };
    let sizes = [
        "vocab_size",
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
        "num_attention_heads",
        "max_position_embeddings",
    ];
    for field in sizes {
        let wrong = [
            json!(0),
            json!(-1),
            json!((1_u64 << 28) + 1),
            json!(u64::MAX),
            json!(1e300),
            json!(32.5),
            json!("32"),
            json!([32]),
            Value::Null,
        ];
        for value in wrong {
            rejected(&|c| c[field] = value.clone(), field);
        }
    }
    for field in sizes.into_iter().chain(["model_type", "rms_norm_eps", "hidden_act"]) {
        rejected(&|c| remove(c, field), field);
    }
    for (field, value) in [
        ("num_key_value_heads", json!(0)),
        ("num_key_value_heads", json!(3)),
        ("num_key_value_heads", json!(-1)),
        ("head_dim", json!(0)),
        ("head_dim", json!(1_u64 << 40)),
        ("sliding_window", json!(-8)),
        ("eos_token_id", json!(-1)),
        ("eos_token_id", json!("</s>")),
        ("eos_token_id", json!([1, 1_u64 << 40])),
        ("rms_norm_eps", json!(0.0)),
        ("rms_norm_eps", json!(-1e-5)),
        ("tie_word_embeddings", json!("no")),
        ("rope_parameters", json!("default")),
    ] {
        rejected(&|c| c[field] = value.clone(), field);
    }
    // Each within its bound.
    let both = |c: &mut Value| (c["hidden_size"], c["intermediate_size"]) = (json!(1 << 20), json!(1 << 28));
    rejected(&both, "expected a model of at most 2^42 weights");
}

#[test]
fn unsupported_model_is_rejected_by_every_command_that_builds_it() {
    type Case = (&'static str, &'static str, fn(&mut Value), &'static [&'static str]);
    let cases: [Case; 19] = [
        (
            "attention biases",
            "e_tied",
            |c| c["attention_bias"] = json!(true),
            &["expected no attention_bias", "`phi3`"],
        ),
        ("MLP biases", "e_tied", |c| c["mlp_bias"] = json!(true), &["expected no mlp_bias", "`phi3`"]),
        ("GELU", "e_tied", |c| c["hidden_act"] = json!("gelu"), &["`silu`", "`gelu`"]),
        ("another model", "e_tied", |c| c["model_type"] = json!("mamba"), &["phi3", "llama", "`mamba`"]),
        ("a number for a model", "e_tied", |c| c["model_type"] = json!(3), &["phi3", "model_type"]),
        ("heads that do not divide", "e_tied", |c| c["num_attention_heads"] = json!(5), &["num_key_value_heads", "5"]),
        ("no base", "e_tied", |c| c["rope_parameters"]["rope_theta"] = json!(0), &["rope_theta", "found 0"]),
        (
            "a negative share rotated",
            "e_tied",
            |c| c["rope_parameters"]["partial_rotary_factor"] = json!(-0.5),
            &["rotated dimensions", "found 0"],
        ),
        (
            "an odd share rotated",
            "e_tied",
            |c| c["rope_parameters"]["partial_rotary_factor"] = json!(0.9),
            &["even number", "found 7"],
        ),
        (
            "LongRoPE by an early name",
            "e_tied",
            |c| c["rope_parameters"]["rope_type"] = json!("yarn"),
            &["short_factor", "found 0"],
        ),
        (
            "a factor too few",
            "c_longrope",
            |c| c["rope_parameters"]["short_factor"] = json!([1.0, 1.0]),
            &["expected 8", "short_factor", "found 2"],
        ),
        ("no factors", "c_longrope", |c| remove(&mut c["rope_parameters"], "long_factor"), &["long_factor", "found 0"]),
        ("a factor of 0", "c_longrope", |c| c["rope_parameters"]["long_factor"][3] = json!(0), &["long_factor"]),
        ("a text of factors", "c_longrope", |c| c["rope_parameters"]["long_factor"] = json!("1"), &["long_factor"]),
        (
            "no attention",
            "c_longrope",
            |c| c["rope_parameters"]["attention_factor"] = json!(0),
            &["attention_factor", "found 0"],
        ),
        ("deeper than the file", "e_tied", |c| c["num_hidden_layers"] = json!(4), &["safetensors", "`model.layers.3."]),
        ("as deep as allowed", "e_tied", |c| c["num_hidden_layers"] = json!(4096), &["`model.layers.3."]),
        (
            "wider than the file",
            "e_tied",
            |c| c["hidden_size"] = json!(1 << 28),
            &["config.json", "expected heads of at most 2^20", "268435456"],
        ),
        (
            "another vocabulary",
            "b_gqa",
            |c| c["vocab_size"] = json!(1 << 28),
            &["safetensors", "embed_tokens", "[268435456, 32]", "[112, 32]"],
        ),
    ];
    for (name, fixture, edit, messages) in cases {
        let home = Home::new(&format!("{fixture}/f32"));
        edit_json(&home.path("model/config.json"), edit);
        expect_rejections(&home, name, "gqvc", messages);
    }
}

#[test]
fn other_quantization_format_is_rejected() {
    type Case = (&'static str, fn(&mut Value), &'static [&'static str]);
    let cases: [Case; 5] = [
        ("a newer one", |q| q["format_version"] = json!(4), &["expected format_version 3, found 4", "newer"]),
        ("no version", |q| remove(q, "format_version"), &["format_version", "found null"]),
        ("another method", |q| q["quant_method"] = json!("gptq"), &["`qins`", "`gptq`"]),
        ("an unknown scheme", |q| q["config_groups"]["group_0"]["scheme"] = json!("q2"), &["q2", "q8"]),
        (
            "a module that is not there",
            |q| q["config_groups"]["group_0"]["targets"][0] = json!("model.layers.9.mlp.up_proj"),
            &["model.layers.9.mlp.up_proj.weight_packed"],
        ),
    ];
    for (name, edit, messages) in cases {
        let home = Home::new("e_tied/f32");
        home.qins("convert --model model --scheme q8 --out encoded").done();
        fs::remove_dir_all(home.path("model")).unwrap();
        fs::rename(home.path("encoded"), home.path("model")).unwrap();
        edit_json(&home.path("model/config.json"), |c| edit(&mut c["quantization_config"]));
        expect_rejections(&home, name, "gqvci", &[&["model/config.json"], messages].concat());
    }
}

#[test]
fn encoded_checkpoint_is_not_encoded_again() {
    for scheme in ["companded-f32", "q8"] {
        let home = Home::new("b_gqa/f32");
        home.qins(&format!("convert --model model --scheme {scheme} --out encoded")).done();
        fs::remove_dir_all(home.path("model")).unwrap();
        fs::rename(home.path("encoded"), home.path("model")).unwrap();
        expect_rejections(&home, scheme, "qvc", &["model", "expected a plain", "encoded"]);
    }
}

#[test]
fn unreadable_tokenizer_is_named() {
    let cases: [(&str, &str, &[&str]); 3] = [
        ("tokenizer.json", "", &["model/tokenizer.json"]),
        ("tokenizer.json", "{}", &["model/tokenizer.json"]),
        ("tokenizer.json", r#"{"version": "1.0", "model": {"type": "Rot13"}}"#, &["model/tokenizer.json"]),
    ];
    for (file, text, messages) in cases {
        let home = Home::new("e_tied/f32");
        home.write(&format!("model/{file}"), text);
        expect_rejections(&home, &format!("{file}: {text}"), "gqv", messages);
    }
}
