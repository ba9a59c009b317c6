//! Texts: what the tokenizer's file says about them, in every command that reads text.

use std::fs;

use serde_json::{Value, json};

use crate::common::{Home, edit_json, ids, json_file, read_tensors, repository};

/// A copy of the demo model, `atlas`.
fn home() -> Home {
    let home = Home::new("e_tied/f32");
    fs::create_dir(home.path("atlas")).unwrap();
    for entry in fs::read_dir(repository("crates/qins/assets/atlas")).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, home.path("atlas").join(path.file_name().unwrap())).unwrap();
    }
    home
}

fn edit_tokenizer(home: &Home, edit: impl FnOnce(&mut Value)) {
    edit_json(&home.path("atlas/tokenizer.json"), edit);
}

/// A post-processor that puts `<|system|>`, 3, before a text.
fn begins(tokenizer: &mut Value) {
    let single =
        json!([{ "SpecialToken": { "id": "<|system|>", "type_id": 0 } }, { "Sequence": { "id": "A", "type_id": 0 } }]);
    let token = json!({ "<|system|>": { "id": "<|system|>", "ids": [3], "tokens": ["<|system|>"] } });
    tokenizer["post_processor"] =
        json!({ "type": "TemplateProcessing", "single": single, "pair": single, "special_tokens": token });
}

const PROMPT: &str = "The capital of France is";

fn answer(home: &Home, arguments: &[&str]) -> Value {
    let run = home.run(&[&["generate", "--model", "atlas", "--max-new-tokens", "8", "--json"], arguments].concat());
    run.lines().swap_remove(0)
}

fn logits_ids(home: &Home, arguments: &[&str]) -> Vec<i64> {
    home.run(&[&["logits", "--model", "atlas", "--out", "logits.safetensors"], arguments].concat()).done();
    let bytes = read_tensors(&home.path("logits.safetensors")).remove("input_ids").unwrap().bytes;
    bytes.chunks(8).map(|id| i64::from_le_bytes(id.try_into().unwrap())).collect()
}

#[test]
fn truncation_and_padding_of_a_tokenizer_change_no_text() {
    let home = home();
    home.write("text.txt", "Paris is the capital of France. ".repeat(40));
    let all = |home: &Home| {
        let validated = "validate --model atlas --text text.txt --preset quick --max-new-tokens 1 --report r.json";
        home.run(&validated.split(' ').collect::<Vec<_>>());
        let report = json_file(&home.path("r.json"));
        let generated = answer(home, &["--prompt", PROMPT]);
        let scored = logits_ids(home, &["--text", "text.txt"]);
        (generated["input_ids"].clone(), scored, report["run"]["text"].clone(), report["run"]["prompts"].clone())
    };
    let before = all(&home);
    edit_tokenizer(&home, |tokenizer| {
        tokenizer["truncation"] =
            json!({ "direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0 });
        tokenizer["padding"] = json!({ "strategy": { "Fixed": 64 }, "direction": "Left", "pad_to_multiple_of": null,
                                       "pad_id": 0, "pad_type_id": 0, "pad_token": "<|endoftext|>" });
    });
    assert_eq!(all(&home), before);
}

#[test]
fn texts_begin_as_the_tokenizer_says_and_conversations_as_the_template_does() {
    let home = home();
    home.write("text.txt", "Paris is the capital of France. ".repeat(40));
    home.write("chat.jsonl", r#"{ "messages": [{ "role": "user", "content": "Hi" }] }"#);
    let plain = ids(&answer(&home, &["--prompt", PROMPT])["input_ids"]);
    let chat = ids(&answer(&home, &["--prompts", "chat.jsonl"])["input_ids"]);
    edit_tokenizer(&home, begins);
    assert_eq!(ids(&answer(&home, &["--prompt", PROMPT])["input_ids"]), [&[3], &plain[..]].concat());
    assert_eq!(ids(&answer(&home, &["--prompts", "chat.jsonl"])["input_ids"]), chat);
    let with = logits_ids(&home, &["--prompt", PROMPT]);
    assert_eq!(with.len(), plain.len() + 1);
    assert_eq!(logits_ids(&home, &["--prompt", PROMPT, "--no-special-tokens"]), with[1..]);
    let run = home.qins("validate --model atlas --text text.txt --preset quick --max-new-tokens 1 --report r.json");
    assert!(run.out.contains("special tokens added to texts: <|system|> before"), "{}", run.out);
    assert_eq!(json_file(&home.path("r.json"))["run"]["special_tokens"], "<|system|> before");
}

#[test]
fn calibration_reads_the_text_as_the_tokenizer_says() {
    let home = home();
    home.write("text.txt", "Paris is the capital of France. ".repeat(40));
    let converted = |home: &Home, out: &str| {
        home.qins(&format!("convert --model atlas --scheme q3 --calibrate text.txt --out {out}")).done();
        fs::read(home.path(out).join("model.safetensors")).unwrap()
    };
    let plain = converted(&home, "plain");
    edit_tokenizer(&home, |tokenizer| {
        tokenizer["truncation"] =
            json!({ "direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0 });
    });
    assert!(converted(&home, "truncated") == plain);
    edit_tokenizer(&home, begins);
    assert!(converted(&home, "begun") != plain);
}

#[test]
fn generated_text_continues_the_prompt_and_says_which_tokens_it_has() {
    let home = home();
    let continued = answer(&home, &["--prompt", PROMPT]);
    assert_eq!(continued["text"], " Paris.");
    assert_eq!(continued["text_with_special_tokens"], " Paris.<|end|>");
    let run = home.run(&["generate", "--model", "atlas", "--max-new-tokens", "8", "--prompt", PROMPT]);
    assert_eq!(run.done(), format!("{PROMPT} Paris.\n"));
}

#[test]
fn broken_template_stops_only_conversations() {
    let home = home();
    home.write("chat.jsonl", r#"{ "messages": [{ "role": "user", "content": "Hi" }] }"#);
    let expect = |home: &Home, message: &str| {
        assert_eq!(answer(home, &["--prompt", PROMPT])["text"], " Paris.", "{message}");
        home.qins("generate --model atlas --prompts chat.jsonl").rejected(message, &[message]);
    };
    edit_json(&home.path("atlas/tokenizer_config.json"), |config| config["eos_token"] = json!(5));
    expect(&home, "tokenizer_config.json: eos_token: expected a token, found 5");
    edit_json(&home.path("atlas/tokenizer_config.json"), |config| {
        config["eos_token"] = json!("<|endoftext|>");
        config["chat_template"] = json!(7);
    });
    expect(&home, "tokenizer_config.json: chat_template: expected a text, or a list of texts with names, found 7");
    home.write("atlas/chat_template.jinja", b"{{ \xff }}");
    expect(&home, "chat_template.jinja: chat_template: expected UTF-8, found other bytes");
    home.write("atlas/tokenizer_config.json", "{}");
    home.write("atlas/chat_template.jinja", "{% for m in messages %}");
    expect(&home, "chat_template.jinja: chat_template: syntax error");
}
