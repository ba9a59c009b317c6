//! Measurements in other processes.

use std::{
    env,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use clap::Args;
use serde::de::DeserializeOwned;

/// The compute device.
#[derive(Debug, Args)]
pub(crate) struct Machine {
    /// Burn backend: flex, ndarray, wgpu, vulkan (wgpu that compiles to SPIR-V) or cuda; the program is built with it if needed
    #[arg(long, default_value = "flex", value_parser = ["flex", "ndarray", "wgpu", "vulkan", "cuda"])]
    backend: String,
    /// Number of threads [default: all cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
}

impl Machine {
    /// The number of threads.
    pub(crate) fn threads(&self) -> usize {
        let all = || std::thread::available_parallelism().map_or(1, usize::from);
        self.threads.map_or_else(all, usize::from)
    }
}

/// The program `qins` with arguments, built with the backend of the machine: another set of features would be another build.
pub(crate) fn qins(machine: &Machine, command: &str) -> Command {
    let mut run = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    run.args(["run", "--locked", "--quiet", "--package", "qins", "--manifest-path"]);
    run.arg(root().join("Cargo.toml"));
    // The default backend is in every build.
    if machine.backend != "flex" {
        run.args(["--features", &machine.backend]);
    }
    run.args(["--", command]);
    run
}

/// `qins bench --json`.
pub(crate) fn bench(machine: &Machine) -> Command {
    let backend = match &machine.backend[..] {
        "vulkan" => "wgpu",
        backend => backend,
    };
    let mut run = qins(machine, "bench");
    run.args(["--json", "--backend", backend]);
    if let Some(threads) = machine.threads {
        run.args(["--threads", &threads.to_string()]);
    }
    run
}

/// Checks that this Python can run llama.cpp; it prints what is missing.
pub(crate) fn expect_llama(python: &Path) -> Result<(), String> {
    output(Command::new(python).arg(root().join("benches/peers/llama.py")).arg("--help")).map(drop)
}

/// Runs a command and parses its JSON output; `name` is for messages.
pub(crate) fn json<T: DeserializeOwned>(command: &mut Command, name: &str) -> Result<T, String> {
    eprintln!("measuring {name}");
    let text = output(command)?;
    serde_json::from_str(&text).map_err(|e| format!("{name}: {e}: {text}"))
}

/// Runs a command and gives its standard output; its stderr is inherited.
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
    // As cargo says when it runs this program: builds in one target directory may be shared by several clones.
    let package = env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
    package.ancestors().nth(2).unwrap_or(Path::new(".")).to_owned()
}
