//! Settings against those that Transformers resolves.

use std::path::Path;

use super::*;
use crate::{ModelConfig, Rope, RopeRegime};

/// Cases that are rejected though Transformers computes something: two places that differ, of which it silently follows one, and
/// settings that it ignores.
const REJECTED: [(&str, &[&str]); 13] = [
    ("phi3: a base inside and outside", &["rope_theta", "500000 in rope_parameters", "1000000 beside it"]),
    ("phi3: a share inside and outside", &["partial_rotary_factor", "0.5 in rope_parameters", "0.75 beside it"]),
    ("phi3: default beside longrope", &["rope_scaling and rope_parameters", "rope_theta 10000 and 500000"]),
    ("phi3: longrope beside default", &["rope_scaling and rope_parameters", "`default` and `longrope`"]),
    ("phi3: a base only in the other", &["rope_scaling and rope_parameters", "rope_theta 10000 and 500000"]),
    ("phi3: type and rope_type differ", &["rope_scaling.rope_type and rope_scaling.type", "`default` and `longrope`"]),
    (
        "phi3: an original length inside and outside",
        &["original_max_position_embeddings", "64 in rope_parameters", "32 beside it"],
    ),
    (
        "phi3: an original length inside only",
        &["original_max_position_embeddings beside rope_parameters", "without it 4096", "found 64"],
    ),
    ("phi3: an unknown key", &["rope_parameters", "found short_mscale 1.1"]),
    ("phi3: a factor without a type", &["rope_scaling", "`default`", "found factor 8.0"]),
    ("llama: a share outside", &["partial_rotary_factor 1", "llama", "found 0.5"]),
    ("llama: longrope called su", &["expected a rope type of `default`", "found `su`"]),
    (
        "llama: an original length inside and outside",
        &["original_max_position_embeddings", "64 in rope_parameters", "32 beside it"],
    ),
];

/// Accepted though Transformers 5 raises: Phi-3's first configurations, as its own code reads them.
const ACCEPTED: &str = "phi3: longrope called su";

#[test]
fn settings_equal_those_of_transformers_or_name_both_places() {
    let cases = include_str!("../../../../../tests/fixtures/phi3/rope_settings.json");
    let cases: Vec<Value> = serde_json::from_str(cases).unwrap();
    let mut rejected = 0;
    for case in &cases {
        let name = case["name"].as_str().unwrap();
        let found = ModelConfig::parse(&case["config"], Path::new("config.json"));
        if let Some((_, messages)) = REJECTED.iter().find(|(rejected, _)| *rejected == name) {
            let error = found.expect_err(name).to_string();
            messages.iter().for_each(|message| assert!(error.contains(message), "{name}: {error}"));
            rejected += 1;
            continue;
        }
        let config = found.unwrap_or_else(|e| panic!("{name}: {e}"));
        let expected = &case["transformers"];
        if expected.is_null() {
            assert_eq!(name, ACCEPTED);
            continue;
        }
        let rope = Rope::new(&config.rope);
        assert_eq!(config.rope.theta, expected["rope_theta"].as_f64().unwrap(), "{name}");
        assert_eq!(config.rope.rotary_dim, expected["rotary_dim"].as_u64().unwrap() as usize, "{name}");
        assert_eq!(rope.scaling(), expected["attention_factor"].as_f64().unwrap() as f32, "{name}");
        let Some(original) = expected["original"].as_u64() else {
            assert_eq!(config.rope.scaling, RopeScaling::None, "{name}");
            continue;
        };
        let original = original as usize;
        assert_eq!(
            [original, original + 1].map(|len| rope.regime(len)),
            [RopeRegime::Short, RopeRegime::Long],
            "{name}"
        );
        for (regime, field) in [(RopeRegime::Short, "short"), (RopeRegime::Long, "long")] {
            let expected: Vec<f32> = serde_json::from_value(expected[field].clone()).unwrap();
            assert_eq!(expected.len(), rope.frequencies(regime).len(), "{name}");
            for (found, expected) in rope.frequencies(regime).iter().zip(expected) {
                assert!((found - expected).abs() <= 1e-6 * expected, "{name}: {found} {expected}");
            }
        }
    }
    assert_eq!((rejected, cases.len()), (REJECTED.len(), 36));
}

#[test]
fn frequencies_beyond_f32_are_rejected() {
    let cases = include_str!("../../../../../tests/fixtures/phi3/rope_settings.json");
    let cases: Vec<Value> = serde_json::from_str(cases).unwrap();
    let good = &cases.iter().find(|case| case["name"] == "phi3: a factor").unwrap()["config"];
    type Edit = fn(&mut Value);
    let cases: [(Edit, &[&str]); 8] = [
        (|c| c["rope_theta"] = 1e300.into(), &["rope_theta within f32", "found 1000"]),
        (|c| c["rope_theta"] = 1e-300.into(), &["rope_theta within f32", "found 0.000"]),
        (|c| c["rope_parameters"]["short_factor"][1] = 1e99.into(), &["short_factor", "found inf at index 1"]),
        (|c| c["rope_parameters"]["long_factor"][7] = 1e-44.into(), &["finite rotation frequencies", "found inf"]),
        (|c| c["rope_parameters"]["factor"] = (-1).into(), &["rope_parameters.factor", "found -1"]),
        (|c| c["rope_parameters"]["factor"] = "8".into(), &["rope_parameters.factor: expected a number", "\"8\""]),
        (|c| c["rope_parameters"]["attention_factor"] = 1e99.into(), &["attention_factor", "found 1000"]),
        (|c| c["original_max_position_embeddings"] = 1.into(), &["original_max_position_embeddings", "found 1"]),
    ];
    for (edit, messages) in cases {
        let mut config = good.clone();
        edit(&mut config);
        let error = ModelConfig::parse(&config, Path::new("config.json")).unwrap_err().to_string();
        messages.iter().for_each(|message| assert!(error.contains(message), "{message}: {error}"));
    }
}
