//! `qins generate`: the ids it prints, and when it stops.

use std::process::Stdio;

use serde_json::{Value, json};

use crate::common::{Home, edit_json, goldens, ids, json_file, repository, tensor_bytes};

#[track_caller]
fn keys(value: &Value, expected: &[&str]) {
    assert_eq!(value.as_object().unwrap().keys().collect::<Vec<_>>(), expected);
}

#[test]
fn greedy_ids_equal_those_of_transformers() {
    for name in ["b_gqa/f32", "b_gqa/bf16", "e_tied/f32", "e_tied/bf16", "g_phi4mini/f32"] {
        let (home, goldens) = (Home::new(name), goldens(name));
        let lines =
            home.qins("generate --model model --prompts prompts.jsonl --max-new-tokens 64 --ignore-eos --json").lines();
        let (summary, answers) = lines.split_last().unwrap();
        assert_eq!(answers.len(), 2, "{name}");
        for ((answer, golden), id) in answers.iter().zip(&goldens).zip(["a", "b"]) {
            keys(answer, &["generated_ids", "id", "input_ids", "stop", "text", "text_with_special_tokens"]);
            assert_eq!(ids(&answer["generated_ids"]), golden.generated, "{name} {id}");
            assert_eq!((ids(&answer["input_ids"]), &answer["id"]), (golden.input_ids.clone(), &json!(id)), "{name}");
            assert_eq!((&answer["stop"], &answer["text"]), (&json!("length"), &Value::Null), "{name}");
        }
        keys(summary, &["bits_per_weight", "generated_tokens", "peak_rss_bytes", "tokens_per_second", "weight_bytes"]);
        assert_eq!((&summary["bits_per_weight"], &summary["generated_tokens"]), (&Value::Null, &json!(128)));
        assert_eq!(summary["weight_bytes"], tensor_bytes(&home.path("model")), "{name}");
        assert!(summary["tokens_per_second"].as_f64().unwrap() > 0.0, "{name}");
        if cfg!(target_os = "linux") {
            assert!(summary["peak_rss_bytes"].as_u64() > summary["weight_bytes"].as_u64(), "{name}");
        }
    }
}

#[test]
fn prompt_ids_are_a_prompt() {
    let (home, golden) = (Home::new("b_gqa/f32"), &goldens("b_gqa/f32")[0]);
    let prompt = golden.input_ids.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
    let command = format!("generate --model model --prompt-ids {prompt} --max-new-tokens 9 --ignore-eos");
    let lines = home.qins(&format!("{command} --json")).lines();
    assert_eq!((lines.len(), ids(&lines[0]["generated_ids"])), (2, golden.generated[..9].to_vec()));
    let run = home.qins(&command);
    assert!(run.err.starts_with("9 tokens, ") && run.err.lines().count() == 1, "{}", run.err);
    assert_eq!(run.done(), format!("{:?} → {:?}\n", golden.input_ids, &golden.generated[..9]));
}

#[test]
fn stop_token_ends_the_text_unless_ignored() {
    let (home, golden) = (Home::new("e_tied/f32"), &goldens("e_tied/f32")[1].generated);
    let stop = golden[11];
    let end = golden.iter().position(|id| *id == stop).unwrap();
    let last = |arguments: &str| {
        let command = format!("generate --model model --prompts prompts.jsonl --json {arguments}");
        let answer = home.qins(&command).lines()[1].clone();
        (ids(&answer["generated_ids"]), answer["stop"].as_str().unwrap().to_owned())
    };
    // generation_config.json decides, then config.json.
    for (eos, file) in [(json!(stop), "generation_config"), (json!([0, stop]), "generation_config")] {
        edit_json(&home.path(&format!("model/{file}.json")), |c| c["eos_token_id"] = eos);
        assert_eq!(last(""), (golden[..=end].to_vec(), "eos".to_owned()));
        assert_eq!(last("--ignore-eos"), (golden.clone(), "length".to_owned()));
        assert_eq!(last(&format!("--max-new-tokens {end}")), (golden[..end].to_vec(), "length".to_owned()));
    }
    std::fs::remove_file(home.path("model/generation_config.json")).unwrap();
    edit_json(&home.path("model/config.json"), |c| c["eos_token_id"] = json!(stop));
    assert_eq!(last(""), (golden[..=end].to_vec(), "eos".to_owned()));
}

#[test]
fn prompts_may_set_their_length_and_omit_their_id() {
    let home = Home::new("e_tied/f32");
    home.write(
        "prompts.jsonl",
        "{\"input_ids\":[5],\"max_new_tokens\":3}\r\n\n{\"input_ids\":[5],\"max_new_tokens\":0}\n\
         {\"id\":\"x\",\"input_ids\":[5],\"category\":\"not used\"}",
    );
    let lines =
        home.qins("generate --model model --prompts prompts.jsonl --ignore-eos --max-new-tokens 5 --json").lines();
    let found: Vec<_> =
        lines[..3].iter().map(|a| (a["id"].as_str().unwrap(), ids(&a["generated_ids"]).len())).collect();
    assert_eq!(found, [("1", 3), ("3", 0), ("x", 5)]);
    assert_eq!(lines[3]["generated_tokens"], 8);
}

#[test]
fn max_new_tokens_of_0_generates_nothing() {
    let home = Home::new("e_tied/f32");
    let lines = home.qins("generate --model model --prompt-ids 5,7 --max-new-tokens 0 --json").lines();
    assert_eq!((&lines[0]["generated_ids"], &lines[0]["stop"]), (&json!([]), &json!("length")));
    assert_eq!((&lines[1]["generated_tokens"], &lines[1]["tokens_per_second"]), (&json!(0), &json!(0.0)));
}

#[test]
fn unlimited_text_ends_with_the_context() {
    let home = Home::new("e_tied/f32");
    let command = "generate --model model --prompt-ids 5,7 --max-new-tokens 18446744073709551615 --json";
    edit_json(&home.path("model/config.json"), |c| c["max_position_embeddings"] = json!(40));
    let lines = home.qins(&format!("{command} --ignore-eos")).lines();
    // The last token is generated from a full context, and never read.
    assert_eq!((ids(&lines[0]["generated_ids"]).len(), &lines[0]["stop"]), (39, &json!("length")));
    let all = ids(&lines[0]["generated_ids"]);
    edit_json(&home.path("model/config.json"), |c| c["max_position_embeddings"] = json!(1 << 28));
    edit_json(&home.path("model/generation_config.json"), |c| c["eos_token_id"] = json!(all[30]));
    let lines = home.qins(command).lines();
    let end = all.iter().position(|id| *id == all[30]).unwrap();
    assert_eq!((ids(&lines[0]["generated_ids"]), &lines[0]["stop"]), (all[..=end].to_vec(), &json!("eos")));
}

/// A text longer than the cache is made for at first goes on as if it had been made for it.
#[test]
fn growing_cache_changes_no_token() {
    let home = Home::new("d_sliding/f32");
    edit_json(&home.path("model/config.json"), |c| c["max_position_embeddings"] = json!(4096));
    let generate = |prompt: &[u32], n: usize| {
        let prompt = prompt.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
        let command = format!("generate --model model --prompt-ids {prompt} --max-new-tokens {n} --ignore-eos --json");
        ids(&home.qins(&command).lines()[0]["generated_ids"])
    };
    let all = generate(&[71, 102], 1100);
    let rest = generate(&[&[71, 102], &all[..900]].concat(), 200);
    assert_eq!(all[900..], rest);
}

#[test]
fn closed_pipe_exits_without_a_message() {
    let home = Home::new("e_tied/f32");
    let commands = [
        "generate --model model --prompts prompts.jsonl",
        "generate --model model --prompts prompts.jsonl --json",
        "validate --model model --prompts prompts.jsonl --max-new-tokens 2",
        "validate --model model --prompts prompts.jsonl --max-new-tokens 2 --json",
        "convert --model model --scheme q8 --out out",
        "inspect model",
        "inspect model --json",
        "verify encoded",
        "verify encoded --against model --json",
        "export encoded --out out",
    ];
    home.qins("convert --model model --scheme q8 --out encoded").done();
    for command in commands {
        let arguments: Vec<_> = command.split(' ').collect();
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = home.command(&arguments).stdout(writer).stderr(Stdio::piped()).output().unwrap();
        let err = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), &err[..]), (Some(2), ""), "{command}");
        #[cfg(target_os = "linux")]
        {
            let _ = std::fs::remove_dir_all(home.path("out"));
            let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
            let output = home.command(&arguments).stdout(full).stderr(Stdio::piped()).output().unwrap();
            let err = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(2), "{command}: {err}");
            assert!(err.starts_with("error: standard output: No space left") && err.lines().count() == 1, "{err}");
        }
    }
}

#[test]
fn embedded_model_generates_as_in_transformers() {
    let home = Home::new("e_tied/f32");
    let lines = home.run(&["generate", "--prompt", "The capital of France is", "--json"]).lines();
    assert!(lines[0]["text"].as_str().unwrap().starts_with(" Paris"), "{}", lines[0]);
    let text = home.run(&["generate", "--prompt", "The capital of France is"]).done();
    assert!(text.starts_with("The capital of France is Paris"), "{text}");
    let goldens = json_file(&repository("crates/qins/assets/atlas/goldens.json"));
    let goldens: Vec<&Value> = goldens["goldens"].as_array().unwrap().iter().step_by(5).collect();
    for field in ["prompt", "input_ids"] {
        let line = |g: &&Value| json!({ "id": g["id"], field: g[field], "max_new_tokens": g["max_new_tokens"] });
        home.write("prompts.jsonl", goldens.iter().map(|g| format!("{}\n", line(g))).collect::<String>());
        let lines = home.qins("generate --prompts prompts.jsonl --json").lines();
        assert_eq!(lines.len(), goldens.len() + 1);
        for (answer, golden) in lines.iter().zip(&goldens) {
            for field in ["id", "input_ids", "generated_ids", "stop"] {
                assert_eq!(answer[field], golden[field], "{} {field}", golden["id"]);
            }
            assert_eq!(answer["text"], golden["text"], "{}", golden["id"]);
            let (text, plain) = (&answer["text_with_special_tokens"], golden["text"].as_str().unwrap());
            let text = text.as_str().unwrap();
            assert!(text == plain || (text.starts_with(plain) && text.ends_with("|>")), "{text:?}, not {plain:?}");
        }
    }
}
