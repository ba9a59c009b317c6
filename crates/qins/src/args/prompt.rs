//! Texts of `--prompt` and `--prompt-file`.

use std::path::Path;

use qins_eval::{Error, read_text};

/// The text of `--prompt`; `-` is standard input.
pub(crate) fn prompt_text(prompt: String) -> Result<String, Error> {
    if prompt == "-" { prompt_file(Path::new("-")) } else { Ok(prompt) }
}

/// The text of a file, `-` being standard input. The line break that editors and `echo` write at its end is not part of it.
pub(crate) fn prompt_file(file: &Path) -> Result<String, Error> {
    let (_, mut text) = read_text(file)?;
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    Ok(text)
}
