//! Models stored in every scheme generate the same texts, and have the same size, as when encoded while loading.

use serde_json::Value;

use crate::{
    common::{Home, edit_tensors, ids},
    decode::unfuse,
};

const GENERATE: &str = "generate --prompts prompts.jsonl --max-new-tokens 16 --ignore-eos --json";

/// Schemes that `--entropy` applies to, and those that are always entropy-coded.
const FORMS: [&str; 8] =
    ["companded-f32", "q8g", "q8", "q6", "q5", "q4", "q3", "q4 --override q=q8 --override layers.1.*=q3"];
const CODED: [&str; 7] = [
    "lossless",
    "rate",
    "rate --bits-per-weight 0.5",
    "rate --bits-per-weight 2.5",
    "rate --bits-per-weight 16",
    "rate --bits-per-weight 6 --prune 0.3",
    "q5 --override v_proj=rate --override up=lossless --bits-per-weight 7",
];

/// Models with fused matrices and without, with a head of their own and without; the fused ones in several files too.
fn homes() -> Vec<(&'static str, Home)> {
    let apart = |fixture: &str, query_rows| {
        let home = Home::new(fixture);
        edit_tensors(&home.path("model/model.safetensors"), |tensors| unfuse(tensors, query_rows));
        home
    };
    vec![
        ("fused, untied", Home::new("b_gqa/bf16")),
        ("fused, tied", Home::new("g_phi4mini/f32")),
        ("unfused, untied", apart("a_mha/f32", 48)),
        ("unfused, tied", apart("e_tied/bf16", 32)),
    ]
}

/// The texts and summary of a variant, asserted to be the same loaded and stored.
#[track_caller]
fn generated(home: &Home, what: &str, form: &str) -> (Vec<Value>, Value) {
    let encode = format!("--scheme {form}").replace("layers.1.*", "model.layers.1.*");
    home.qins(&format!("convert --model model --out out {encode}")).done();
    let loaded = home.qins(&format!("{GENERATE} --model model {encode}")).lines();
    let stored = home.qins(&format!("{GENERATE} --model out")).lines();
    assert_eq!(loaded[..2], stored[..2], "{what}");
    for field in ["weight_bytes", "bits_per_weight"] {
        assert!(!stored[2][field].is_null() && loaded[2][field] == stored[2][field], "{what}: {field}");
    }
    std::fs::remove_dir_all(home.path("out")).unwrap();
    (loaded[..2].to_vec(), loaded[2].clone())
}

#[test]
fn stored_schemes_generate_as_when_encoded_while_loading() {
    for (model, home) in homes() {
        let plain = home.qins(&format!("{GENERATE} --model model")).lines();
        let mut others = 0;
        for form in CODED {
            for targets in ["safe", "full"] {
                let what = format!("{model}: {form} {targets}");
                let (answers, _) = generated(&home, &what, &format!("{form} --targets {targets}"));
                others += usize::from(answers[..] != plain[..2]);
                assert!(form != "lossless" || answers[..] == plain[..2], "{what}");
            }
        }
        // Half a bit per weight generates other texts: the comparison can fail.
        assert!(others >= 2, "{model}");
    }
}

#[test]
fn entropy_coding_changes_only_the_size() {
    for (model, home) in homes() {
        let mut sizes = 0;
        for form in FORMS {
            let what = format!("{model}: {form}");
            let (answers, summary) = generated(&home, &what, form);
            let (coded, coded_summary) = generated(&home, &what, &format!("{form} --entropy"));
            assert_eq!(answers, coded, "{what}");
            sizes += usize::from(summary["weight_bytes"] != coded_summary["weight_bytes"]);
        }
        assert_eq!(sizes, FORMS.len(), "{model}");
    }
}

/// On larger matrices the coder's tables are smaller than the bytes they save.
#[test]
fn entropy_coding_and_rate_have_the_expected_bits_per_weight() {
    let home = Home::new("e_tied/f32");
    let run = |encode: &str| {
        let lines = home
            .run(
                &[
                    &["generate", "--prompt", "The capital of France is", "--max-new-tokens", "8", "--json"],
                    &encode.split(' ').collect::<Vec<_>>()[..],
                ]
                .concat(),
            )
            .lines();
        (ids(&lines[0]["generated_ids"]), lines[1]["bits_per_weight"].as_f64().unwrap())
    };
    let (plain, bits) = run("--scheme q4");
    let (coded, fewer) = run("--scheme q4 --entropy");
    assert_eq!(plain, coded);
    assert!((4.375..4.6).contains(&bits) && fewer < bits - 0.05, "{bits} {fewer}");
    let (_, lossless) = run("--scheme lossless");
    assert!((9.0..12.0).contains(&lossless), "{lossless}");
    for requested in [1.5, 4.0, 8.0] {
        let (_, bits) = run(&format!("--scheme rate --bits-per-weight {requested}"));
        assert!((requested - 0.1..=requested + 0.03).contains(&bits), "{requested}: {bits}");
    }
}
