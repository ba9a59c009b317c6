//! `qins validate`: what it judges, what it writes down, and how it exits.

use std::fs;

use serde_json::{Value, json};

use crate::common::{Home, Run, goldens, ids, json_file, repository};

fn validate(home: &Home, arguments: &str) -> (Run, Value) {
    let run = home.qins(&format!("validate {arguments}"));
    (run, json_file(&home.path("report.json")))
}

/// Some prompts of the embedded model.
fn few_prompts(home: &Home) {
    let prompts = fs::read_to_string(repository("assets/atlas/prompts.jsonl")).unwrap();
    home.write("prompts.jsonl", &prompts.lines().step_by(9).map(|line| format!("{line}\n")).collect::<String>());
}

fn list(value: &Value) -> &[Value] {
    value.as_array().unwrap()
}

fn names(report: &Value) -> Vec<&str> {
    list(&report["candidates"]).iter().map(|c| c["name"].as_str().unwrap()).collect()
}

/// The text and the report tell the same.
fn agree(text: &str, report: &Value) {
    let line = |start: &str| text.lines().find(|line| line.starts_with(start)).unwrap_or_else(|| panic!("{start}"));
    let verdict = if report["passed"] == true { "verdict    PASS" } else { "verdict    FAIL" };
    assert_eq!(line("verdict"), verdict);
    let baseline = &report["baseline"];
    let counts = format!("{} prompts, {} tokens, ", list(&baseline["texts"]).len(), baseline["generated_tokens"]);
    assert!(line("baseline").contains(&counts), "{text}");
    assert!(line("model").contains(report["model"]["name"].as_str().unwrap()), "{text}");
    assert!(line("machine").contains(&format!("{} threads", report["environment"]["threads"])), "{text}");
    let mut passed = true;
    for candidate in list(&report["candidates"]) {
        let name = candidate["name"].as_str().unwrap();
        let rows: Vec<&str> = text.lines().filter(|row| row.starts_with(&format!("  {name:<16} "))).collect();
        let (role, criteria) = (candidate["role"].as_str().unwrap(), list(&candidate["criteria"]));
        // Two rows of figures, and one a criterion where those decide.
        assert_eq!(rows.len(), 2 + if role == "information" { 0 } else { criteria.len() }, "{name}: {text}");
        let bits = candidate["bits_per_weight"].as_f64().map_or("–".to_owned(), |bits| format!("{bits:.2}"));
        assert!(rows[0].contains(&bits), "{}", rows[0]);
        let overlap = candidate["figures"]["top10_overlap"]["value"].as_f64().unwrap();
        assert!(rows[1].contains(&format!(" {:.2} % [", 100.0 * overlap)), "{}", rows[1]);
        for (row, criterion) in rows[2..].iter().zip(criteria) {
            let met = criterion["met"] == true;
            assert!(row.contains(criterion["bar"].as_str().unwrap()), "{row}");
            assert_eq!(row.trim_end().ends_with(" met"), met, "{row}");
        }
        let met = criteria.iter().all(|c| c["met"] == true);
        let expected = match role {
            "judged" => met,
            "control" => !met,
            _ => true,
        };
        assert_eq!(candidate["passed"], expected, "{name}");
        passed &= expected;
        let results = list(&candidate["prompts"]);
        assert_eq!(results.len(), list(&baseline["texts"]).len());
        let sum = |field: &str| results.iter().map(|r| r[field].as_u64().unwrap()).sum::<u64>();
        let figures = &candidate["figures"];
        assert_eq!((&json!(sum("match_length")), &json!(sum("tokens"))), {
            (&figures["matching_tokens"], &figures["generated_tokens"])
        });
        assert_eq!(figures["generated_tokens"], baseline["generated_tokens"]);
        let exact = results.iter().filter(|r| r["divergence"].is_null()).count() as f64 / results.len() as f64;
        assert_eq!(figures["exact_match"]["value"], exact, "{name}");
    }
    assert_eq!(report["passed"], passed);
}

#[test]
fn the_embedded_model_passes() {
    let home = Home::new("e_tied/f32");
    let (run, report) = validate(&home, "");
    assert_eq!(run.code, Some(0), "{}{}", run.out, run.err);
    assert_eq!(names(&report), ["plain again", "f32", "q8", "q8 α=1", "q8 α=0.01"]);
    let prompts = fs::read_to_string(repository("assets/atlas/prompts.jsonl")).unwrap();
    assert_eq!(list(&report["baseline"]["texts"]).len(), prompts.lines().count());
    assert!(run.out.ends_with("report     report.json\n"), "{}", run.out);
    agree(&run.out, &report);
    // The plain model against itself: exactly, in every figure. A collapsed one: in none.
    let figures = |name: &str| {
        let candidates = list(&report["candidates"]);
        candidates.iter().find(|c| c["name"] == name).unwrap()["figures"].clone()
    };
    let (same, collapsed) = (figures("plain again"), figures("q8 α=0.01"));
    for (figure, ideal) in [
        ("same_top_rate", 1.0),
        ("top10_overlap", 1.0),
        ("cosine", 1.0),
        ("mean_kl", 0.0),
        ("probability_change", 0.0),
        ("ln_perplexity_ratio", 0.0),
    ] {
        assert_eq!(same[figure], json!({ "value": ideal, "low": ideal, "high": ideal }), "{figure}");
        assert!((collapsed[figure]["value"].as_f64().unwrap() - ideal).abs() > 0.1, "{figure}: {}", collapsed[figure]);
    }
    assert_eq!((&same["survival"], &same["rms_probability_change"]), (&json!([]), &json!(0.0)));
    assert!(collapsed["survival"][0]["share"].as_f64().unwrap() < 0.1, "{}", collapsed["survival"]);
    // The baseline says what Transformers says.
    let goldens = json_file(&repository("assets/atlas/goldens.json"));
    let runs = list(&report["baseline"]["texts"]);
    for golden in list(&goldens["goldens"]) {
        let found = runs.iter().find(|run| run["id"] == golden["id"]).unwrap();
        assert_eq!(found["generated_ids"], golden["generated_ids"], "{}", golden["id"]);
    }
}

#[test]
fn one_form_may_be_asked_for_and_a_collapsed_one_fails() {
    let home = Home::new("e_tied/f32");
    few_prompts(&home);
    let common = "--prompts prompts.jsonl --max-new-tokens 8";
    for (arguments, code, names_expected) in [
        ("--scheme none", 0, &["plain again", "q8 α=1", "q8 α=0.01"][..]),
        ("--scheme f32", 0, &["plain again", "f32", "q8 α=1", "q8 α=0.01"]),
        ("--scheme q8 --alpha 0.01", 1, &["plain again", "q8 α=0.01", "q8 α=1", "q8 α=0.01"]),
    ] {
        let (run, report) = validate(&home, &format!("{common} {arguments}"));
        assert_eq!((run.code, &run.err[..]), (Some(code), ""), "{arguments}: {}", run.out);
        assert_eq!((names(&report), &report["passed"]), (names_expected.to_vec(), &json!(code == 0)), "{arguments}");
    }
}

/// A report without what no two runs share.
fn timeless(mut report: Value) -> Value {
    let peak = report["environment"].as_object_mut().unwrap().remove("peak_rss_bytes").unwrap();
    assert!(peak.as_u64() > Some(0) || !cfg!(target_os = "linux"));
    let remove_speed = |part: &mut Value| {
        let speed = part.as_object_mut().unwrap().remove("tokens_per_second").unwrap();
        assert!(speed.as_f64() > Some(0.0));
    };
    remove_speed(&mut report["baseline"]);
    report["candidates"].as_array_mut().unwrap().iter_mut().for_each(remove_speed);
    report
}

#[test]
fn a_report_is_the_same_each_time_printed_or_written() {
    let home = Home::new("b_gqa/f32");
    let common = "--model model --prompts prompts.jsonl --max-new-tokens 24";
    let (first, written) = validate(&home, common);
    agree(&first.out, &written);
    let (second, again) = validate(&home, &format!("{common} --json"));
    assert_eq!(serde_json::from_str::<Value>(&second.out).unwrap(), again);
    assert_eq!(second.out.trim_end(), fs::read_to_string(home.path("report.json")).unwrap().trim_end());
    assert_eq!(first.code, second.code);
    assert_eq!(timeless(written), timeless(again.clone()));
    // Elsewhere, and with other threads: the same figures.
    let run = home.qins(&format!("validate {common} --json --threads 1 --report other.json"));
    let mut other: Value = serde_json::from_str(&run.out).unwrap();
    assert_eq!(other["environment"]["threads"], 1);
    assert_eq!(other, json_file(&home.path("other.json")));
    other["environment"]["threads"] = again["environment"]["threads"].clone();
    assert_eq!(timeless(other), timeless(again));
}

#[test]
fn the_report_says_what_was_compared() {
    let home = Home::new("b_gqa/f32");
    let (run, report) = validate(&home, "--model model --prompts prompts.jsonl --max-new-tokens 5 --targets full");
    assert!(run.code == Some(0) || run.code == Some(1), "{}", run.err);
    agree(&run.out, &report);
    assert_eq!(
        report["model"],
        json!({ "name": "model", "model_type": "phi3", "parameters": 35_040, "weight_bytes": 140_160 })
    );
    for (run, (golden, id)) in
        list(&report["baseline"]["texts"]).iter().zip(goldens("b_gqa/f32").iter().zip(["a", "b"]))
    {
        assert_eq!((ids(&run["generated_ids"]), &run["id"]), (golden.generated[..5].to_vec(), &json!(id)));
    }
    for candidate in list(&report["candidates"]) {
        let encoded = if candidate["scheme"] == "none" { 0 } else { 35_040 - 7 * 32 };
        assert_eq!((&candidate["targets"], &candidate["encoded_weights"]), (&json!("full"), &json!(encoded)));
    }
    let alphas: Vec<Option<f64>> = list(&report["candidates"]).iter().map(|c| c["alpha"].as_f64()).collect();
    assert_eq!(alphas[..4], [None, None, None, Some(1.0)]);
    assert!((alphas[4].unwrap() - 0.01).abs() < 1e-6);
}
