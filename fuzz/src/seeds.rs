//! Writes the seeds of every target into its corpus.

use std::{error::Error, fs};

use qins_fuzz::{SEED, block, config, corpus, describe, header, packed, prompts, template, tokenizer};

fn main() -> Result<(), Box<dyn Error>> {
    let targets = [
        ("header", header::seeds()),
        ("config", config::seeds()),
        ("packed", packed::seeds()),
        ("block", block::seeds()),
        ("describe", describe::seeds()),
        ("tokenizer", tokenizer::seeds()),
        ("template", template::seeds()),
        ("prompts", prompts::seeds()),
    ];
    for (target, seeds) in targets {
        let corpus = corpus(target);
        fs::create_dir_all(&corpus)?;
        for file in fs::read_dir(&corpus)? {
            let file = file?;
            if file.file_name().to_string_lossy().starts_with(SEED) {
                fs::remove_file(file.path())?;
            }
        }
        for (name, bytes) in seeds {
            fs::write(corpus.join(format!("{SEED}{name}")), bytes)?;
        }
    }
    Ok(())
}
