//! `qins validate`: criteria, verdict, and the settings in the report.

use std::fs;

use serde_json::{Value, json};

use crate::common::{Home, goldens, json_file, repository};

const EXACT: [(&str, &str, bool); 3] = [
    ("exact-match rate (greedy)", "≥ 1", true),
    ("exact-match rate (sampled)", "≥ 1", true),
    ("max KL divergence", "≤ 0", true),
];
const COMMON: &str = "--prompts prompts.jsonl --max-new-tokens 12";

/// The judged candidate of the report; the exit code is its verdict.
#[track_caller]
fn judged(home: &Home, arguments: &str) -> Value {
    let run = home.qins(&format!("validate {COMMON} {arguments}"));
    let report = json_file(&home.path("report.json"));
    let candidates = report["candidates"].as_array().unwrap();
    assert_eq!(candidates.len(), 7, "{arguments}: {}", run.err);
    assert_eq!(run.code, Some(if report["passed"] == true { 0 } else { 1 }), "{arguments}: {}", run.err);
    let verdict = if report["passed"] == true { "\nverdict    PASS\n" } else { "\nverdict    FAIL\n" };
    assert!(run.out.contains(verdict), "{arguments}: {}", run.out);
    candidates[4].clone()
}

fn criteria(candidate: &Value) -> Vec<(&str, &str, bool)> {
    let all = candidate["criteria"].as_array().unwrap().iter();
    all.map(|c| (c["name"].as_str().unwrap(), c["threshold"].as_str().unwrap(), c["passed"] == true)).collect()
}

#[test]
fn lossless_must_match_every_token_with_zero_divergence() {
    for fixture in ["b_gqa/bf16", "e_tied/f32"] {
        let home = Home::new(fixture);
        for targets in ["safe", "full"] {
            let found = judged(&home, &format!("--model model --scheme lossless --targets {targets}"));
            assert_eq!(criteria(&found), EXACT, "{fixture}");
            assert_eq!(
                (&found["passed"], &found["figures"]["teacher_forced"]["max_kl"]),
                (&json!(true), &json!(0.0)),
                "{fixture}"
            );
        }
        // With one linear in three bits it is judged by its bits.
        let found = judged(&home, "--model model --scheme lossless --override down=q3");
        assert_eq!(criteria(&found).iter().map(|c| c.0).collect::<Vec<_>>(), ["top-1 agreement", "mean KL divergence"]);
        assert!(found["figures"]["teacher_forced"]["max_kl"].as_f64().unwrap() > 0.0, "{fixture}");
        let found = judged(&home, "--model model --scheme companded-f32 --prune 0.5");
        assert_eq!(criteria(&found)[0].0, "top-1 agreement", "{fixture}");
    }
}

#[test]
fn expected_ids_must_be_generated() {
    let home = Home::new("b_gqa/f32");
    let golden = &goldens("b_gqa/f32")[0];
    let prompt = |expected: &[u32]| {
        let line = json!({ "id": "pinned", "input_ids": golden.input_ids, "expected_ids": expected });
        home.write("prompts.jsonl", line.to_string());
        home.qins("validate --model model --prompts prompts.jsonl --max-new-tokens 12 --scheme companded-f32")
    };
    let bar = |name: &str| {
        let report = json_file(&home.path("report.json"));
        let all = report["candidates"].as_array().unwrap().clone();
        let candidate = all.iter().find(|c| c["name"] == name).unwrap().clone();
        criteria(&candidate).into_iter().find(|c| c.0 == "expected tokens").map(|c| (c.1.to_owned(), c.2))
    };
    let run = prompt(&golden.generated[..10]);
    assert_eq!((run.code, bar("companded-f32"), bar("baseline repeated (A/A)")), {
        let met = Some(("≥ 10".to_owned(), true));
        (Some(0), met.clone(), met)
    });
    assert_eq!(bar("one thread"), None);
    let mut wrong = golden.generated[..10].to_vec();
    wrong[9] ^= 1;
    assert_eq!((prompt(&wrong).code, bar("companded-f32")), (Some(1), Some(("≥ 10".to_owned(), false))));
}

#[test]
fn report_has_the_requested_settings() {
    let home = Home::new("b_gqa/f32");
    let settings = |arguments: &str| {
        let found = judged(&home, &format!("--model model {arguments}"));
        let fields = [
            "scheme",
            "targets",
            "alpha",
            "target",
            "overrides",
            "calibration",
            "effort",
            "entropy",
            "rate",
            "prune",
            "linears",
        ];
        let of = |field: &str| found.get(field).unwrap_or_else(|| panic!("{field}")).clone();
        (found["name"].clone(), fields.iter().map(|field| ((*field).to_owned(), of(field))).collect::<Value>())
    };
    let expect = |arguments: &str, name: &str, expected: Value| {
        let (found_name, found) = settings(arguments);
        assert_eq!((found_name, found), (json!(name), expected), "{arguments}");
    };
    let plain = json!({ "scheme": "q8", "targets": "safe", "alpha": null, "target": null, "overrides": [],
        "calibration": null, "effort": null, "entropy": false, "rate": null, "prune": null, "linears": { "q8": 15, "none": 8 } });
    let with = |changes: Value| {
        let mut all = plain.clone();
        all.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        all
    };
    expect("--scheme q8", "q8", plain.clone());
    expect("--scheme q8 --alpha 2 --entropy", "q8 α=2", with(json!({ "alpha": 2.0, "entropy": true })));
    expect(
        "--scheme rate",
        "rate 4",
        with(json!({ "scheme": "rate", "rate": 4.0, "linears": { "rate": 15, "none": 8 } })),
    );
    expect(
        "--scheme q4 --override v=rate --bits-per-weight 6.5 --override lm_head=none --prune 0.25 --targets full",
        "q4 6.5 pruned 0.25 with overrides",
        with(json!({
            "scheme": "q4", "targets": "full", "rate": 6.5, "prune": 0.25, "overrides": ["v=rate", "lm_head=none"],
            "linears": { "q4": 19, "rate": 3, "none": 1 },
        })),
    );
    let (name, found) = settings("--target bits=6.5 --targets v,down");
    assert_eq!(
        (&name, &found["scheme"], &found["target"]),
        (&json!("mixture bits=6.5"), &json!("mixture"), &json!("bits=6.5"))
    );
    let linears = found["linears"].as_object().unwrap();
    assert!(linears["none"] == 17 && linears.len() > 1 && !linears.contains_key("mixture"), "{found}");
}

#[test]
fn rate_mixture_and_calibration_are_judged() {
    let home = Home::new("e_tied/f32");
    let prompts = fs::read_to_string(repository("crates/qins/assets/atlas/prompts.jsonl")).unwrap();
    home.write("prompts.jsonl", prompts.lines().step_by(11).map(|line| format!("{line}\n")).collect::<String>());
    home.write("text.txt", &prompts);
    let found = judged(&home, "--scheme rate --bits-per-weight 8");
    assert!(found["passed"] == true && found["bits_per_weight"].as_f64().unwrap() < 8.1, "{}", found["criteria"]);
    let found = judged(&home, "--scheme rate --bits-per-weight 0.5");
    assert!(found["figures"]["teacher_forced"]["mean_kl"]["value"].as_f64().unwrap() > 0.1, "{}", found["figures"]);
    let found = judged(&home, "--target bits=4.5 --calibrate text.txt");
    assert!(found["bits_per_weight"].as_f64().unwrap() <= 4.5, "{}", found["bits_per_weight"]);
    assert_eq!((&found["calibration"], &found["name"]), (&json!("text.txt"), &json!("mixture bits=4.5 calibrated")));
    assert!(found["criteria"].as_array().unwrap().iter().any(|c| c["threshold"] == "≥ 0.85"), "{}", found["criteria"]);
}
