//! The reference model embedded in the program, and its prompts.

use qins_quant::checkpoint::Files;

/// The embedded model's own prompts: a name, and the content of a prompts file.
#[cfg(feature = "burn")]
pub(crate) const ATLAS_PROMPTS: (&str, &str) =
    ("the embedded model's prompts", include_str!("../assets/atlas/prompts.jsonl"));

/// Prompts of the same kinds, which no evaluation uses: the model continues them to calibrate on its own words.
#[cfg(feature = "burn")]
pub(crate) const ATLAS_CALIBRATION: (&str, &str) =
    ("the embedded model's calibration prompts", include_str!("../assets/atlas/calibration.jsonl"));

macro_rules! files {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_bytes!(concat!("../assets/atlas/", $name)))),*]
    };
}

/// The embedded model's files.
pub(crate) fn files() -> Files {
    Files::Embedded {
        name: "atlas (embedded)",
        files: files!(
            // Has the licence notices of the training data.
            "README.md",
            "config.json",
            "generation_config.json",
            "model.safetensors",
            "tokenizer.json",
            "tokenizer_config.json",
        ),
    }
}

#[cfg(all(test, feature = "burn"))]
#[test]
fn calibration_prompts_are_no_prompts_of_evaluations() {
    let prompts = |text: &str| -> Vec<String> {
        let prompt = |line: &str| {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            let last = line["messages"].as_array().and_then(|turns| turns.last()).map(|turn| turn["content"].clone());
            last.as_ref().unwrap_or(&line["prompt"]).as_str().unwrap().to_owned()
        };
        text.lines().map(prompt).collect()
    };
    let (evaluated, own) = (prompts(ATLAS_PROMPTS.1), prompts(ATLAS_CALIBRATION.1));
    assert!(evaluated.len() > 40 && own.len() > 40);
    for prompt in own {
        assert!(!evaluated.iter().any(|other| other.contains(&prompt) || prompt.contains(other)), "{prompt}");
    }
}
