//! Arguments and prompts that make no sense.

use std::fs;

use crate::common::{Home, NEW, fixture, repository};

const GENERATE: &str = "generate --model model --max-new-tokens 2";
const VALIDATE: &str = "validate --model model --max-new-tokens 2";

#[test]
fn invalid_argument_is_named() {
    let home = Home::new("e_tied/f32");
    let cases: [(&str, &[&str]); 40] = [
        (
            "generate --model model",
            &["--prompt <TEXT>", "--prompt-file <FILE>", "--prompt-ids <IDS>", "--prompts <FILE>"],
        ),
        ("generate --prompt-ids 5 --prompt hello", &["--prompt", "cannot be used with"]),
        ("generate --prompt-ids 5 --frobnicate", &["'--frobnicate'"]),
        ("generate --prompt-ids", &["--prompt-ids"]),
        ("generate --prompt-ids five", &["'five'", "--prompt-ids"]),
        ("generate --prompt-ids 5,", &["--prompt-ids"]),
        ("generate --prompt-ids 5,-7", &["'-7'", "--prompt-ids"]),
        ("generate --prompt-ids 4294967296", &["'4294967296'", "--prompt-ids"]),
        ("generate --prompt-ids 5 --scheme q7", &["`q7`", "none, companded-f32, lossless, q8"]),
        ("generate --prompt-ids 5 --scheme Q8", &["`Q8`", "none, companded-f32, lossless, q8"]),
        ("generate --prompt-ids 5 --targets best", &["`best`", "safe, all, full", "v_proj"]),
        ("generate --prompt-ids 5 --targets v_proj,safe", &["`safe`", "safe, all, full"]),
        ("generate --prompt-ids 5 --targets v_proj,", &["``", "safe, all, full"]),
        ("generate --prompt-ids 5 --alpha 0", &["positive and finite", "0"]),
        ("generate --prompt-ids 5 --alpha -1", &["positive and finite", "-1"]),
        ("generate --prompt-ids 5 --alpha nan", &["positive and finite", "NaN"]),
        ("generate --prompt-ids 5 --alpha inf", &["positive and finite", "inf"]),
        ("generate --prompt-ids 5 --alpha 1e39", &["positive and finite", "inf"]),
        ("generate --prompt-ids 5 --alpha 1e-50", &["positive and finite", "0"]),
        ("generate --prompt-ids 5 --alpha abc", &["'abc'", "--alpha"]),
        ("generate --prompt-ids 5 --alpha=", &["--alpha"]),
        ("generate --prompt-ids 5 --backend abacus", &["`abacus`", "flex, ndarray, wgpu, cuda"]),
        ("generate --prompt-ids 5 --threads 0", &["--threads", "expected 1 to ", "found `0`"]),
        ("generate --prompt-ids 5 --threads 100000", &["--threads", "expected 1 to ", "found `100000`"]),
        ("generate --prompt-ids 5 --threads two", &["--threads", "'two'"]),
        ("generate --prompt-ids 5 --max-new-tokens -1", &["'-1'"]),
        ("generate --prompt-ids 5 --max-new-tokens 1e3", &["'1e3'", "--max-new-tokens"]),
        ("generate --prompt-ids 5 --max-new-tokens 18446744073709551616", &["'18446744073709551616'"]),
        ("generate --prompt-ids 5 --out new", &["'--out'"]),
        ("validate --scheme q7", &["`q7`", "none, companded-f32, lossless, q8"]),
        ("validate --alpha 0", &["positive and finite"]),
        ("validate --prompt-ids 5", &["'--prompt-ids'"]),
        ("convert --out new", &["--scheme <SCHEME>"]),
        ("convert --scheme q8", &["--out <DIR>"]),
        ("convert --scheme none --out new", &["`none`", "companded-f32, lossless, q8"]),
        ("convert --scheme q8 --out new --targets head", &["`head`", "safe, all, full"]),
        ("convert --scheme q8 --out new --alpha nan", &["positive and finite", "NaN"]),
        ("inspect --model model", &["'--model'"]),
        ("inspect model model", &["'model'"]),
        ("inform", &["'inform'"]),
    ];
    for (arguments, messages) in cases {
        home.qins(arguments).rejected(arguments, messages);
        assert_eq!(home.list(), NEW, "{arguments}");
    }
}

/// Every test program is built with the default backend alone.
#[test]
#[cfg(not(any(feature = "ndarray", feature = "wgpu", feature = "cuda")))]
fn backend_missing_from_the_build_is_named_with_its_feature() {
    let home = Home::new("e_tied/f32");
    for backend in ["ndarray", "wgpu", "cuda"] {
        let messages = [&format!("backend `{backend}` is not in this build")[..], &format!("--features {backend}")];
        for command in [format!("{GENERATE} --prompt-ids 5"), format!("{VALIDATE} --prompts prompts.jsonl")] {
            home.qins(&format!("{command} --backend {backend}")).rejected(backend, &messages);
            assert_eq!(home.list(), NEW, "{backend}");
        }
    }
}

#[test]
fn alpha_out_of_range_for_the_scheme_names_the_tensor() {
    let home = Home::new("e_tied/f32");
    for (scheme, messages) in [("f32", "expected weights below 2^25/α"), ("q8", "scale")] {
        for command in [format!("{GENERATE} --prompt-ids 5"), "convert --model model --out new".to_owned()] {
            let command = format!("{command} --scheme {scheme} --alpha 1e38");
            let tensor = "`model.layers.0.";
            home.qins(&command).rejected(&command, &["model/model.safetensors", tensor, messages]);
            assert_eq!(home.list(), NEW, "{command}");
        }
    }
    // Small ones lose the weights, not the program; what is written would be of no use.
    let small = "--scheme q8 --alpha 1e-38";
    assert_eq!(home.qins(&format!("{GENERATE} --prompt-ids 5 --json {small}")).lines().len(), 2);
    let messages = ["`model.layers.0.", "expected an α that suits the weights", "an SQNR of 0.00 dB"];
    home.qins(&format!("convert --model model --out new {small}")).rejected(small, &messages);
    let small = "--scheme f32 --alpha 1e-38";
    for command in [format!("{GENERATE} --prompt-ids 5"), "convert --model model --out new".to_owned()] {
        let messages = ["`model.layers.", "expected weights that α|x|/(1+α|x|) in f32 gives back"];
        home.qins(&format!("{command} {small}")).rejected(small, &messages);
    }
    assert_eq!(home.list(), NEW);
}

#[test]
fn invalid_prompt_is_named() {
    let home = Home::new("e_tied/f32");
    let long = vec!["5"; 513].join(",");
    let long_line = format!("{{\"input_ids\":[{long}]}}");
    let cases: [(&str, &[&str]); 17] = [
        ("", &["bad.jsonl: ", "expected a prompt", "found none"]),
        ("\n \n", &["bad.jsonl: ", "found none"]),
        ("hello", &["bad.jsonl:1: ", "expected a JSON object"]),
        ("{\"input_ids\":[5]}\n\n{\"input_ids\":[5}", &["bad.jsonl:3: "]),
        ("[5]", &["bad.jsonl:1: "]),
        ("{}", &["bad.jsonl:1: ", "one of `prompt`, `messages` and `input_ids`"]),
        ("{\"prompt\":\"a\",\"input_ids\":[5]}", &["bad.jsonl:1: ", "one of `prompt`, `messages` and `input_ids`"]),
        ("{\"input_ids\":[]}", &["bad.jsonl:1: ", "empty prompt"]),
        ("{\"input_ids\":[-5]}", &["bad.jsonl:1: ", "-5"]),
        ("{\"input_ids\":[4294967296]}", &["bad.jsonl:1: ", "4294967296"]),
        ("{\"input_ids\":[5.5]}", &["bad.jsonl:1: ", "5.5"]),
        ("{\"id\":5,\"input_ids\":[5]}", &["bad.jsonl:1: ", "expected a string"]),
        ("{\"input_ids\":[5],\"max_new_tokens\":-1}", &["bad.jsonl:1: ", "-1"]),
        ("{\"prompt\":\"a\"}", &["bad.jsonl:1: ", "tokenizer.json"]),
        ("{\"input_ids\":[5,112]}", &["prompt `1`", "below 112", "found 112"]),
        ("{\"id\":\"x\",\"input_ids\":[4294967295]}", &["prompt `x`", "below 112", "found 4294967295"]),
        (&long_line, &["prompt `1`", "at most 512", "found 513"]),
    ];
    for (text, messages) in cases {
        home.write("bad.jsonl", text);
        for command in [GENERATE, VALIDATE] {
            home.qins(&format!("{command} --prompts bad.jsonl")).rejected(text, messages);
            assert_eq!(home.list(), ["bad.jsonl", "model", "prompts.jsonl"], "{text}");
        }
    }
    fs::write(home.path("bad.jsonl"), b"{\"prompt\":\"\xff\"}").unwrap();
    for command in [GENERATE, VALIDATE] {
        home.qins(&format!("{command} --prompts bad.jsonl")).rejected("no text", &["bad.jsonl", "UTF-8"]);
        home.qins(&format!("{command} --prompts none.jsonl")).rejected("no file", &["none.jsonl", "No such file"]);
        home.qins(&format!("{command} --prompts model")).rejected("a directory", &["model", "directory"]);
    }
    for (arguments, messages) in [
        (["--prompt-ids", "5,112"], ["below 112", "found 112"]),
        (["--prompt-ids", &long], ["at most 512", "found 513"]),
        (["--prompt", "Hello"], ["tokenizer.json", "found none"]),
    ] {
        let arguments = [&["generate", "--model", "model"][..], &arguments].concat();
        home.run(&arguments).rejected(arguments[3], &messages);
    }
}

#[test]
fn empty_prompt_and_other_vocabulary_are_rejected() {
    let home = Home::new("e_tied/f32");
    fs::copy(repository("crates/qins/assets/atlas/tokenizer.json"), home.path("model/tokenizer.json")).unwrap();
    let prompt = |text| home.run(&["generate", "--model", "model", "--prompt", text]);
    prompt("").rejected("empty", &["expected at least one token", "found an empty"]);
    prompt("The capital of France is").rejected("another vocabulary", &["below 112", "found"]);
    home.write("bad.jsonl", "{\"prompt\":\"\"}");
    home.qins(&format!("{GENERATE} --prompts bad.jsonl")).rejected("empty", &["bad.jsonl:1: ", "empty prompt"]);
}

/// The standard prompts are texts, which a model without a tokenizer cannot read.
#[test]
fn standard_prompts_need_a_tokenizer() {
    let home = Home::new("e_tied/f32");
    home.qins(VALIDATE).rejected("no tokenizer", &["the standard prompts:1", "tokenizer.json"]);
    assert_eq!(home.list(), NEW);
}

#[test]
fn unwritable_path_is_named_before_the_work() {
    let home = Home::new("e_tied/f32");
    fs::create_dir(home.path("full")).unwrap();
    home.write("full/file", "mine");
    let before = home.list();
    let cases: [(&str, &[&str]); 11] = [
        ("validate --report none/report.json", &["none/report.json", "expected a directory", "found none"]),
        ("validate --report full/file/report.json", &["full/file/report.json", "expected a directory"]),
        ("validate --report full", &["full", "expected a file", "found a directory"]),
        ("validate --report=", &["report"]),
        ("validate --report page.html", &["page.html", "expected a name for the JSON file"]),
        ("validate --baseline full", &["full", "expected a file", "found a directory"]),
        ("convert --scheme q8 --out full", &["full", "expected a new or empty directory"]),
        ("convert --scheme q8 --out model", &["model", "expected a new or empty directory"]),
        ("convert --scheme q8 --out full/file", &["full/file", "Not a directory"]),
        ("convert --scheme q8 --out full/file/new/out", &["full/file/new/out", "Not a directory"]),
        ("convert --scheme q8 --out=", &["out"]),
    ];
    for (command, messages) in cases {
        let prompts = if command.starts_with("validate") { "--prompts prompts.jsonl" } else { "" };
        home.qins(&format!("{command} --model model {prompts}")).rejected(command, messages);
        assert_eq!(home.list(), before, "{command}");
        assert_eq!(fs::read_dir(home.path("full")).unwrap().count(), 1, "{command}");
    }
    assert_eq!(fs::read(home.path("full/file")).unwrap(), b"mine");
    let weights = fs::read(home.path("model/model.safetensors")).unwrap();
    assert!(weights == fs::read(fixture("e_tied/f32/model.safetensors")).unwrap());
}

#[test]
fn validation_of_0_tokens_is_rejected() {
    let home = Home::new("e_tied/f32");
    let messages = ["expected max_new_tokens of at least 1", "found 0"];
    for scheme in ["", "--scheme none", "--scheme companded-f32"] {
        let command = format!("validate --model model --prompts prompts.jsonl --max-new-tokens 0 {scheme}");
        home.qins(&command).rejected(&command, &[&["prompt `a`"], &messages[..]].concat());
        assert_eq!(home.list(), NEW);
    }
    home.write("bad.jsonl", "{\"input_ids\":[5]}\n{\"id\":\"x\",\"input_ids\":[5],\"max_new_tokens\":0}");
    home.qins(&format!("{VALIDATE} --prompts bad.jsonl")).rejected("one", &[&["prompt `x`"], &messages[..]].concat());
}

#[test]
fn options_without_a_scheme_are_rejected() {
    let home = Home::new("b_gqa/f32");
    home.write("text.txt", "A text.");
    let options = [
        "--targets full",
        "--alpha 1",
        "--prune 0.5",
        "--entropy",
        "--effort good",
        "--override v=q8",
        "--calibrate none.txt",
    ];
    for option in options {
        for command in [
            "generate --model model --prompt-ids 5",
            "logits --model model --text text.txt --out scores",
            "validate --model model --prompts prompts.jsonl --candidate model",
            "validate --model model --preset cache --kv q8",
        ] {
            // The controls beside a candidate have targets.
            if option.starts_with("--targets") && command.contains("--candidate") {
                continue;
            }
            let command = format!("{command} {option}");
            let name = option.split(' ').next().unwrap();
            home.qins(&command).rejected(&command, &[&format!("expected a --scheme to encode with {name}")]);
        }
    }
    for option in ["--max-new-tokens 5", "--temperature 1", "--seed 5"] {
        // Before the model is looked for, which may be a download.
        for command in ["validate", "validate --model absent", "sweep --model absent"] {
            let command = format!("{command} --preset long {option}");
            let name = option.split(' ').next().unwrap();
            home.qins(&command).rejected(&command, &[&format!("expected --prompts with {name}, found preset long")]);
        }
    }
}
