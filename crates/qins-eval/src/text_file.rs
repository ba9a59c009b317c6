//! Text files that a user names, and standard input.

use std::{
    fs,
    io::{self, Read},
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
};

use crate::Error;

/// Standard input can be read once.
static STDIN_IS_READ: AtomicBool = AtomicBool::new(false);

/// Whether [`read_text`] has read standard input, to its end.
pub fn stdin_is_read() -> bool {
    STDIN_IS_READ.load(Ordering::Relaxed)
}

/// Reads a file in UTF-8, `-` being standard input; returns its name in messages and its text.
///
/// # Errors
/// [`Error::Io`] when it cannot be read; [`Error::Input`] naming the line with bytes that are not UTF-8, or a byte order mark.
pub fn read_text(path: &Path) -> Result<(String, String), Error> {
    let (name, bytes) = if path == Path::new("-") {
        if STDIN_IS_READ.swap(true, Ordering::Relaxed) {
            return Err(Error::input("standard input", "expected one option `-` that reads it, found two"));
        }
        let mut bytes = Vec::new();
        ("standard input".to_owned(), io::stdin().lock().read_to_end(&mut bytes).map(|_| bytes))
    } else {
        (path.display().to_string(), fs::read(path))
    };
    let bytes = bytes.map_err(|source| Error::Io { path: name.clone().into(), source })?;
    let text = String::from_utf8(bytes).map_err(|e| not_utf8(&name, &e))?;
    if text.starts_with('\u{feff}') {
        let message = "expected UTF-8 without a byte order mark, found one (U+FEFF)";
        return Err(Error::input(format!("{name}:1"), message));
    }
    Ok((name, text))
}

fn not_utf8(name: &str, error: &std::string::FromUtf8Error) -> Error {
    let (bytes, start) = (error.as_bytes(), error.utf8_error().valid_up_to());
    let line = 1 + bytes[..start].iter().filter(|byte| **byte == b'\n').count();
    let found = bytes[start];
    Error::input(format!("{name}:{line}"), format!("expected UTF-8, found the byte 0x{found:02x}"))
}
