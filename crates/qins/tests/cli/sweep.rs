//! `qins sweep`: every scheme for every set of targets, and the sensitivity of every part.

use serde_json::Value;

use crate::common::{Home, json_file};

fn strings<'a>(all: &'a Value, field: &str) -> Vec<&'a str> {
    all.as_array().unwrap().iter().map(|one| one[field].as_str().unwrap()).collect()
}

#[test]
fn every_scheme_and_every_part_is_compared() {
    let home = Home::new("b_gqa/f32");
    let text = home
        .qins("sweep --model model --prompts prompts.jsonl --max-new-tokens 4 --schemes q8,q4 --targets safe --targets v,down --parts q3")
        .done();
    let report = json_file(&home.path("report.json"));
    let names = ["q8 safe", "q4 safe", "q8 v_proj,down_proj", "q4 v_proj,down_proj"];
    let candidates = strings(&report["candidates"], "name");
    assert_eq!(candidates[4..], names);
    for name in names {
        assert!(text.contains(&format!("  {name}  ")), "{text}");
    }
    let parts = strings(&report["sensitivity"], "part");
    let expected = [
        "block 0",
        "block 1",
        "block 2",
        "q_proj",
        "k_proj",
        "v_proj",
        "o_proj",
        "gate_proj",
        "up_proj",
        "down_proj",
        "embed_tokens",
        "lm_head",
        "v, o, gate, up, down",
        "these and q, k",
        "these and the embedding",
        "these and the head",
        "all",
    ];
    assert_eq!(parts, expected);
    assert!(strings(&report["sensitivity"], "scheme").iter().all(|scheme| *scheme == "q3"));
    // Every part diverges, all of them together the most, and blocks and roles have the same weights.
    let of = |part: &str, field: &str| {
        let all = report["sensitivity"].as_array().unwrap();
        all.iter().find(|one| one["part"] == part).unwrap()[field].clone()
    };
    let kl = |part: &str| of(part, "mean_kl")["value"].as_f64().unwrap();
    assert!(parts.iter().all(|part| kl(part) > 0.0) && kl("all") > 4.0 * kl("q_proj"), "{}", report["sensitivity"]);
    let weights = |parts: &[&str]| parts.iter().map(|part| of(part, "weights").as_u64().unwrap()).sum::<u64>();
    assert_eq!(weights(&expected[..3]), weights(&expected[3..10]));
    assert_eq!(weights(&["all"]), 35_040 - 7 * 32);
    let page = std::fs::read_to_string(home.path("report.html")).unwrap();
    assert!(page.contains("Sensitivity by block") && page.contains("Size against fidelity"));
}

#[test]
fn weights_are_restored_after_each_part() {
    let home = Home::new("b_gqa/f32");
    let common = "--model model --prompts prompts.jsonl --max-new-tokens 4";
    home.qins(&format!("sweep {common} --schemes q4 --targets all --parts q4")).done();
    let sweep = json_file(&home.path("report.json"));
    let run = home.qins(&format!("validate {common} --scheme q4 --targets all"));
    assert!(run.code.is_some_and(|code| code < 2), "{}", run.err);
    let validate = json_file(&home.path("report.json"));
    // Loaded encoded, or encoded in memory after all other parts were: the same.
    let alone = sweep["sensitivity"].as_array().unwrap().iter().find(|one| one["part"] == "these and q, k").unwrap();
    for report in [&sweep, &validate] {
        let forced = &report["candidates"][4]["figures"]["teacher_forced"];
        assert_eq!((&forced["mean_kl"], &forced["top1_agreement"]), (&alone["mean_kl"], &alone["top1_agreement"]));
    }
}
