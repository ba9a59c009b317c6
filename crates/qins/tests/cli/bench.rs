//! `qins bench`, and the choice of an instruction set.

use serde_json::Value;

use crate::common::{Home, Run};

/// The JSON output of a run, with every promised field.
#[track_caller]
fn figures(run: Run) -> Value {
    let [line] = run.lines().try_into().expect("one object");
    for speed in [
        "prefill_tokens_per_second",
        "decode_tokens_per_second",
        "decode_gb_per_second",
        "read_gb_per_second",
        "load_seconds",
    ] {
        assert!(line[speed].as_f64().is_some_and(|x| x > 0.0), "{speed}: {line}");
    }
    // Decoding cannot read weights faster than the memory bandwidth.
    assert!(line["decode_gb_per_second"].as_f64() < line["read_gb_per_second"].as_f64(), "{line}");
    let bytes = |name: &str| line[name].as_u64().unwrap();
    if cfg!(target_os = "linux") {
        assert!(bytes("peak_rss_bytes") > bytes("weight_bytes"), "{line}");
    }
    line
}

#[test]
fn every_metric_is_printed_for_any_model() {
    let home = Home::new("b_gqa/bf16");
    for model in ["", "--model model"] {
        let plain = figures(home.qins(&format!("bench {model} --prompt-tokens 5 --tokens 3 --json")));
        let coded = figures(home.qins(&format!(
            "bench {model} --prompt-tokens 5 --tokens 3 --scheme q4 --targets full --threads 2 --json"
        )));
        assert_eq!((&coded["threads"], &coded["scheme"]), (&2.into(), &"q4".into()));
        assert!(coded["weight_bytes"].as_u64().unwrap() < plain["weight_bytes"].as_u64().unwrap() / 2, "{coded}");
        let text = home.qins(&format!("bench {model} --prompt-tokens 5 --tokens 3")).done();
        assert!(
            ["prefill", "tok/s (pp5)", "decode", "tok/s (tg3)", "weights"].iter().all(|word| text.contains(word)),
            "{text}"
        );
    }
}

#[test]
fn synthetic_model_has_the_bits_per_weight_of_its_scheme() {
    let home = Home::new("e_tied/f32");
    let bench =
        "bench --model synthetic:phi-3.5-mini --blocks 1 --scheme q3 --targets full --prompt-tokens 2 --tokens 1";
    let line = figures(home.qins(&format!("{bench} --json")));
    // Embedding, head and the linears of a block, at 3.375 bits, and three norms of bf16.
    let weights = 2 * 32_064 * 3072 + 4 * 3072 * 3072 + 3 * 3072 * 8192;
    let bits = 8.0 * (line["weight_bytes"].as_f64().unwrap() - 3.0 * 2.0 * 3072.0) / f64::from(weights);
    assert!((3.37..3.38).contains(&bits), "{bits} bits per weight: {line}");
    // The whole of it is resident once.
    if cfg!(target_os = "linux") {
        let ratio = line["peak_rss_bytes"].as_f64().unwrap() / line["weight_bytes"].as_f64().unwrap();
        assert!(ratio < 2.0, "{ratio} times its weights are resident: {line}");
    }
}

#[test]
fn invalid_arguments_are_rejected() {
    let home = Home::new("e_tied/f32");
    let cases = [
        ("--model synthetic:gpt", "phi-3.5-mini"),
        ("--model model --blocks 2", "--blocks"),
        ("--blocks 2", "--blocks"),
        ("--model nowhere", "nowhere"),
        ("--tokens 0", "--tokens"),
        ("--prompt-tokens 600", "at most 512"),
        ("--scheme q9", "q9"),
        ("--dtype i8", "--dtype"),
        ("--model model --dtype f32", "expected --dtype with a synthetic model only"),
        ("--targets full", "expected a --scheme to encode with --targets"),
        // A head that is tied to the embedding.
        ("--model synthetic:llama-3.2-1b --scheme q4 --targets lm_head", "lm_head"),
    ];
    for (arguments, messages) in cases {
        home.qins(&format!("bench {arguments}")).rejected(arguments, &[messages]);
    }
}

#[test]
fn instruction_set_does_not_change_generated_tokens() {
    let home = Home::new("b_gqa/bf16");
    let generate =
        "generate --model model --prompts prompts.jsonl --scheme q4 --targets full --max-new-tokens 24 --json";
    let on = |simd: &str, arguments: &str| {
        let mut command = home.command(&arguments.split_whitespace().collect::<Vec<_>>());
        let output = command.env("QINS_SIMD", simd).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Run { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    };
    let best = home.qins(generate).lines()[..2].to_vec();
    for simd in ["portable", "avx2", "avxvnni", "avx512"] {
        let run = on(simd, generate);
        // A machine without it reports that.
        if run.code == Some(2) && simd != "portable" {
            run.rejected(simd, &["QINS_SIMD", simd]);
        } else {
            assert_eq!(run.lines()[..2], best, "{simd}");
        }
    }
    on("mmx", generate).rejected("mmx", &["QINS_SIMD", "portable", "`mmx`"]);
    assert_eq!(on("portable", "bench --tokens 1 --prompt-tokens 1 --json").lines()[0]["simd"], "portable");
}
