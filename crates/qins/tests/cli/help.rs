//! `--help`: every flag, each with a sentence.

use crate::common::Home;

#[test]
fn every_flag_has_a_description() {
    let home = Home::new("e_tied/f32");
    let encode = [
        "--model",
        "--force-download",
        "--scheme",
        "--targets",
        "--override",
        "--target",
        "--calibrate",
        "--effort",
        "--entropy",
        "--bits-per-weight",
        "--prune",
        "--alpha",
    ];
    let device = ["--backend", "--threads"];
    let sample = ["--temperature", "--top-k", "--top-p", "--min-p", "--repetition-penalty", "--seed"];
    let prompts = ["--prompt", "--prompt-file", "--prompt-ids", "--prompts"];
    let generate = ["--max-new-tokens", "--ignore-eos", "--stop", "--json", "--help"];
    let logits = ["--prompt", "--prompt-ids", "--text", "--no-special-tokens", "--tokens", "--out", "--help"];
    let inputs =
        ["--preset", "--prompts", "--text", "--contexts", "--max-new-tokens", "--temperature", "--seed", "--baseline"];
    let report = ["--report", "--json", "--help"];
    let bench = [
        "--model",
        "--blocks",
        "--scheme",
        "--targets",
        "--dtype",
        "--kv",
        "--backend",
        "--threads",
        "--prompt-tokens",
        "--tokens",
        "--repeats",
    ];
    let cases: [(&str, Vec<&str>); 13] = [
        ("generate", [&encode[..], &["--kv"], &device, &prompts, &sample, &generate].concat()),
        (
            "chat",
            [
                &encode[..],
                &["--kv"],
                &device,
                &sample,
                &["--system", "--max-new-tokens", "--allow-special-tokens", "--help"],
            ]
            .concat(),
        ),
        ("logits", [&encode[..], &["--kv"], &device, &logits].concat()),
        ("importance", [&encode[..2], &["--calibrate", "--out"], &device, &["--help"]].concat()),
        ("validate", [&encode[..3], &["--candidate", "--kv"], &encode[3..], &device, &inputs, &report].concat()),
        (
            "sweep",
            [
                &["--model", "--force-download", "--schemes", "--targets", "--parts", "--kv"],
                &device[..],
                &inputs,
                &report,
            ]
            .concat(),
        ),
        ("convert", [&encode[..], &["--no-calibrate", "--out"], &device, &["--help"]].concat()),
        ("synth", vec!["--config", "--blocks", "--shard-bytes", "--out", "--help"]),
        ("inspect", vec!["[MODEL]", "--against", "--json", "--help"]),
        ("verify", vec!["<MODEL>", "--against", "--min-sqnr", "--json", "--help"]),
        ("export", vec!["<MODEL>", "--out", "--dtype", "--help"]),
        ("doctor", vec!["--backend", "--json", "--help"]),
        ("bench", [&bench[..], &["--json", "--help"]].concat()),
    ];
    let summary = home.qins("--help").done();
    assert!(summary.starts_with("Run, convert, verify and evaluate language models"), "{summary}");
    assert!(summary.contains("Exit codes: 0 success"), "{summary}");
    for (command, flags) in cases {
        let short = summary.lines().find_map(|line| line.trim().strip_prefix(command)).unwrap();
        assert!(short.trim().len() > 10, "{command}: {summary}");
        let help = home.run(&[command, "--help"]).done();
        assert_eq!(explained(&help), flags, "{command}");
        assert_eq!(home.run(&["help", command]).done(), help);
        assert!(home.run(&[command, "-h"]).done().lines().count() > flags.len(), "{command}");
    }
    assert!(home.qins("--version").done().starts_with("qins "));
}

#[test]
fn help_states_the_guarantees() {
    let home = Home::new("e_tied/f32");
    for (command, messages) in [
        ("generate", "Examples:\n  qins generate --prompt \"The capital of France is\"\n"),
        ("validate", "8 bits with collapsed codes, which must fail"),
        ("sweep", "each block is encoded by itself, each role of linears"),
        ("convert", "It appears complete or not at all"),
        ("convert", "Examples:\n  qins convert --model DIR --scheme q8 --out DIR-q8\n"),
        ("verify", "Exit codes: 0 no fault, 1 a fault was found, 2 the checkpoint could not be read"),
        ("export", "The result appears complete or not at all"),
    ] {
        let help = home.run(&[command, "--help"]).done();
        // Wherever the lines are broken.
        let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(words(&help).contains(&words(messages)), "{command}: {help}");
    }
}

#[test]
fn completions_name_every_command_and_an_unknown_shell_is_an_error() {
    let home = Home::new("e_tied/f32");
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = home.run(&["completions", shell]).done();
        assert!(["validate", "convert", "override"].iter().all(|word| script.contains(word)), "{shell}");
    }
    home.qins("completions tcsh").rejected("tcsh", &["'tcsh'", "bash, elvish, fish"]);
}

#[test]
fn manual_pages_are_printed_or_written_one_for_each_command() {
    let home = Home::new("e_tied/f32");
    assert!(home.qins("man").done().contains(".TH QINS 1"));
    home.qins("man --out man1").done();
    let page = |name: &str| std::fs::read_to_string(home.path(&format!("man1/{name}.1"))).unwrap();
    for command in ["generate", "validate", "convert", "doctor", "man"] {
        assert!(
            page(&format!("qins-{command}")).contains(&format!(".TH QINS-{} 1", command.to_uppercase())),
            "{command}"
        );
    }
    assert!(page("qins").contains(".TH QINS 1"));
    home.qins("man --out prompts.jsonl").rejected("a file", &["prompts.jsonl"]);
}

/// The flags and arguments of a help, each of which must be explained: beside it, or below.
fn explained(help: &str) -> Vec<&str> {
    let mut flags = Vec::new();
    let lines: Vec<&str> = help.lines().collect();
    for (i, line) in lines.iter().enumerate() {
        // A value of a flag is explained behind a colon.
        let is_flag = ["-", "[MODEL]", "<MODEL>"].iter().any(|start| line.trim_start().starts_with(start))
            && !line.trim_start().starts_with("- ");
        if !is_flag || !line.starts_with("  ") {
            continue;
        }
        let beside = line.trim_start().split_once("  ").map(|(_, text)| text);
        let text = beside.unwrap_or_else(|| lines.get(i + 1).unwrap_or(&"")).trim();
        assert!(text.split(' ').count() > 1 && text.starts_with(char::is_uppercase), "{line}: {text:?}");
        flags
            .extend(line.split([' ', ',']).find(|word| ["--", "[MODEL", "<MODEL"].iter().any(|w| word.starts_with(w))));
    }
    flags
}
