//! The scheme of each linear: overrides, goals, calibration, pruning, and `rate`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use serde_json::Value;

use crate::{
    common::{Home, NEW, repository},
    decode::{numbers, tensors_of},
};

/// The scheme of each linear by `inspect`, with names relative to `model.`.
fn schemes(home: &Home, dir: &str) -> BTreeMap<String, String> {
    let shown = home.run(&["inspect", dir, "--json"]).lines().remove(0);
    let name = |tensor: &Value| tensor["name"].as_str().unwrap().trim_start_matches("model.").replace(".weight", "");
    let tensors = shown["tensors"].as_array().unwrap().iter();
    tensors.map(|t| (name(t), t["scheme"].as_str().unwrap().to_owned())).collect()
}

/// Converts to `out` with arguments that contain no spaces; gives what was printed to stderr.
#[track_caller]
fn convert(home: &Home, arguments: &str) -> String {
    let run = home.qins(&format!("convert --model model --out out {arguments}"));
    let stderr = run.err.clone();
    run.done();
    stderr
}

fn clear(home: &Home) {
    fs::remove_dir_all(home.path("out")).unwrap();
}

#[test]
fn last_matching_override_decides() {
    type Case = (&'static str, &'static [(&'static str, &'static str)]);
    let cases: [Case; 7] = [
        ("q4 --override v_proj=q8", &[("layers.0.self_attn.v_proj", "q8"), ("layers.0.self_attn.o_proj", "q4")]),
        ("q4 --override v=q8 --override v_proj=q3", &[("layers.2.self_attn.v_proj", "q3")]),
        (
            "q4 --override down=q6 --override model.layers.1.*=none",
            &[
                ("layers.0.mlp.down_proj", "q6"),
                ("layers.1.mlp.down_proj", "f32"),
                ("layers.1.mlp.gate_up_proj", "f32"),
            ],
        ),
        (
            "q4 --override model.layers.1.*=none --override down=q6",
            &[("layers.1.mlp.down_proj", "q6"), ("layers.1.self_attn.qkv_proj", "f32")],
        ),
        // A part of a fused matrix, though the others stay plain; a matrix that the policy leaves out.
        (
            "q4 --targets o --override q_proj=q8 --override lm_head=q5",
            &[
                ("layers.0.self_attn.q_proj", "q8"),
                ("layers.0.self_attn.k_proj", "f32"),
                ("layers.0.self_attn.v_proj", "f32"),
                ("lm_head", "q5"),
                ("embed_tokens", "f32"),
            ],
        ),
        (
            "q3 --override model.layers.?.mlp.up_proj=lossless --override *0.mlp.up*=rate",
            &[("layers.0.mlp.up_proj", "rate"), ("layers.1.mlp.up_proj", "lossless"), ("layers.1.mlp.gate_proj", "q3")],
        ),
        ("q3 --override *=none", &[("layers.0.mlp.gate_up_proj", "f32"), ("layers.2.mlp.down_proj", "f32")]),
    ];
    let home = Home::new("b_gqa/f32");
    for (arguments, expected) in cases {
        convert(&home, &format!("--scheme {arguments}"));
        let found = schemes(&home, "out");
        for (linear, scheme) in expected {
            assert_eq!(found.get(*linear).map(String::as_str), Some(*scheme), "{arguments}: {linear}");
        }
        home.qins("verify out --against model").done();
        home.qins("generate --model out --prompt-ids 5 --max-new-tokens 2").done();
        clear(&home);
    }
}

#[test]
fn options_without_effect_are_rejected_before_the_work() {
    let home = Home::new("b_gqa/f32");
    let cases: [(&str, &[&str]); 29] = [
        ("--scheme q4 --override foo=q8", &["expected an override to match", "none like `foo`"]),
        ("--scheme q4 --override qkv_proj=q8", &["none like `qkv_proj`"]),
        ("--scheme q4 --override v=q8 --override model.layers.3.*=q8", &["none like `model.layers.3.*`"]),
        ("--scheme q4 --override v=q7", &["`q7`", "one of none, companded-f32, lossless"]),
        ("--scheme q4 --override v_proj", &["PATTERN=SCHEME", "found `v_proj`"]),
        ("--scheme q4 --override =q8", &["PATTERN=SCHEME", "found `=q8`"]),
        ("--target bits=1", &["expected a mixture of 1 bits per weight, found none below 4.025"]),
        ("--target sqnr=90", &["expected a mixture that keeps 90 dB, found none above 4"]),
        ("--target words=1", &["bits=NUMBER, sqnr=NUMBER, kl=NUMBER or match=PERCENT%", "`words=1`"]),
        ("--target bits=-4", &["`bits=-4`"]),
        ("--target bits=6 --scheme q4", &["--target", "--scheme", "cannot be used with"]),
        ("--target bits=6 --alpha 1", &["--target", "--alpha", "cannot be used with"]),
        ("--target bits=6 --override *=q4", &["for --target to choose schemes for", "an --override for each"]),
        ("--target bits=6 --bits-per-weight 3", &["expected --scheme rate", "found none"]),
        ("--scheme q4 --bits-per-weight 3", &["expected --scheme rate", "found none"]),
        ("--scheme rate --bits-per-weight 0.4", &["expected 0.5 to 16 bits per weight, found 0.4"]),
        ("--scheme rate --bits-per-weight 16.1", &["found 16.1"]),
        ("--scheme rate --bits-per-weight -1", &["found -1"]),
        ("--scheme rate --bits-per-weight nan", &["found NaN"]),
        ("--scheme q8 --prune 1.01", &["expected a share from 0 to 1, found 1.01"]),
        ("--scheme q8 --prune -0.5", &["found -0.5"]),
        ("--scheme q8 --prune nan", &["found NaN"]),
        ("--scheme lossless --prune 0.5", &["`model.layers.0.", "expected no weights to be pruned with lossless"]),
        ("--scheme q4 --override v=q8 --alpha 2", &["expected no fixed α for q4"]),
        ("--scheme q4 --effort more", &["expected one of fast, good, best, found `more`"]),
        ("--scheme q8 --effort good", &["expected one of q3 to q6, q8g or rate with --effort, found q8"]),
        ("--scheme q4 --effort best --prune 0.5", &["expected no --prune with --effort best"]),
        // Without a tokenizer the standard calibration cannot be read.
        ("--scheme q4 --effort good", &["tokenizer.json", "expected a tokenizer to read text with, found none"]),
        ("--target bits=6 --effort good", &["tokenizer.json", "expected a tokenizer to read text with, found none"]),
    ];
    let commands = [
        "convert --model model --out out",
        "generate --model model --prompt-ids 5",
        "validate --model model --prompts prompts.jsonl",
    ];
    for (arguments, messages) in cases {
        for command in commands {
            let command = format!("{command} {arguments}");
            home.qins(&command).rejected(&command, messages);
            assert_eq!(home.list(), NEW, "{command}");
        }
    }
    // The head of a tied model is its embedding.
    let tied = Home::new("e_tied/f32");
    for command in commands {
        let command = format!("{command} --scheme q8 --targets lm_head");
        tied.qins(&command)
            .rejected(&command, &["expected targets to name a linear of the model, found none in `lm_head`"]);
        assert_eq!(tied.list(), NEW, "{command}");
    }
    for option in ["--entropy", "--prune 0.5", "--bits-per-weight 4", "--override v=q8", "--calibrate prompts.jsonl"] {
        let command = format!("generate --model model --prompt-ids 5 {option}");
        let name = option.split(' ').next().unwrap();
        home.qins(&command).rejected(&command, &["expected a --scheme to encode with", name]);
    }
}

/// Bits per encoded weight, and the mean error of the encoded linears in dB, each weighted by its size.
fn cost(home: &Home) -> (f64, f64) {
    let shown = home.qins("inspect out --against model --json").lines().remove(0);
    let (mut weights, mut error) = (0.0, 0.0);
    for tensor in shown["tensors"].as_array().unwrap() {
        if let Some(db) = tensor["sqnr_db"].as_f64() {
            let n: f64 = tensor["shape"].as_array().unwrap().iter().map(|n| n.as_f64().unwrap()).product();
            weights += n;
            error += n * 10_f64.powf(-db / 10.0);
        }
    }
    assert_eq!(shown["encoded_weights"].as_f64(), Some(weights));
    (shown["bits_per_weight"].as_f64().unwrap(), -10.0 * (error / weights).log10())
}

#[test]
fn mixture_reaches_its_goal() {
    let home = Home::new("b_gqa/bf16");
    // Plain weights are another kind.
    let mut mixtures = 0;
    let mut count = || mixtures += usize::from(schemes(&home, "out").into_values().collect::<BTreeSet<_>>().len() > 2);
    let mut last = 0.0;
    for budget in [5.5, 6.0, 7.0, 8.5] {
        let stderr = convert(&home, &format!("--target bits={budget} --targets full"));
        let (bits, db) = cost(&home);
        assert!(bits <= budget && budget - bits < 0.8, "{budget}: {bits}");
        assert!(db > last, "{budget}: {db}");
        assert!(
            stderr.starts_with("mixture: ") && stderr.contains(&format!("({bits:.3} bits, {db:.1} dB)")),
            "{stderr}"
        );
        last = db;
        count();
        clear(&home);
    }
    let mut last = 0.0;
    for bar in [20.0, 25.0, 35.0, 43.0] {
        convert(&home, &format!("--target sqnr={bar}"));
        let (bits, db) = cost(&home);
        assert!(db >= bar && db - bar < 8.0 && bits > last, "{bar}: {db} dB, {bits} bits");
        last = bits;
        count();
        clear(&home);
    }
    assert!(mixtures >= 4, "{mixtures}");
}

#[test]
fn target_leaves_out_overridden_linears() {
    let home = Home::new("b_gqa/f32");
    convert(
        &home,
        "--target bits=6 --override down=none --override o_proj=lossless --override model.layers.1.mlp.up*=q8",
    );
    let found = schemes(&home, "out");
    let of = |linear: &str| found[linear].as_str();
    assert_eq!(
        (of("layers.0.mlp.down_proj"), of("layers.2.self_attn.o_proj"), of("layers.1.mlp.up_proj")),
        ("f32", "lossless", "q8")
    );
    // The others keep the budget by themselves.
    let shown = home.run(&["inspect", "out", "--json"]).lines().remove(0);
    let (mut weights, mut bits) = (0.0, 0.0);
    for tensor in shown["tensors"].as_array().unwrap() {
        let name = tensor["name"].as_str().unwrap();
        if ["v_proj", "gate_proj", "up_proj"].iter().any(|part| name.contains(part)) && !name.contains("1.mlp.up") {
            let n: f64 = tensor["shape"].as_array().unwrap().iter().map(|n| n.as_f64().unwrap()).product();
            weights += n;
            bits += n * tensor["bits_per_weight"].as_f64().unwrap();
        }
    }
    assert!((5.0..=6.0).contains(&(bits / weights)), "{}", bits / weights);
}

#[test]
fn mixture_generates_the_same_loaded_and_stored() {
    let home = Home::new("b_gqa/f32");
    let generate = "generate --prompts prompts.jsonl --max-new-tokens 16 --json";
    for goal in ["bits=6.5", "bits=6.5 --entropy", "sqnr=30 --prune 0.1 --targets full"] {
        convert(&home, &format!("--target {goal}"));
        let loaded = home.qins(&format!("{generate} --model model --target {goal}")).lines();
        let stored = home.qins(&format!("{generate} --model out")).lines();
        assert_eq!(loaded[..2], stored[..2], "{goal}");
        assert_eq!(loaded[2]["weight_bytes"], stored[2]["weight_bytes"], "{goal}");
        clear(&home);
    }
}

#[test]
fn calibration_changes_the_codes_deterministically() {
    let home = Home::new("e_tied/f32");
    let text = fs::read_to_string(repository("crates/qins/assets/atlas/README.md")).unwrap();
    home.write("text.txt", &text);
    let stored = |arguments: &str| {
        home.qins(&format!("convert --out out {arguments}")).done();
        let bytes = fs::read(home.path("out/model.safetensors")).unwrap();
        home.qins("verify out").done();
        clear(&home);
        bytes
    };
    // By default on the standard calibration.
    let standard = stored("--scheme q3 --targets v");
    assert!(standard == stored("--scheme q3 --targets v --effort good"));
    let without = stored("--scheme q3 --targets v --no-calibrate");
    assert!(without == stored("--scheme q3 --targets v --effort fast") && without != standard);
    let calibrated = stored("--scheme q4 --calibrate text.txt");
    assert!(calibrated != stored("--scheme q4 --calibrate text.txt --effort best"));
    assert!(calibrated != stored("--scheme q4 --calibrate text.txt --effort fast"));
    assert!(calibrated == stored("--scheme q4 --calibrate text.txt --override v=q4"));
    assert!(calibrated != stored("--scheme q4 --no-calibrate"));
    home.write("other.txt", &text[text.len() / 2..]);
    assert!(calibrated != stored("--scheme q4 --calibrate other.txt"));
    // The rows of q8 are fitted by it too; of what is not fitted it decides only what is pruned.
    let rows = "--scheme q8 --targets v";
    assert!(stored(rows) != stored(&format!("{rows} --calibrate other.txt")));
    let pruned = "--scheme companded-f32 --targets v --prune 0.5";
    assert!(stored(pruned) != stored(&format!("{pruned} --calibrate other.txt")));
    for scheme in ["companded-f32", "lossless", "rate"] {
        let run = home.qins(&format!("convert --out out --scheme {scheme} --calibrate other.txt"));
        run.rejected(scheme, &["--calibrate", "expected a scheme that uses a calibration", scheme]);
    }
    // It is no less when loading.
    home.qins("convert --out out --scheme q4 --calibrate text.txt").done();
    let prompt = ["generate", "--prompt", "The capital of France is", "--json"];
    let loaded = home.run(&[&prompt[..], &["--scheme", "q4", "--calibrate", "text.txt"]].concat()).lines();
    assert_eq!(loaded[0], home.run(&[&prompt[..], &["--model", "out"]].concat()).lines()[0]);
}

#[test]
fn conversions_say_what_they_are_calibrated_on_and_how_near_outputs_are() {
    let home = Home::new("e_tied/f32");
    let convert = |arguments: &str| {
        let run = home.qins(&format!("convert --out out {arguments}"));
        assert_eq!(run.code, Some(0), "{}", run.err);
        run.err
    };
    let notes = convert("--scheme q4 --targets down");
    assert!(
        notes.contains("note: error feedback is calibrated on a standard text and what the model writes, "),
        "{notes}"
    );
    let shown = home.qins("inspect out --json").lines().remove(0);
    let encoded = |shown: &Value| -> Vec<Value> {
        let all = shown["tensors"].as_array().unwrap().iter();
        all.filter(|tensor| tensor["scheme"] == "q4").map(|tensor| tensor["output_sqnr_db"].clone()).collect()
    };
    assert_eq!(encoded(&shown).len(), 6);
    assert!(encoded(&shown).iter().all(|db| (15.0..45.0).contains(&db.as_f64().unwrap())), "{shown}");
    assert!(home.qins("inspect out").done().contains("output dB"));
    assert!(home.qins("verify out --json").lines()[0]["ok"] == true);
    clear(&home);
    assert_eq!(convert("--scheme q4 --targets down --no-calibrate"), "");
    let shown = home.qins("inspect out --json").lines().remove(0);
    assert!(encoded(&shown).iter().all(Value::is_null), "{shown}");
    assert!(!home.qins("inspect out").done().contains("output dB"));
    clear(&home);
    assert_eq!(convert("--scheme q8"), "");
    clear(&home);
    let notes = convert("--model model --scheme q4");
    let message = "note: encoded without error feedback: model has no tokenizer to read a calibration with\n";
    assert_eq!(notes, message);
}

#[test]
fn unreadable_calibration_text_is_named() {
    let home = Home::new("e_tied/f32");
    home.write("text.txt", "Some words.");
    home.write("empty.txt", "");
    fs::write(home.path("bytes.txt"), [0xff, 0xfe]).unwrap();
    let before = home.list();
    let cases: [(&str, &[&str]); 5] = [
        ("--calibrate none.txt", &["none.txt", "No such file"]),
        ("--calibrate empty.txt", &["empty.txt", "expected at least one text to calibrate on, found none"]),
        ("--calibrate bytes.txt", &["bytes.txt", "UTF-8"]),
        ("--calibrate model", &["model", "Is a directory"]),
        ("--calibrate text.txt --model model", &["text.txt", "tokenizer.json", "expected a tokenizer", "found none"]),
    ];
    for (arguments, messages) in cases {
        for command in [
            "convert --scheme q4 --out out",
            "generate --scheme q4 --prompt-ids 5",
            "convert --target bits=4.5 --out out",
        ] {
            let command = format!("{command} {arguments}");
            home.qins(&command).rejected(&command, messages);
            assert_eq!(home.list(), before, "{command}");
        }
    }
    home.qins("convert --model model --scheme q8 --out out").done();
    for option in ["--scheme q4 --calibrate text.txt", "--target bits=8"] {
        let command = format!("generate --model out --prompt-ids 5 {option}");
        home.qins(&command).rejected(&command, &["out/config.json", "expected a plain checkpoint to encode"]);
    }
}

#[test]
fn pruning_removes_the_smallest_weights_of_a_row() {
    let home = Home::new("e_tied/bf16");
    let source = tensors_of(&home.path("model"));
    for (share, zeros) in [("0.5", 0.5), ("1", 1.0), ("0.25", 0.25), ("0", 0.0)] {
        for scheme in ["companded-f32", "q8", "q4"] {
            convert(&home, &format!("--scheme {scheme} --targets full --prune {share}"));
            home.qins("export out --out back").done();
            for (name, tensor) in tensors_of(&home.path("back")).iter().filter(|(_, tensor)| tensor.shape.len() == 2) {
                let cols = tensor.shape[1];
                let (before, after) = (numbers(&source[name]), numbers(tensor));
                for (before, after) in before.chunks(cols).zip(after.chunks(cols)) {
                    let what = format!("{share} {scheme} {name}");
                    let gone = after.iter().filter(|w| **w == 0.0).count();
                    assert!(gone as f64 >= zeros * cols as f64, "{what}: {gone}");
                    if scheme == "companded-f32" {
                        assert_eq!(gone as f64, zeros * cols as f64, "{what}");
                        assert!(before.iter().zip(after).all(|(b, a)| a == b || *a == 0.0), "{what}");
                        let pairs = || before.iter().map(|w| w.abs()).zip(after);
                        let least = pairs().filter(|(_, a)| **a != 0.0).fold(f32::INFINITY, |m, (b, _)| m.min(b));
                        assert!(pairs().all(|(b, a)| *a != 0.0 || b <= least), "{what}");
                    }
                }
            }
            ["out", "back"].iter().for_each(|dir| fs::remove_dir_all(home.path(dir)).unwrap());
        }
    }
}
