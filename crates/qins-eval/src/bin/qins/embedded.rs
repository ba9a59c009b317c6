//! The reference model that is part of the program.

use qins_quant::checkpoint::Files;

/// Where the embedded model's prompts are, among its files.
pub(crate) const PROMPTS: &str = "prompts.jsonl";

macro_rules! files {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_bytes!(concat!("../../../../../assets/atlas/", $name)))),*]
    };
}

/// The embedded model's files.
pub(crate) fn files() -> Files {
    Files::Embedded {
        name: "atlas (embedded)",
        files: files!(
            // Carries the notices of the data it was trained on.
            "README.md",
            "config.json",
            "generation_config.json",
            "model.safetensors",
            "prompts.jsonl",
            "tokenizer.json",
            "tokenizer_config.json",
        ),
    }
}
