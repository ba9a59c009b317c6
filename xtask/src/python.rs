//! `cargo xtask test --python`: the tests of the Python package.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::cargo::{self, Outcome, expect};

/// Builds the package as a wheel, installs it in a virtual environment of its own with what `extra` needs, and runs its tests; those
/// of what is not installed are skipped.
pub(crate) fn test(extra: &str, arguments: &[String]) -> Outcome {
    let (home, package) = (cargo::target().join("python"), cargo::root().join("python"));
    let (programs, wheels) = (home.join(if cfg!(windows) { "Scripts" } else { "bin" }), home.join("wheels"));
    let python = || Command::new(programs.join("python"));
    let pip = |options: &[&str], what: &[&str]| {
        let mut pip = python();
        pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]).args(options).args(what);
        pip
    };
    // From earlier runs: there is to be one.
    let _ = fs::remove_dir_all(&wheels);
    expect(Command::new("python3").args(["-m", "venv"]).arg(&home))?;
    expect(&mut pip(&[], &["maturin>=1.9,<2"]))?;
    // The profile of all tests, which shares what they built.
    let mut build = python();
    build.args(["-m", "maturin", "build", "--profile", "dev", "--out"]).arg(&wheels).current_dir(&package);
    expect(build.env("CARGO_TARGET_DIR", cargo::target()))?;
    let wheel = only_file(&wheels)?.display().to_string();
    expect(&mut pip(&[], &[&format!("{wheel}[{extra},test]")]))?;
    expect(&mut pip(&["--force-reinstall", "--no-deps"], &[&wheel]))?;
    let mut tests = python();
    // Small products: threads would wait for each other longer than they multiply.
    tests
        .args(["-m", "pytest", "-p", "no:cacheprovider"])
        .args(arguments)
        .current_dir(&package)
        .env("OMP_NUM_THREADS", "1");
    cargo::run(&mut tests)
}

fn only_file(dir: &Path) -> Result<PathBuf, String> {
    let fault = |found: String| format!("{}: expected one wheel, found {found}", dir.display());
    let mut entries = fs::read_dir(dir).map_err(|e| fault(e.to_string()))?.flatten().map(|entry| entry.path());
    match (entries.next(), entries.next()) {
        (Some(wheel), None) => Ok(wheel),
        (first, _) => Err(fault(first.map_or("none", |_| "several").to_owned())),
    }
}
