//! `--target kl=…` and `match=…`: the smallest mixture that reaches a goal, confirmed on held-out prompts; long contexts; and encoded
//! KV caches.

use std::fs;

use serde_json::{Value, json};

use crate::common::{Home, json_file, read_tensors};

#[test]
fn mixture_passes_its_threshold_on_held_out_prompts() {
    let home = Home::new("e_tied/f32");
    let run = home.qins("validate --target kl=1e-3 --targets all --contexts 256,512");
    let report = json_file(&home.path("report.json"));
    assert!(run.err.contains("mixture: ") && run.err.contains(" × q5"), "{}", run.err);
    assert_eq!(run.code, Some(0), "{}{}", run.out, run.err);
    let mixture = &report["candidates"][4];
    assert_eq!((&mixture["name"], &mixture["target"]), (&json!("mixture kl=0.001"), &json!("kl=0.001")));
    assert_eq!(mixture["criteria"][0]["threshold"], "≤ 0.001");
    // No uniform scheme below q5's 5.41 bits reaches it.
    let bits = mixture["bits_per_weight"].as_f64().unwrap();
    assert!((4.4..5.4).contains(&bits), "{bits}");
    expect_held_out_prompts(&report);
    // And what is predicted at the end of contexts.
    let contexts = mixture["figures"]["contexts"].as_array().unwrap();
    let read: Vec<_> = contexts.iter().map(|c| (c["tokens"].clone(), c["positions"].clone())).collect();
    assert_eq!(read, [(json!(128), json!(256)), (json!(384), json!(256))]);
    assert!(contexts.iter().all(|c| c["mean_kl"]["value"].as_f64().is_some_and(|kl| kl > 0.0 && kl < 0.02)));
    assert!(run.out.contains("\nteacher-forced at the end of long contexts\n"), "{}", run.out);
}

/// That a report is on every other of the embedded model's prompts.
fn expect_held_out_prompts(report: &Value) {
    let prompts = fs::read_to_string(crate::common::repository("crates/qins/assets/atlas/prompts.jsonl")).unwrap();
    let ids: Vec<&str> = prompts.lines().step_by(2).map(|line| line.split('"').nth(3).unwrap()).collect();
    let texts = report["baseline"]["texts"].as_array().unwrap();
    assert_eq!(texts.iter().map(|text| text["id"].as_str().unwrap()).collect::<Vec<_>>(), ids);
}

/// The default of `convert`: chosen by the fits with error feedback that are written.
#[test]
fn calibrated_mixture_says_more_than_its_bits_in_one_scheme_or_in_other_places() {
    let home = Home::new("e_tied/f32");
    home.qins("convert --targets all --scheme q4 --out q4").done();
    let run = home.qins("convert --targets all --target bits=4.42 --out mixture");
    assert!(run.err.contains("mixture: ") && run.err.contains(" dB of outputs)"), "{}", run.err);
    assert!(run.err.contains(" fits with error feedback"), "{}", run.err);
    run.done();
    // Control: as many bits, in the opposite blocks.
    let config = json_file(&home.path("mixture/config.json"));
    let mut overrides = String::new();
    for group in config["quantization_config"]["config_groups"].as_object().unwrap().values() {
        for module in group["targets"].as_array().unwrap() {
            let mut parts: Vec<String> = module.as_str().unwrap().split('.').map(str::to_owned).collect();
            parts[2] = (5 - parts[2].parse::<usize>().unwrap()).to_string();
            overrides += &format!(" --override {}={}", parts.join("."), group["scheme"].as_str().unwrap());
        }
    }
    home.qins(&format!("convert --targets all --scheme q4{overrides} --out opposite")).done();
    let run = home.qins("validate --max-new-tokens 32 --candidate q4 --candidate mixture --candidate opposite");
    let report = json_file(&home.path("report.json"));
    // Judged on the prompts that it was not chosen by.
    expect_held_out_prompts(&report);
    assert!(
        run.err.contains(
            "chosen by odd-numbered prompts: mixture for bits=4.42; every variant is judged on 27 even-numbered ones"
        ),
        "{}",
        run.err
    );
    let found: Vec<[f64; 2]> = (report["candidates"].as_array().unwrap().iter())
        .filter(|candidate| candidate["scheme"] == "checkpoint")
        .map(|c| {
            [&c["figures"]["teacher_forced"]["mean_kl"]["value"], &c["bits_per_weight"]].map(|x| x.as_f64().unwrap())
        })
        .collect();
    let [[q4, of_q4], [mixture, bits], [opposite, same]] = found[..] else { panic!("{found:?}") };
    assert!(bits <= 4.42 && of_q4 < 4.42 && (same - bits).abs() < 1e-9, "{found:?}");
    assert!(mixture <= q4 && opposite > 1.03 * mixture, "{found:?}");
}

#[test]
fn unreachable_goal_is_rejected_with_the_nearest_mixture() {
    let home = Home::new("e_tied/f32");
    let run = home.qins("convert --target kl=1e-9 --targets v --out out");
    run.rejected(
        "too much",
        &["expected a mixture that reaches the goal on the calibration prompts, found none: ", " bits give "],
    );
    for (target, found) in
        [("kl=0", "kl=0"), ("match=100%", "match=100%"), ("match=x", "match=x"), ("words=1", "words=1")]
    {
        let run = home.qins(&format!("convert --target {target} --out out"));
        run.rejected(target, &["expected bits=NUMBER, sqnr=NUMBER, kl=NUMBER or match=PERCENT%", found]);
    }
    let run = home.qins("validate --contexts 128");
    run.rejected("too short", &["expected more than the 128 tokens that are scored"]);
    home.qins("validate --preset long").rejected(
        "too long",
        &["expected at least one prompt or passage to evaluate", "the model's context length is 512"],
    );
    assert_eq!(home.list(), crate::common::NEW);
}

#[test]
fn encoded_kv_cache_is_judged_by_its_own_thresholds() {
    let home = Home::new("e_tied/f32");
    let prompts = fs::read_to_string(crate::common::repository("crates/qins/assets/atlas/prompts.jsonl")).unwrap();
    home.write("prompts.jsonl", prompts.lines().step_by(11).map(|line| format!("{line}\n")).collect::<String>());
    // Another name of k4v4.
    let run = home.qins("validate --prompts prompts.jsonl --kv f32,f16,q8,q4");
    assert_eq!(run.code, Some(0), "{}{}", run.out, run.err);
    let report = json_file(&home.path("report.json"));
    let candidates: Vec<_> = report["candidates"].as_array().unwrap().iter().filter(|c| !c["kv"].is_null()).collect();
    let of = |field: &str| candidates.iter().map(|c| c[field].clone()).collect::<Vec<_>>();
    assert_eq!(
        of("name"),
        ["plain, f32 KV cache", "plain, f16 KV cache", "plain, q8 KV cache", "plain, k4v4 KV cache"]
    );
    assert!(of("role").iter().all(|role| *role == "judged") && of("encoded_weights").iter().all(|n| *n == 0));
    // 6 blocks of 6 heads of 32: f32, half of it; then 15 blocks of codes, in which a channel of keys has a scale and an offset, a byte each,
    // and a width where they differ, and a token of values a scale; the first 4 tokens and the last 40 in f32; a mean of each channel.
    let (heads, numbers) = (6 * 6, 1000 * 6 * 6 * 32);
    let coded = |bits: usize, widths: usize| {
        let block = 2 * bits * 64 * 32 / 8 + (2 + widths) * 32 + 64;
        heads * (15 * block + (4 + 40) * 2 * 32 * 4 + 32 * 2)
    };
    assert_eq!(of("kv_bytes_per_1000_tokens"), [numbers * 8, numbers * 4, coded(8, 0), coded(4, 1)]);
    let kl: Vec<f64> = candidates.iter().map(|c| c["figures"]["text"]["mean_kl"]["value"].as_f64().unwrap()).collect();
    assert!(kl[0] < 1e-9 && kl.windows(2).all(|pair| 4.0 * pair[0] < pair[1]), "{kl:?}");
    assert!(run.out.contains("\nKV cache\n"), "{}", run.out);
    home.qins("generate --prompt-ids 5 --kv q7")
        .rejected("q7", &["`q7`", "expected one of f32, f16, bf16, q8, k5v5, k5v4, k4v4, k3v3"]);
}

#[test]
fn preset_cache_scores_each_text_past_token_64_and_its_control_fails() {
    let home = Home::new("e_tied/f32");
    let text = fs::read_to_string(crate::common::repository("crates/qins-eval/assets/text.txt")).unwrap();
    home.write("a.txt", &text[..4000]);
    home.write("b.txt", &text[8000..12000]);
    let run = home.qins("validate --preset cache --contexts 224 --text a.txt --text b.txt --baseline kept.safetensors");
    assert_eq!(run.code, Some(0), "{}{}", run.out, run.err);
    let report = json_file(&home.path("report.json"));
    assert_eq!(report["run"]["text"]["name"], "a.txt, b.txt");
    let candidates = report["candidates"].as_array().unwrap();
    // Every encoded scheme is judged, and no weights are.
    let kv: Vec<&str> = candidates.iter().filter_map(|c| c["kv"].as_str()).collect();
    assert!(kv.len() > 2 && kv.contains(&"q8") && !kv.contains(&"bf16"), "{kv:?}");
    assert!(candidates.iter().all(|c| c["encoded_weights"] == 0));
    // Four passages of each text, of 224 tokens.
    for candidate in candidates {
        let [context] = &candidate["figures"]["contexts"].as_array().unwrap()[..] else { panic!("{candidate}") };
        let sizes = ["length", "tokens", "positions"].map(|field| context[field].as_u64().unwrap());
        assert_eq!(sizes, [224, 64, 2 * 4 * 160]);
    }
    let control = candidates.last().unwrap();
    assert_eq!((&control["name"], &control["role"]), (&json!("keys of 3 bits per token"), &json!("control")));
    assert_eq!((&control["passed"], &control["criteria"][0]["passed"]), (&json!(true), &json!(false)));
    // Scales and plain tokens included.
    let q8 = candidates.iter().find(|c| c["kv"] == "q8").unwrap();
    assert!(q8["kv_bits_per_number"].as_f64().is_some_and(|bits| (8.0..9.5).contains(&bits)), "{q8}");
    // Other programs find the ids in the baseline.
    let kept = read_tensors(&home.path("kept.safetensors"));
    let ids: Value = serde_json::from_slice(&kept["run"].bytes).unwrap();
    let lengths: Vec<usize> =
        ids["passages"][7].as_array().unwrap().iter().map(|p| p.as_array().unwrap().len()).collect();
    assert_eq!((ids["passages"].as_array().unwrap().len(), lengths), (8, vec![64, 160]));
    home.write("short.txt", "A text. ");
    let run = home.qins("validate --preset cache --contexts 224 --text short.txt");
    run.rejected("short", &["expected at least one prompt or passage", "short.txt has"]);
}

#[test]
fn windows_are_shared_between_texts_and_a_text_without_any_is_said() {
    let home = Home::new("e_tied/f32");
    let text = fs::read_to_string(crate::common::repository("crates/qins-eval/assets/text.txt")).unwrap();
    for (i, name) in ["a", "b", "c", "d", "e"].iter().enumerate() {
        home.write(&format!("{name}.txt"), &text[4000 * i..4000 * (i + 1)]);
    }
    let validate = |texts: &[&str]| {
        let texts: String = texts.iter().map(|name| format!(" --text {name}.txt")).collect();
        let run = home.qins(&format!("validate --preset quick --max-new-tokens 1 --kv q8{texts}"));
        let report = json_file(&home.path("report.json"));
        (report["run"]["text"].clone(), run.err)
    };
    let (alone, _) = validate(&["a"]);
    let (two, _) = validate(&["a", "b"]);
    assert_eq!((&two["name"], &two["count"]), (&json!("a.txt, b.txt"), &json!(4)));
    assert_ne!(two["xxh3"], alone["xxh3"]);
    let (five, err) = validate(&["a", "b", "c", "d", "e"]);
    assert_eq!((&five["name"], &five["count"]), (&json!("a.txt, b.txt, c.txt, d.txt"), &json!(4)));
    assert!(err.contains("left out e.txt: 4 windows are those of other texts"), "{err}");
}

#[test]
fn one_thread_count_serves_calibration_and_search_of_one_conversion() {
    let home = Home::new("e_tied/f32");
    home.write("text.txt", "The capital of France is Paris. ".repeat(8));
    // Both run the model, and the threads can be set up once in a process.
    home.qins("convert --target kl=0.5 --calibrate text.txt --threads 1 --out out").done();
}
