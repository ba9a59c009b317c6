//! `qins validate`: candidates, report files and exit codes.

use std::fs;

use serde_json::{Value, json};

use crate::common::{Home, Run, goldens, ids, json_file, repository};

fn validate(home: &Home, arguments: &str) -> (Run, Value) {
    let run = home.qins(&format!("validate {arguments}"));
    (run, json_file(&home.path("report.json")))
}

/// Some prompts of the embedded model.
fn few_prompts(home: &Home) {
    let prompts = fs::read_to_string(repository("crates/qins/assets/atlas/prompts.jsonl")).unwrap();
    home.write("prompts.jsonl", prompts.lines().step_by(9).map(|line| format!("{line}\n")).collect::<String>());
}

fn list(value: &Value) -> &[Value] {
    value.as_array().unwrap()
}

fn names(report: &Value) -> Vec<&str> {
    list(&report["candidates"]).iter().map(|c| c["name"].as_str().unwrap()).collect()
}

/// The row of a candidate in the table of this title.
fn row<'a>(text: &'a str, title: &str, name: &str) -> Option<&'a str> {
    let mut table = text.lines().skip_while(|line| *line != title).take_while(|line| !line.is_empty());
    table.find(|line| line.starts_with(&format!("  {name}  ")))
}

/// Asserts that the terminal text agrees with the report.
fn agree(text: &str, report: &Value) {
    let line = |start: &str| text.lines().find(|line| line.starts_with(start)).unwrap_or_else(|| panic!("{start}"));
    let verdict = if report["passed"] == true { "verdict    PASS" } else { "verdict    FAIL" };
    assert_eq!(line("verdict"), verdict);
    let (baseline, run) = (&report["baseline"], &report["run"]);
    let counts = format!("{} prompts, {} tokens, ", list(&baseline["texts"]).len(), baseline["generated_tokens"]);
    assert!(line("baseline").contains(&counts), "{text}");
    let model = format!("(xxh3 {})", report["model"]["xxh3"].as_str().unwrap());
    assert!(
        line("model").contains(report["model"]["name"].as_str().unwrap()) && line("model").ends_with(&model),
        "{text}"
    );
    assert!(line("prompts").contains(run["prompts"]["xxh3"].as_str().unwrap()), "{text}");
    assert!(line("machine").contains(&format!("{} threads", report["environment"]["threads"])), "{text}");
    let mut passed = true;
    for candidate in list(&report["candidates"]) {
        let name = candidate["name"].as_str().unwrap();
        let (role, criteria) = (candidate["role"].as_str().unwrap(), list(&candidate["criteria"]));
        let figures = &candidate["figures"];
        let overlap = row(text, "teacher-forced on the baseline's greedy texts, logits and Δp", name).unwrap();
        let share = figures["teacher_forced"]["top10_overlap"]["value"].as_f64().unwrap();
        assert!(overlap.contains(&format!(" {:.2} % [", 100.0 * share)), "{overlap}");
        let positions: u64 = list(&figures["teacher_forced"]["kl_histogram"]).iter().map(|n| n.as_u64().unwrap()).sum();
        assert_eq!(
            (json!(positions), &figures["teacher_forced"]["positions"]),
            (baseline["generated_tokens"].clone(), &json!(positions))
        );
        // A row per criterion of judged candidates and controls.
        let rows =
            text.lines().skip_while(|line| *line != "criteria").filter(|l| l.starts_with(&format!("  {name}  ")));
        let rows: Vec<&str> = rows.collect();
        assert_eq!(rows.len(), if role == "information" { 0 } else { criteria.len() }, "{name}: {text}");
        for (row, criterion) in rows.iter().zip(criteria) {
            let met = criterion["passed"] == true;
            assert!(row.contains(criterion["threshold"].as_str().unwrap()), "{row}");
            assert_eq!(row.trim_end().ends_with(" pass"), met, "{row}");
        }
        let met = criteria.iter().all(|c| c["passed"] == true);
        let expected = match role {
            "judged" => met,
            "control" => !met,
            _ => true,
        };
        assert_eq!(candidate["passed"], expected, "{name}");
        passed &= expected;
        let results = list(&candidate["prompts"]);
        assert_eq!(results.len(), list(&baseline["texts"]).len());
        let bits = candidate["bits_per_weight"].as_f64().map_or("–".to_owned(), |bits| format!("{bits:.2}"));
        let greedy = &figures["greedy"];
        if greedy.is_null() {
            assert!(matches!(name, "one thread" | "token by token"), "{name}");
            continue;
        }
        let sizes = text
            .lines()
            .skip_while(|line| !line.starts_with("weights as stored"))
            .find(|l| l.starts_with(&format!("  {name}  ")));
        assert!(sizes.is_some_and(|row| row.contains(&bits)) || name == "bf16 arithmetic", "{name}: {text}");
        let sum = |field: &str| results.iter().map(|r| r["greedy"][field].as_u64().unwrap()).sum::<u64>();
        assert_eq!((&json!(sum("match_length")), &json!(sum("tokens"))), {
            (&greedy["matching_tokens"], &greedy["generated_tokens"])
        });
        assert_eq!(greedy["generated_tokens"], baseline["generated_tokens"]);
        let exact =
            results.iter().filter(|r| r["greedy"]["divergence"].is_null()).count() as f64 / results.len() as f64;
        assert_eq!(greedy["exact_match_rate"]["value"], exact, "{name}");
    }
    assert_eq!(report["passed"], passed);
}

/// The candidates of every run: four controls with plain weights; the judged ones; two encoded controls.
fn with_controls<'a>(judged: &[&'a str]) -> Vec<&'a str> {
    [&["baseline repeated (A/A)", "one thread", "token by token", "bf16 arithmetic"], judged, &["q8 α=1", "q8 α=0.01"]]
        .concat()
}

#[test]
fn embedded_model_passes() {
    let home = Home::new("e_tied/f32");
    let (run, report) = validate(&home, "");
    assert_eq!(run.code, Some(0), "{}{}", run.out, run.err);
    assert_eq!(names(&report), with_controls(&["companded-f32", "q8"]));
    let prompts = fs::read_to_string(repository("crates/qins/assets/atlas/prompts.jsonl")).unwrap();
    assert_eq!(list(&report["baseline"]["texts"]).len(), prompts.lines().count());
    assert!(run.out.ends_with("report     report.html, report.json, report.md\n"), "{}", run.out);
    let page = fs::read_to_string(home.path("report.html")).unwrap();
    assert!(page.contains(report["model"]["xxh3"].as_str().unwrap()) && page.matches("<svg").count() > 4);
    let summary = fs::read_to_string(home.path("report.md")).unwrap();
    assert!(summary.contains("| q8 |") && summary.contains("PASS"), "{summary}");
    agree(&run.out, &report);
    // The A/A control agrees exactly in every metric, the collapsed one in none.
    let figures = |name: &str| {
        let candidates = list(&report["candidates"]);
        candidates.iter().find(|c| c["name"] == name).unwrap()["figures"].clone()
    };
    let (same, collapsed) = (figures("baseline repeated (A/A)"), figures("q8 α=0.01"));
    for part in ["teacher_forced", "text"] {
        let (same, collapsed) = (&same[part], &collapsed[part]);
        for (figure, ideal) in [
            ("top1_agreement", 1.0),
            ("coupled_agreement", 1.0),
            ("top10_overlap", 1.0),
            ("cosine", 1.0),
            ("mean_kl", 0.0),
            ("probability_change", 0.0),
            ("ln_perplexity_ratio", 0.0),
        ] {
            assert_eq!(same[figure], json!({ "value": ideal, "low": ideal, "high": ideal }), "{part}, {figure}");
            let away = collapsed[figure]["value"].as_f64().unwrap() - ideal;
            assert!(away.abs() > 0.1, "{part}, {figure}: {}", collapsed[figure]);
        }
        assert_eq!(same["rms_probability_change"], 0.0);
        assert_eq!(same["perplexity"], same["baseline_perplexity"]);
        assert_eq!((&same["kl_histogram"][0], &collapsed["kl_histogram"][0]), (&same["positions"], &json!(0)));
    }
    assert_eq!(same["greedy"]["survival"], json!([]));
    let survival = &collapsed["greedy"]["survival"];
    assert!(survival[0]["share"].as_f64().unwrap() < 0.1, "{survival}");
    // One thread gives the same bits; decode order agrees up to rounding; bf16 does not.
    let mean_kl = |name: &str| figures(name)["teacher_forced"]["mean_kl"]["value"].as_f64().unwrap();
    assert_eq!(mean_kl("one thread"), 0.0);
    assert!(mean_kl("token by token") < 1e-9 && mean_kl("bf16 arithmetic") > 1e-5);
    // The baseline generates what Transformers does.
    let goldens = json_file(&repository("crates/qins/assets/atlas/goldens.json"));
    let runs = list(&report["baseline"]["texts"]);
    for golden in list(&goldens["goldens"]) {
        let found = runs.iter().find(|run| run["id"] == golden["id"]).unwrap();
        assert_eq!(found["generated_ids"], golden["generated_ids"], "{}", golden["id"]);
    }
}

#[test]
fn collapsed_codes_fail_the_run() {
    let home = Home::new("e_tied/f32");
    few_prompts(&home);
    let common = "--prompts prompts.jsonl --max-new-tokens 8";
    for (arguments, code, judged) in [
        ("--scheme none", 0, &[][..]),
        ("--scheme companded-f32", 0, &["companded-f32"]),
        // The old name is an alias.
        ("--scheme f32", 0, &["companded-f32"]),
        ("--scheme q6,lossless", 0, &["q6", "lossless"]),
        ("--scheme q8 --alpha 0.01", 1, &["q8 α=0.01"]),
    ] {
        let (run, report) = validate(&home, &format!("{common} {arguments}"));
        assert_eq!((run.code, &run.err[..]), (Some(code), ""), "{arguments}: {}", run.out);
        assert_eq!((names(&report), &report["passed"]), (with_controls(judged), &json!(code == 0)), "{arguments}");
    }
}

/// A report without timings and memory, which differ between runs.
fn timeless(mut report: Value) -> Value {
    let peak = report["environment"].as_object_mut().unwrap().remove("peak_rss_bytes").unwrap();
    assert!(peak.as_u64() > Some(0) || !cfg!(target_os = "linux"));
    let remove_speed = |part: &mut Value| {
        let speed = part.as_object_mut().unwrap().remove("tokens_per_second").unwrap();
        let wrote = part["figures"].is_null() || !part["figures"]["greedy"].is_null();
        assert_eq!(wrote, speed.as_f64() > Some(0.0), "{speed}");
    };
    remove_speed(&mut report["baseline"]);
    report["candidates"].as_array_mut().unwrap().iter_mut().for_each(remove_speed);
    report
}

#[test]
fn report_is_deterministic_printed_or_written() {
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
fn report_lists_what_was_compared() {
    let home = Home::new("b_gqa/f32");
    let (run, report) = validate(&home, "--model model --prompts prompts.jsonl --max-new-tokens 5 --targets full");
    assert!(run.code == Some(0) || run.code == Some(1), "{}", run.err);
    agree(&run.out, &report);
    let model = &report["model"];
    assert_eq!((&model["name"], &model["model_type"]), (&json!("model"), &json!("phi3")));
    assert_eq!((&model["parameters"], &model["weight_bytes"]), (&json!(35_040), &json!(140_160)));
    let run = &report["run"];
    assert_eq!((&run["preset"], &run["temperature"], &run["seed"]), (&json!("standard"), &json!(1.0), &json!(0)));
    // Without a tokenizer there is no text to predict.
    assert_eq!((&run["prompts"]["count"], &run["text"]), (&json!(2), &Value::Null));
    for (run, (golden, id)) in
        list(&report["baseline"]["texts"]).iter().zip(goldens("b_gqa/f32").iter().zip(["a", "b"]))
    {
        assert_eq!((ids(&run["generated_ids"]), &run["id"]), (golden.generated[..5].to_vec(), &json!(id)));
    }
    for candidate in list(&report["candidates"]) {
        let plain = candidate["scheme"] == "none";
        let (targets, encoded) = if plain { (&json!(""), 0) } else { (&json!("full"), 35_040 - 7 * 32) };
        assert_eq!((&candidate["targets"], &candidate["encoded_weights"]), (targets, &json!(encoded)));
    }
    let alphas: Vec<Option<f64>> = list(&report["candidates"]).iter().map(|c| c["alpha"].as_f64()).collect();
    assert_eq!(alphas[..7], [None, None, None, None, None, None, Some(1.0)]);
    assert!((alphas[7].unwrap() - 0.01).abs() < 1e-6);
    // Every encoded linear has an error: 35 to 50 dB for codes.
    let layers = |name: &str| {
        let candidate = list(&report["candidates"]).iter().find(|c| c["name"] == name).unwrap();
        list(&candidate["layers"]).to_vec()
    };
    assert_eq!(
        (layers("baseline repeated (A/A)").len(), layers("companded-f32").len(), layers("q8").len()),
        (0, 23, 23)
    );
    for layer in layers("q8") {
        let db = layer["sqnr_db"].as_f64().unwrap();
        assert!((35.0..60.0).contains(&db) && layer["cosine"].as_f64() > Some(0.999), "{layer}");
    }
}
