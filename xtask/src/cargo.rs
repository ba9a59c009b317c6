//! Starting cargo.

use std::{
    env,
    path::PathBuf,
    process::{Command, ExitCode},
};

/// The result of a command: the exit code, or why it could not run.
pub(crate) type Outcome = Result<ExitCode, String>;

/// The workspace's root.
pub(crate) fn root() -> PathBuf {
    // As cargo says when it runs this program: builds in one target directory may be shared by several clones.
    let xtask = env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
    xtask.parent().map(PathBuf::from).unwrap_or(xtask)
}

/// The cargo that runs this program, with `--locked`.
pub(crate) fn cargo(command: &str) -> Command {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args([command, "--locked"]);
    cargo
}

/// As [`cargo`], running the program `qins`; the caller adds features and arguments.
pub(crate) fn qins() -> Command {
    let mut run = cargo("run");
    run.args(["--package", "qins"]).arg("--manifest-path").arg(root().join("Cargo.toml"));
    run
}

/// The directory that cargo builds in.
pub(crate) fn target() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), Into::into)
}

/// Whether a program was built before, so that cargo may be quiet.
pub(crate) fn is_built(program: &str) -> bool {
    target().join("debug").join(program).with_extension(env::consts::EXE_EXTENSION).exists()
}

/// Runs a command, and returns its exit code.
pub(crate) fn run(command: &mut Command) -> Outcome {
    code(command).map(ExitCode::from)
}

/// As [`run`], for those who read the code.
pub(crate) fn code(command: &mut Command) -> Result<u8, String> {
    let status = command.status().map_err(|e| format!("{}: {e}", command.get_program().to_string_lossy()))?;
    let code = status.code().ok_or_else(|| format!("{}: {status}", command.get_program().to_string_lossy()))?;
    Ok(u8::try_from(code).unwrap_or(2))
}

/// Runs a command that must succeed.
pub(crate) fn expect(command: &mut Command) -> Result<(), String> {
    match code(command)? {
        0 => Ok(()),
        code => Err(format!("{}: exit code {code}", command.get_program().to_string_lossy())),
    }
}

/// Runs a command in place of this process.
#[cfg(unix)]
pub(crate) fn replace(command: &mut Command) -> Outcome {
    use std::os::unix::process::CommandExt;

    let error = command.exec();
    Err(format!("{}: {error}", command.get_program().to_string_lossy()))
}

/// Runs a command; here no process replaces another.
#[cfg(not(unix))]
pub(crate) fn replace(command: &mut Command) -> Outcome {
    run(command)
}
