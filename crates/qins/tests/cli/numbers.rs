//! Numbers that are not finite or out of range: each is named, and nothing is written.

use std::{fs, process::Command};

use serde_json::json;

use crate::common::{Home, NEW, Run, Tensor, edit_tensors, repository};

const FILE: &str = "model/model.safetensors";
const DOWN: &str = "model.layers.1.mlp.down_proj.weight";
const NORM: &str = "model.norm.weight";
const EMBEDDING: &str = "model.embed_tokens.weight";
const QKV: &str = "model.layers.1.self_attn.qkv_proj.weight";

/// A model with one tensor edited.
fn edited(name: &str, edit: impl FnOnce(&mut Tensor)) -> Home {
    let home = Home::new("e_tied/f32");
    edit_tensors(&home.path(FILE), |tensors| edit(tensors.get_mut(name).unwrap()));
    home
}

/// Multiplies all elements of an F32 tensor.
fn scale(tensor: &mut Tensor, by: f32) {
    for bytes in tensor.bytes.as_chunks_mut::<4>().0 {
        *bytes = (f32::from_le_bytes(*bytes) * by).to_le_bytes();
    }
}

/// Runs with an environment variable.
fn with(home: &Home, name: &str, value: &str, arguments: &str) -> Run {
    let mut command: Command = home.command(&arguments.split_whitespace().collect::<Vec<_>>());
    let output = command.env(name, value).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Run { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

#[test]
fn infinite_logit_names_its_token_and_position() {
    // One token's logit overflows; all others are finite.
    let home = edited(EMBEDDING, |t| t.set(50 * 32, 3e38));
    edit_tensors(&home.path(FILE), |tensors| tensors.get_mut(NORM).unwrap().set(0, 1e6));
    for (command, position) in [
        ("generate --model model --prompt-ids 5,7,9", "after token 2 of the sequence"),
        ("generate --model model --prompt-ids 5,7,9 --temperature 1", "after token 2 of the sequence"),
        ("logits --model model --prompt-ids 5,7,9 --out logits.safetensors", "after token 0 of the sequence"),
        ("validate --model model --prompts prompts.jsonl --scheme none --max-new-tokens 2", "of the sequence"),
        ("sweep --model model --prompts prompts.jsonl --schemes q8 --max-new-tokens 2", "of the sequence"),
    ] {
        home.qins(command).rejected(command, &["expected finite logits, found ", "inf of token id 50", position]);
        assert_eq!(home.list(), NEW, "{command}");
    }
}

#[test]
fn keys_and_values_beyond_the_cache_are_named() {
    let values = |by: f32| {
        edited(QKV, |t| {
            let rows: Vec<f32> = t.bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
            rows.iter().enumerate().skip(64 * 32).for_each(|(i, x)| t.set(i, x * by));
        })
    };
    let generate = "generate --model model --prompt-ids 5,7,9 --max-new-tokens 3 --kv";
    let (large, small) = (values(1e7), values(10.0));
    for (kv, most) in [("f16", "65504"), ("q8", "21722.32"), ("k4v4", "21722.32")] {
        let message = format!("expected values of magnitude {most} or less for a KV cache in {kv}, found ");
        large.qins(&format!("{generate} {kv}")).rejected(kv, &["prompt `prompt`", &message, "in layer 1"]);
        // Control: values within the range.
        small.qins(&format!("{generate} {kv}")).done();
    }
    for kv in ["f32", "bf16"] {
        large.qins(&format!("{generate} {kv}")).done();
    }
}

#[test]
fn tiny_weights_are_rejected_with_their_place() {
    for (by, scheme, kept) in [
        (1e-20, "q8", false),
        (1e-20, "q4", false),
        (1e-8, "q4", false),
        (1e-8, "q8g", false),
        (1e-3, "q4", true),
        (1e-20, "lossless", true),
        (1e-20, "rate", true),
        (0.0, "q4", true),
    ] {
        let what = format!("{by:e} {scheme}");
        let home = edited(DOWN, |t| scale(t, by));
        let run = home.qins(&format!("convert --model model --scheme {scheme} --targets all --out out"));
        if kept {
            run.done();
            home.qins("verify out --against model").done();
        } else {
            let tensor = format!("`{DOWN}`: expected weights of magnitude ");
            run.rejected(&what, &[FILE, &tensor, "as the largest around row 0, column ", "lossless and rate"]);
            assert_eq!(home.list(), NEW, "{what}");
            let generate = format!("generate --model model --prompt-ids 5 --scheme {scheme} --targets all");
            home.qins(&generate).rejected(&what, &[FILE, &tensor]);
        }
    }
}

#[test]
fn outlier_is_named_with_its_place_and_the_range() {
    let home = edited(DOWN, |t| t.set(3 * 64 + 5, -1e6));
    home.qins("convert --model model --scheme q8 --targets all --out out").rejected(
        "q8",
        &[FILE, DOWN, "expected weights of magnitude 65504 or less", "found -1000000 at row 3, column 5"],
    );
    assert_eq!(home.list(), NEW);
}

#[test]
fn weights_of_which_nothing_is_left_fail_verification() {
    // Zeros decode to zeros: against other weights nothing is left of these.
    let home = edited(DOWN, |t| scale(t, 0.0));
    home.qins("convert --model model --scheme q8 --targets all --out out").done();
    home.qins("verify out --against model").done();
    let other = Home::new("e_tied/f32");
    let against = other.path("model").display().to_string();
    let run = home.qins(&format!("verify out --against {against}"));
    assert_eq!(run.code, Some(1), "{}{}", run.out, run.err);
    let module = DOWN.trim_end_matches(".weight");
    assert!(run.out.contains(&format!("fault: `{module}`: expected more than 0 dB, found 0.00")), "{}", run.out);
    let shown = home.qins(&format!("inspect out --against {against}")).done();
    let line = shown.lines().find(|line| line.starts_with(DOWN)).unwrap();
    assert!(line.ends_with("0.00          -"), "{line}");
    // The other way: an error without a signal.
    other.qins("convert --model model --scheme q8 --targets all --out out").done();
    let zeros = home.path("model").display().to_string();
    let run = other.qins(&format!("verify out --against {zeros}"));
    assert!(
        run.code == Some(1) && run.out.contains(&format!("`{module}`: expected 0 dB or more, found -inf")),
        "{}",
        run.out
    );
}

#[test]
fn non_finite_plain_tensor_is_found_before_the_work() {
    for (name, at, value, found) in [
        ("model.layers.1.input_layernorm.weight", 31, f32::NAN, "found NaN at element 31"),
        (NORM, 0, f32::INFINITY, "found inf at element 0"),
        (EMBEDDING, 70, f32::NEG_INFINITY, "found -inf at element 70"),
        (QKV, 5, f32::NAN, "found NaN at element 5"),
    ] {
        let messages = [&format!("`{name}`: expected finite weights, {found}")[..]];
        let home = edited(name, |t| t.set(at, value));
        for command in ["generate --model model --prompt-ids 5", "convert --model model --scheme q8 --out out"] {
            home.qins(command).rejected(command, &[&[FILE][..], &messages].concat());
            assert_eq!(home.list(), NEW, "{command}");
        }
        let run = home.qins("verify model");
        assert!(run.code == Some(1) && run.out.contains(messages[0]), "{}{}", run.out, run.err);
    }
    // Control.
    let home = Home::new("e_tied/f32");
    home.qins("verify model").done();
    // A bias, which the model would ignore.
    let bias = "model.layers.0.self_attn.qkv_proj.bias";
    edit_tensors(&home.path(FILE), |tensors| {
        tensors.insert(bias.to_owned(), Tensor { dtype: "F32".to_owned(), shape: vec![96], bytes: vec![0; 4 * 96] });
    });
    let message =
        format!("`{bias}`: expected only biases and norms that a phi3 of this configuration has, found one more");
    for command in ["generate --model model --prompt-ids 5", "convert --model model --scheme q8 --out out"] {
        home.qins(command).rejected(command, &[FILE, &message]);
        assert_eq!(home.list(), NEW, "{command}");
    }
    let run = home.qins("verify model");
    assert!(run.code == Some(1) && run.out.contains(&message), "{}{}", run.out, run.err);
}

/// Inputs that a calibration never reaches, all of a linear's or one in seven, cost no quality.
#[test]
fn calibration_without_inputs_costs_no_quality() {
    let home = Home::new("e_tied/f32");
    home.write("text.txt", "The capital of France is Paris. The capital of Italy is Rome.");
    for every in [1, 7] {
        let name = format!("atlas{every}");
        fs::create_dir(home.path(&name)).unwrap();
        for entry in fs::read_dir(repository("crates/qins/assets/atlas")).unwrap() {
            let path = entry.unwrap().path();
            fs::copy(&path, home.path(&name).join(path.file_name().unwrap())).unwrap();
        }
        edit_tensors(&home.path(&name).join("model.safetensors"), |tensors| {
            let norm = tensors.get_mut("model.layers.0.input_layernorm.weight").unwrap();
            let size = norm.bytes.len() / norm.shape[0];
            norm.bytes.chunks_mut(size).step_by(every).for_each(|element| element.fill(0));
        });
        let decibels = |calibrate: &str| {
            home.qins(&format!("convert --model {name} --scheme q6 --targets v {calibrate} --out out")).done();
            let inspection = &home.qins(&format!("inspect out --against {name} --json")).lines()[0];
            fs::remove_dir_all(home.path("out")).unwrap();
            let tensors = inspection["tensors"].as_array().unwrap();
            let v = tensors.iter().find(|t| t["name"] == "model.layers.0.self_attn.v_proj.weight").unwrap();
            v["sqnr_db"].as_f64().unwrap()
        };
        let (plain, calibrated) = (decibels("--no-calibrate"), decibels("--calibrate text.txt"));
        // Error feedback gives up to 3 dB of the weights for less error of the outputs; a column that no input reached once lost ten.
        assert!(plain > 34.0 && calibrated > plain - 3.0, "{every}: {calibrated:.2} dB, {plain:.2} dB without");
    }
}

#[test]
fn filters_without_a_temperature_are_rejected_and_off_is_off() {
    let home = Home::new("b_gqa/f32");
    let generate = "generate --model model --prompt-ids 5,6 --max-new-tokens 20 --ignore-eos --json";
    let ids = |arguments: &str| home.qins(&format!("{generate} {arguments}")).lines()[0]["generated_ids"].clone();
    for option in ["--top-k 5", "--top-p 0.9", "--min-p 0.1", "--seed 3"] {
        let name = option.split_once(' ').unwrap().0;
        let message = format!("expected --temperature with {name}, found none: without it decoding is greedy");
        home.qins(&format!("{generate} {option}")).rejected(option, &[&message]);
    }
    let greedy = ids("");
    for option in ["--top-k 0", "--top-p 1", "--min-p 0", "--repetition-penalty 1"] {
        assert_eq!(ids(option), greedy, "{option}");
        let at = "--temperature 1 --seed 7";
        assert_eq!(ids(&format!("{at} {option}")), ids(at), "{option}");
    }
    for option in ["--temperature 1e-38", "--temperature 1e-45 --top-p 0.9", "--temperature 0 --top-k 5 --seed 9"] {
        assert_eq!(ids(option), greedy, "{option}");
    }
    assert_ne!(ids("--temperature 1 --seed 7"), greedy);
    home.qins("validate --model model --prompts prompts.jsonl --scheme none --temperature 0 --seed 3")
        .rejected("validate", &["expected a --temperature above 0 with --seed"]);
}

#[test]
fn number_of_threads_is_bounded_however_it_is_given() {
    let home = Home::new("b_gqa/f32");
    let generate = "generate --model model --prompt-ids 5 --max-new-tokens 1";
    for (name, value) in [
        ("RAYON_NUM_THREADS", "99999999"),
        ("RAYON_NUM_THREADS", "0"),
        ("RAYON_NUM_THREADS", "many"),
        ("RAYON_RS_NUM_CPUS", "99999999"),
        ("TOKIO_WORKER_THREADS", "99999999"),
        ("TOKIO_WORKER_THREADS", ""),
    ] {
        for command in [generate, "inspect model", "convert --model model --scheme q8 --out out"] {
            let messages = [&format!("{name}: expected 1 to ")[..], &format!(" threads, found `{value}`")];
            with(&home, name, value, command).rejected(name, &messages);
        }
    }
    assert_eq!(home.list(), NEW);
    let found = |value: &str| -> serde_json::Value {
        serde_json::from_str(&with(&home, "RAYON_NUM_THREADS", value, "doctor --json").done()).unwrap()
    };
    assert_eq!(found("3")["threads"], json!(3));
    // Empty is unset.
    assert_eq!(found("")["threads"], json!(std::thread::available_parallelism().unwrap().get()));
    for (value, messages) in [("0", "found `0`"), ("100000", "found `100000`"), ("-1", "found `-1`")] {
        home.qins(&format!("{generate} --threads {value}")).rejected(value, &["--threads", "expected 1 to ", messages]);
    }
    home.qins(&format!("{generate} --threads 64")).done();
}

#[test]
fn empty_instruction_set_is_unset_and_an_unknown_one_an_error() {
    let home = Home::new("b_gqa/f32");
    with(&home, "QINS_SIMD", "", "generate --model model --prompt-ids 5 --max-new-tokens 1").done();
    for command in
        ["generate --model model --prompt-ids 5", "convert --model model --scheme q8 --out out", "inspect model"]
    {
        with(&home, "QINS_SIMD", "sse9", command)
            .rejected(command, &["QINS_SIMD: expected an instruction set", "portable", "`sse9`"]);
    }
    assert_eq!(home.list(), NEW);
}
