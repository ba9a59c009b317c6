//! `qins chat`: conversations as Transformers continues them, and sampling.

use std::{io::Write, process::Stdio};

use crate::common::{Home, Run, ids};

fn chat(home: &Home, arguments: &[&str], lines: &str) -> Run {
    let mut command = home.command(&[&["chat"], arguments].concat());
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // A program that ends with an error does not read its input.
    let _ = child.stdin.take().unwrap().write_all(lines.as_bytes());
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
    let run = chat(&home, &greedy, &format!("{spain}/stats\n/reset\n/stats\n/what\n/exit\n{spain}"));
    let lines: Vec<&str> = run.err.lines().collect();
    // 38 tokens as the second question is asked, and all of the answer but its last.
    assert!(lines[0].contains("46 tokens of context used, 466 left"), "{}", run.err);
    assert!(
        lines[1].contains("KV cache 0 B") && lines[1].contains("0 tokens of context used, 512 left"),
        "{}",
        run.err
    );
    assert!(lines[2].starts_with("/reset clears") && lines.len() == 3, "{}", run.err);
    assert_eq!(run.done(), format!("{madrid}{euro}"));
}

#[test]
fn conversation_beyond_the_context_is_reported_and_continues() {
    let home = Home::new("e_tied/f32");
    let long = "word ".repeat(600);
    let run = chat(&home, &["--temperature", "0"], &format!("{long}\nWhat is the capital of France?\n"));
    assert!(
        run.err.starts_with("expected a conversation shorter than the model's context of 512 tokens, found ")
            && run.err.contains(": /reset"),
        "{}",
        run.err
    );
    assert_eq!(run.done(), "The capital of France is Paris.\n");
    chat(&home, &["--model", "model"], "").rejected("no tokenizer", &["model: expected a tokenizer.json, found none"]);
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
