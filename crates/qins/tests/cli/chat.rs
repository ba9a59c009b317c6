//! `qins chat`: conversations as Transformers continues them, and sampling.

use std::{io::Write, process::Stdio};

use serde_json::{Value, json};

use crate::common::{Home, Run, edit_json, ids, json_file, repository};

fn chat(home: &Home, arguments: &[&str], lines: impl AsRef<[u8]>) -> Run {
    let mut command = home.command(&[&["chat"], arguments].concat());
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // A program that ends with an error does not read its input.
    let _ = child.stdin.take().unwrap().write_all(lines.as_ref());
    let output = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Run { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

/// The answers are those of `crates/qins/assets/atlas/goldens.json`, `chat-01`, `chat-06` and `chat-07`.
#[test]
fn answers_equal_those_of_transformers() {
    let home = Home::new("e_tied/f32");
    let greedy = ["--temperature", "0"];
    let run = chat(&home, &greedy, "What is the capital of France?\n");
    assert_eq!(run.done(), "The capital of France is Paris.\n");
    let with_system = [&greedy[..], &["--system", "Answer briefly."]].concat();
    assert_eq!(chat(&home, &with_system, "Tell me the capital of Cuba.").done(), "The capital of Cuba is Havana.\n");
    let spain = "What is the capital of Spain?\n\nWhat is the currency of Spain?\n";
    let madrid = "The capital of Spain is Madrid.\n";
    let euro = "The currency of Spain is the Euro.\n";
    let run = chat(&home, &greedy, format!("{spain}/stats\n/reset\n/stats\n/what\n/exit\n{spain}"));
    let lines: Vec<&str> = run.err.lines().collect();
    // 38 tokens as the second question is asked, and all of the answer but its last.
    assert!(lines[0].contains("46 tokens of context used, 466 left"), "{}", run.err);
    assert!(
        lines[1].contains("KV cache 0 B") && lines[1].contains("0 tokens of context used, 512 left"),
        "{}",
        run.err
    );
    assert!(lines[2].contains("found `/what`: /help lists them") && lines.len() == 3, "{}", run.err);
    // A script learns that a line was not understood.
    assert_eq!((run.code, run.out), (Some(2), format!("{madrid}{euro}")));
}

#[test]
fn conversation_beyond_the_context_is_reported_and_continues() {
    let home = Home::new("e_tied/f32");
    let long = "word ".repeat(600);
    let run = chat(&home, &["--temperature", "0"], format!("{long}\nWhat is the capital of France?\n"));
    assert!(
        run.err.starts_with("expected a conversation shorter than the model's context of 512 tokens, found ")
            && run.err.contains(": /reset"),
        "{}",
        run.err
    );
    assert_eq!((run.code, &run.out[..]), (Some(2), "The capital of France is Paris.\n"));
    chat(&home, &["--model", "model"], "").rejected("no tokenizer", &["model: expected a tokenizer.json, found none"]);
}

const FRANCE: &str = "What is the capital of France?";
const PARIS: &str = "The capital of France is Paris.\n";

#[test]
fn bytes_that_are_no_text_are_reported_and_the_conversation_continues() {
    let home = Home::new("e_tied/f32");
    let lines = [b"What is\xff the capital of Spain?\n", FRANCE.as_bytes(), b"\r\n\xc3"].concat();
    let run = chat(&home, &["--temperature", "0"], lines);
    let expected = "standard input:1: expected UTF-8, found the byte 0xff: the line was not sent\n\
                    standard input:3: expected UTF-8, found the byte 0xc3: the line was not sent\n";
    assert_eq!(run.err, expected);
    assert_eq!((run.code, &run.out[..]), (Some(2), PARIS));
}

#[test]
fn conversation_is_saved_loaded_and_read_by_generate() {
    let home = Home::new("e_tied/f32");
    let greedy = ["--temperature", "0"];
    let lines = format!("/save empty.json\n/system Answer briefly.\n{FRANCE}\n/save my talk.json\n");
    let run = chat(&home, &greedy, &lines);
    assert_eq!(run.err, "expected something to save, found an empty conversation\nmy talk.json: 3 messages\n");
    run.done();
    let saved = json_file(&home.path("my talk.json"));
    let roles: Vec<&Value> = saved["messages"].as_array().unwrap().iter().map(|m| &m["role"]).collect();
    assert_eq!(roles, ["system", "user", "assistant"]);
    assert_eq!(
        (&saved["messages"][0]["content"], &saved["messages"][1]["content"]),
        (&json!("Answer briefly."), &json!(FRANCE))
    );

    // A second conversation goes on from the file as the first would have.
    let more = "What is the currency of Spain?\n";
    let first = chat(&home, &greedy, format!("/system Answer briefly.\n{FRANCE}\n{more}")).done();
    let second = chat(&home, &greedy, format!("/load my talk.json\n{more}"));
    assert_eq!(second.err, "my talk.json: 3 messages\n");
    assert_eq!(format!("{}\n{}", saved["messages"][2]["content"].as_str().unwrap(), second.done()), first);
    let lines = home.run(&["generate", "--prompts", "my talk.json", "--max-new-tokens", "1", "--json"]).lines();
    assert!(ids(&lines[0]["input_ids"]).len() > 30, "{}", lines[0]);

    // Never over another file; and an invalid one is named.
    let before = std::fs::read(home.path("my talk.json")).unwrap();
    chat(&home, &greedy, lines_of(FRANCE, "/save my talk.json")).fails("my talk.json: expected a new file, found one");
    assert_eq!(std::fs::read(home.path("my talk.json")).unwrap(), before);
    chat(&home, &greedy, lines_of(FRANCE, "/save none/x")).fails("none/x: expected a directory to write into");
    let printed = chat(&home, &greedy, lines_of(FRANCE, "/save -")).done();
    assert!(printed.ends_with("]}\n") && printed.contains("\n{\"messages\":[{"), "{printed}");
    assert!(!home.path("-").exists());
    home.write("bad.json", "{\"messages\":[{\"role\":\"usr\",\"content\":\"a\"}]}");
    home.write("two.json", "{\"messages\":[{\"role\":\"user\",\"content\":\"a\"}],\"prompt\":\"b\"}");
    chat(&home, &greedy, "/load two.json\n").fails("two.json:1: expected `messages` alone, found another text");
    chat(&home, &greedy, "/load bad.json\n").fails("bad.json:1: unknown variant `usr`");
    home.write("bad.json", "{\"prompt\":\"a\"}");
    chat(&home, &greedy, "/load bad.json\n").fails("bad.json:1: expected `messages`, found none");
}

fn lines_of(first: &str, second: &str) -> String {
    format!("{first}\n{second}\n")
}

impl Run {
    /// Asserts exit code 2 and an error that says this.
    #[track_caller]
    fn fails(&self, text: &str) {
        assert!(
            self.code == Some(2) && self.err.starts_with("error: ") && self.err.contains(text),
            "{:?} {}",
            self.code,
            self.err
        );
    }
}

#[test]
fn special_tokens_in_a_message_are_text_unless_allowed() {
    let home = Home::new("e_tied/f32");
    let message = "What is <|end|> the capital of France?\n";
    let used = |arguments: &[&str]| {
        let run = chat(
            &home,
            &[&["--temperature", "0", "--max-new-tokens", "1"], arguments].concat(),
            format!("{message}/stats\n"),
        );
        let (before, _) = run.err.split_once(" tokens of context used").unwrap();
        before.rsplit(' ').next().unwrap().parse::<usize>().unwrap()
    };
    // As text it takes several tokens, as a control token one.
    assert!(used(&[]) > used(&["--allow-special-tokens"]));
}

#[test]
fn endings_that_a_user_should_know_are_said() {
    let home = Home::new("e_tied/f32");
    let run = chat(&home, &["--temperature", "0", "--max-new-tokens", "2"], lines_of(FRANCE, "/etc/hosts"));
    let lines: Vec<&str> = run.err.lines().collect();
    assert_eq!(lines[0], "the answer was cut at --max-new-tokens 2");
    assert!(lines[1].contains("found `/etc/hosts`") && lines[1].contains("written with two"), "{}", run.err);
    assert!(chat(&home, &[], "/help\n").err.contains("/save FILE"));

    let dir = home.path("plain");
    std::fs::create_dir(&dir).unwrap();
    for entry in std::fs::read_dir(repository("crates/qins/assets/atlas")).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, dir.join(path.file_name().unwrap())).unwrap();
    }
    edit_json(&dir.join("tokenizer_config.json"), |c| drop(c.as_object_mut().unwrap().remove("chat_template")));
    let run = chat(&home, &["--model", "plain", "--temperature", "0", "--max-new-tokens", "1"], FRANCE);
    assert!(run.err.starts_with("note: plain: expected a chat template, found none"), "{}", run.err);
    // A conversation that fills the context ends with it, and says what to do.
    edit_json(&dir.join("config.json"), |c| c["max_position_embeddings"] = json!(40));
    edit_json(&dir.join("generation_config.json"), |c| c["eos_token_id"] = json!([]));
    let run = chat(&home, &["--model", "plain", "--temperature", "0"], FRANCE);
    assert!(run.err.contains("context of 40 tokens is full: /reset"), "{}", run.err);
}

#[test]
fn seed_fixes_the_text_for_any_number_of_threads() {
    let home = Home::new("b_gqa/f32");
    let draw = |arguments: &str| {
        let command =
            format!("generate --model model --prompt-ids 5,6 --max-new-tokens 40 --ignore-eos --json {arguments}");
        ids(&home.qins(&command).lines()[0]["generated_ids"])
    };
    let first = draw("--temperature 1 --seed 7");
    assert_eq!(first, draw("--temperature 1 --seed 7 --threads 1"));
    assert_eq!(first, draw("--temperature 1 --seed 7 --top-p 1"));
    assert_ne!(first, draw("--temperature 1 --seed 8"));
    assert_ne!(first, draw(""));
    // Options that leave only the top-1 token are greedy.
    for only in ["--top-k 1", "--top-p 0.0001", "--min-p 1"] {
        assert_eq!(draw(&format!("--temperature 1 {only}")), draw(""), "{only}");
    }
    // A penalty so large that no token is generated twice.
    let mut once = draw("--repetition-penalty 1e30");
    once.sort_unstable();
    once.dedup();
    assert!(once.len() > 30, "{}", once.len());
    for (option, messages) in [
        ("--temperature -1", "expected 0 or more"),
        ("--top-p 0", "a share above 0 and at most 1"),
        ("--min-p 1.5", "a share above 0 and at most 1"),
        ("--repetition-penalty 0", "a number above 0"),
        ("--top-k -1", "-1"),
    ] {
        home.qins(&format!("generate --model model --prompt-ids 5 {option}")).rejected(option, &[messages]);
    }
}
