//! The reference model that is part of the program, and what models are asked.

use qins_quant::checkpoint::Files;

/// The embedded model's own prompts: a name for them, and the file.
pub(crate) const ATLAS_PROMPTS: (&str, &str) =
    ("the embedded model's prompts", include_str!("../../../../../assets/atlas/prompts.jsonl"));

/// Prompts for any model.
pub(crate) const PROMPTS: (&str, &str) =
    ("the standard prompts", include_str!("../../../../../assets/standard/prompts.jsonl"));

/// The pinned text.
pub(crate) const TEXT: (&str, &str) = ("the standard text", include_str!("../../../../../assets/standard/text.txt"));

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
            "tokenizer.json",
            "tokenizer_config.json",
        ),
    }
}
