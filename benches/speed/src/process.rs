//! Measurements by other processes.

use std::{
    env,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde::de::DeserializeOwned;

/// `qins bench --json`.
pub(crate) fn bench() -> Command {
    let mut run = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    run.args(["run", "--locked", "--quiet", "--package", "qins-eval", "--bin", "qins", "--manifest-path"]);
    run.arg(root().join("Cargo.toml")).args(["--", "bench", "--json"]);
    run
}

/// What a command measured; `name` is for messages.
pub(crate) fn json<T: DeserializeOwned>(command: &mut Command, name: &str) -> Result<T, String> {
    eprintln!("measuring {name}");
    let text = output(command)?;
    serde_json::from_str(&text).map_err(|e| format!("{name}: {e}: {text}"))
}

/// What a command prints; its errors go where ours go.
pub(crate) fn output(command: &mut Command) -> Result<String, String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.stderr(Stdio::inherit()).output().map_err(|e| format!("{name}: {e}"))?;
    if !output.status.success() {
        return Err(format!("{name}: {}", output.status));
    }
    String::from_utf8(output.stdout).map_err(|e| format!("{name}: {e}"))
}

/// The workspace's root.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap_or(Path::new(".")).to_owned()
}
