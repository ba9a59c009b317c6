//! The reference model embedded in the program, and its prompts.

use qins_quant::checkpoint::Files;

/// The embedded model's own prompts: a name, and the content of a prompts file.
#[cfg(feature = "burn")]
pub(crate) const ATLAS_PROMPTS: (&str, &str) =
    ("the embedded model's prompts", include_str!("../assets/atlas/prompts.jsonl"));

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
