//! Prompts files: what is refused, by file and line, before a model is loaded.

use std::{
    fs,
    io::Write,
    process::{Command, Stdio},
};

use crate::common::{Home, Run, ids, repository};

const GENERATE: &str = "generate --model model --max-new-tokens 2";
const VALIDATE: &str = "validate --model model --max-new-tokens 2";

/// Runs a command with this on standard input.
fn with_input(mut command: Command, input: &[u8]) -> Run {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // A program that ends with an error does not read its input.
    let _ = child.stdin.take().unwrap().write_all(input);
    let output = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Run { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

#[test]
fn misspelt_field_or_role_is_named_with_those_there_are() {
    let home = Home::new("e_tied/f32");
    let fields = ["`id`, `prompt`, `messages`, `input_ids`, `max_new_tokens`, `expected_ids`, `category`"];
    let cases: [(&str, &[&str]); 9] = [
        ("{\"promt\":\"a\"}", &["bad.jsonl:1: ", "unknown field `promt`", fields[0]]),
        ("{\"input_ids\":[5],\"max_tokens\":3}", &["bad.jsonl:1: ", "`max_tokens`", fields[0]]),
        ("{\"messages\":[{\"role\":\"usr\",\"content\":\"a\"}]}", &["bad.jsonl:1: ", "`usr`", "`user`, `assistant`"]),
        ("{\"messages\":[{\"role\":\"user\",\"text\":\"a\"}]}", &["bad.jsonl:1: ", "`text`", "`role` or `content`"]),
        ("{\"messages\":[{\"role\":\"user\"}]}", &["bad.jsonl:1: ", "missing field `content`"]),
        ("{\"messages\":[]}", &["bad.jsonl:1: ", "expected at least one message, found none"]),
        ("{\"input_ids\":[5],\"input_ids\":[6]}", &["bad.jsonl:1: ", "duplicate field `input_ids`"]),
        // Another object than the prompt that its author thought of.
        ("[null,null,null,[5],null,null,null]", &["bad.jsonl:1: ", "expected a JSON object"]),
        ("{\n\"input_ids\": [5]\n}", &["bad.jsonl:1: ", "EOF", "column 1"]),
    ];
    for (text, messages) in cases {
        home.write("bad.jsonl", text);
        for command in [GENERATE, VALIDATE] {
            home.qins(&format!("{command} --prompts bad.jsonl")).rejected(text, messages);
        }
    }
}

/// Everything is checked before the first prompt: nothing is printed of the valid ones before.
#[test]
fn every_prompt_is_checked_before_the_first_is_continued() {
    let home = Home::new("e_tied/f32");
    let good = "{\"id\":\"a\",\"input_ids\":[5]}\n";
    let long = format!("{{\"id\":\"long\",\"input_ids\":[{}]}}", vec!["5"; 513].join(","));
    let cases: [(&str, &[&str]); 5] = [
        ("{\"id\":\"b\",\"input_ids\":[112]}", &["bad.jsonl:2: prompt `b`", "below 112", "found 112"]),
        (&long, &["bad.jsonl:2: prompt `long`", "at most 512", "found 513"]),
        ("\n{\"id\":\"a\",\"input_ids\":[6]}", &["bad.jsonl:3: ", "an id of its own", "`a`, that of line 1"]),
        ("{\"input_ids\":[6],\"expected_ids\":[7,112]}", &["bad.jsonl:2: prompt `2`", "below 112", "found 112"]),
        ("{\"input_ids\":[6]}\n{\"input_ids\":[6]}x", &["bad.jsonl:3: ", "trailing characters", "column 18"]),
    ];
    for (text, messages) in cases {
        home.write("bad.jsonl", format!("{good}{text}"));
        for command in [GENERATE, VALIDATE] {
            home.qins(&format!("{command} --prompts bad.jsonl")).rejected(text, messages);
        }
    }
    // A line's number is its id, where it has none.
    home.write("bad.jsonl", "{\"input_ids\":[5]}\n{\"id\":\"1\",\"input_ids\":[5]}");
    home.qins(&format!("{GENERATE} --prompts bad.jsonl")).rejected("number", &["bad.jsonl:2: ", "`1`, that of line 1"]);
}

#[test]
fn encoding_is_named_by_line() {
    let home = Home::new("e_tied/f32");
    let line = "{\"input_ids\":[5]}";
    let utf16: Vec<u8> = [0xff, 0xfe].into_iter().chain(line.bytes().flat_map(|byte| [byte, 0])).collect();
    let cases: [(&[u8], &[&str]); 5] = [
        (b"\xef\xbb\xbf{\"input_ids\":[5]}", &["bad.jsonl:1: ", "without a byte order mark"]),
        (&utf16, &["bad.jsonl:1: ", "expected UTF-8", "0xff"]),
        (b"{\"input_ids\":[5]}\n\n{\"id\":\"\xe4\",\"input_ids\":[5]}", &["bad.jsonl:3: ", "expected UTF-8", "0xe4"]),
        (b"", &["bad.jsonl: ", "found none"]),
        (b"\r\n \t\r\n", &["bad.jsonl: ", "found none"]),
    ];
    for (bytes, messages) in cases {
        home.write("bad.jsonl", bytes);
        for command in [GENERATE, VALIDATE] {
            home.qins(&format!("{command} --prompts bad.jsonl")).rejected("bytes", messages);
        }
    }
    home.write("bad.jsonl", format!("\r\n{line}\r\n\r\n{line}\r\n"));
    let lines = home.qins(&format!("{GENERATE} --prompts bad.jsonl --json")).lines();
    assert_eq!(lines.iter().filter_map(|line| line["id"].as_str()).collect::<Vec<_>>(), ["2", "4"]);
}

#[test]
fn prompts_and_texts_are_read_from_standard_input_and_files() {
    let home = Home::new("e_tied/f32");
    let text = "The capital of France is";
    let expected =
        ids(&home.run(&["generate", "--prompt", text, "--max-new-tokens", "2", "--json"]).lines()[0]["input_ids"]);
    let read = |arguments: &str, input: &[u8]| {
        let arguments = format!("generate {arguments} --max-new-tokens 2 --json");
        let command = home.command(&arguments.split_whitespace().collect::<Vec<_>>());
        ids(&with_input(command, input).lines()[0]["input_ids"])
    };
    for end in ["", "\n", "\r\n"] {
        let input = format!("{text}{end}");
        home.write("prompt.txt", &input);
        assert_eq!(read("--prompt -", input.as_bytes()), expected);
        assert_eq!(read("--prompt-file -", input.as_bytes()), expected);
        assert_eq!(read("--prompt-file prompt.txt", b""), expected);
    }
    // Only one line break is the file's.
    assert_ne!(read("--prompt -", format!("{text}\n\n").as_bytes()), expected);
    assert_eq!(read("--prompts -", format!("{{\"prompt\":\"{text}\"}}\n").as_bytes()), expected);

    let rejected = |arguments: &str, input: &[u8], messages: &[&str]| {
        let command = home.command(&arguments.split_whitespace().collect::<Vec<_>>());
        with_input(command, input).rejected(arguments, messages);
    };
    rejected("generate --prompt -", b"", &["expected at least one token", "found an empty prompt"]);
    rejected("generate --prompt -", b"a\nb\xff", &["standard input:2: expected UTF-8", "0xff"]);
    rejected("generate --prompt-file -", b"\xef\xbb\xbfa", &["standard input:1: ", "byte order mark"]);
    rejected("generate --prompts -", b"{\"promt\":\"a\"}", &["standard input:1: ", "`promt`"]);
    rejected("logits --prompt - --out x", b"\xff", &["standard input:1: ", "0xff"]);
    home.qins("generate --prompt-file none.txt").rejected("no file", &["none.txt", "No such file"]);
    home.qins("generate --prompt-file model").rejected("a directory", &["model", "directory"]);
    home.qins("generate --prompt-file a --prompt b").rejected("both", &["cannot be used with"]);
}

#[test]
fn stop_string_ends_the_text_before_it() {
    let home = Home::new("e_tied/f32");
    let run = |stops: &[&str], more: &[&str]| {
        let mut arguments =
            vec!["generate", "--prompt", "The capital of France is", "--max-new-tokens", "40", "--ignore-eos"];
        stops.iter().for_each(|stop| arguments.extend(["--stop", stop]));
        home.run(&[&arguments[..], more].concat())
    };
    let whole = run(&[], &["--json"]).lines().remove(0);
    let text = whole["text"].as_str().unwrap().to_owned();
    // A string that begins and ends amid tokens: from the second letter of one word to the second of the next.
    let from = text.char_indices().nth(2).unwrap().0;
    let stop = &text[from..from + 8];
    let expected = text.split(stop).next().unwrap();
    for stops in [&[stop][..], &["not in the text", stop], &[stop, &text[from + 4..]]] {
        let answer = run(stops, &["--json"]).lines().remove(0);
        assert_eq!((answer["text"].as_str().unwrap(), &answer["stop"]), (expected, &"string".into()), "{stops:?}");
        // The tokens that spell the string are in the ids, and none after them.
        let (all, cut) = (ids(&whole["generated_ids"]), ids(&answer["generated_ids"]));
        assert!(all.starts_with(&cut) && cut.len() < all.len());
        assert_eq!(run(stops, &[]).done(), format!("The capital of France is{expected}\n"));
    }
    // What only looked like the beginning of one is not lost, not even at the end.
    let almost = format!("{}~", &text[text.len() - 3..]);
    let answer = run(&[&almost, &format!("{stop}~")], &["--json"]).lines().remove(0);
    assert_eq!((&answer["text"], &answer["stop"]), (&whole["text"], &"length".into()));
    // A special token is not part of the text, and stops all the same.
    let special = json_special();
    let answer = run(&[&special], &["--json"]).lines().remove(0);
    assert_eq!(answer["stop"], "string", "{answer}");
    assert!(answer["text_with_special_tokens"].as_str().unwrap().ends_with(&special), "{answer}");

    run(&[""], &[]).rejected("empty", &["--stop"]);
    home.qins("generate --model model --prompt-ids 5 --stop a")
        .rejected("no tokenizer", &["tokenizer.json", "found none"]);
}

/// The token that ends the embedded model's texts.
fn json_special() -> String {
    let config = fs::read(repository("crates/qins/assets/atlas/tokenizer_config.json")).unwrap();
    let config: serde_json::Value = serde_json::from_slice(&config).unwrap();
    let token = &config["eos_token"];
    token["content"].as_str().or(token.as_str()).unwrap().to_owned()
}
