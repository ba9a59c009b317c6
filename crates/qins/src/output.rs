//! Output files.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Writes a file atomically: it appears complete or not at all.
pub(crate) fn write_whole(file: &Path, content: impl AsRef<[u8]>) -> std::io::Result<()> {
    let mut partial = file.as_os_str().to_owned();
    partial.push(".partial");
    let partial = PathBuf::from(partial);
    fs::write(&partial, content).and_then(|()| fs::rename(&partial, file)).inspect_err(|_| {
        // If removing the partial file fails too, the first error is the one to report.
        let _ = fs::remove_file(&partial);
    })
}

fn parent(file: &Path) -> &Path {
    file.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Checks that a file can be written to this path, before the work whose result it is for.
pub(crate) fn expect_writable(file: &Path) -> Result<(), String> {
    match (file.is_dir(), parent(file).is_dir()) {
        (true, _) => Err(format!("{}: expected a file to write to, found a directory", file.display())),
        (_, false) => Err(format!("{}: expected a directory to write into, found none", file.display())),
        _ => Ok(()),
    }
}
