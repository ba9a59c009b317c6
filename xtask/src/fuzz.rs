//! `cargo xtask fuzz`: coverage-guided fuzzing of every reader of files.
//!
//! The targets are the binaries of the package `fuzz`, which is not a member of the workspace: everything it links is compiled
//! with the flags that `cargo fuzz` would set, by the installed toolchain.

use std::{
    env, fs,
    path::PathBuf,
    process::{Command, ExitCode, Stdio},
};

use clap::{Args, ValueEnum};

use crate::cargo::{self, Outcome};

/// Coverage as libFuzzer reads it: a counter for each branch, and what comparisons compare.
const COVERAGE: &str = "--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Cllvm-args=-simplifycfg-branch-fold-threshold=0";

/// The host whose toolchain includes AddressSanitizer. A stable compiler accepts its flag only with `RUSTC_BOOTSTRAP`.
const WITH_ASAN: &str = "x86_64-unknown-linux-gnu";

/// Limits: bytes of an input, seconds per input, and MiB of the process.
const LIMITS: [&str; 3] = ["-max_len=8192", "-timeout=10", "-rss_limit_mb=2048"];

/// The end of `--help`.
const HELP: &str = "Every target begins with the inputs in fuzz/corpus and with those that earlier runs kept beside the \
    build, and alters them, led by the code they reach. An input that crashes is kept in fuzz/artifacts, and the command \
    is printed that runs it again; the exit code is 1 then. `control` has a planted fault: it fails when nothing is found. \
    Needs a C++ compiler.

After a change of the format the seeds are to be written anew:
    cargo run --manifest-path fuzz/Cargo.toml --bin seeds

A crash that is mended leaves its input in fuzz/corpus, and a test in the crate of the reader.";

/// Feed hostile bytes to the readers of files.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct Fuzz {
    /// What to fuzz [default: all of them, one after another]
    #[arg(value_enum)]
    targets: Vec<Target>,
    /// Seconds for each target
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..))]
    seconds: u32,
    /// Run one input of one target once instead
    #[arg(long, value_name = "FILE", conflicts_with = "seconds")]
    replay: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Target {
    /// A control with a planted fault, which must be found
    Control,
    /// A shard: its header, its checksums, its tensors
    Header,
    /// A config.json, beside a good shard
    Config,
    /// The parts of a matrix of any scheme
    Packed,
    /// An entropy-coded part
    Block,
    /// A config.json with the description of a model
    Describe,
    /// A tokenizer.json
    Tokenizer,
    /// A tokenizer_config.json with a chat template
    Template,
    /// A prompts file
    Prompts,
}

impl Target {
    fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }
}

/// The build, and where it is.
struct Built {
    target_dir: PathBuf,
    host: String,
}

impl Fuzz {
    pub(crate) fn run(&self) -> Outcome {
        let targets = if self.targets.is_empty() { Target::value_variants() } else { &self.targets };
        if let (Some(input), [target]) = (&self.replay, targets) {
            return cargo::run(build(targets)?.program(*target).arg(input));
        }
        if self.replay.is_some() {
            return Err(
                "--replay: expected the one target that the input is for, as in `fuzz block --replay FILE`".into()
            );
        }
        let built = build(targets)?;
        let mut failed = false;
        for target in targets {
            failed |= !built.fuzz(*target, self.seconds)?;
        }
        Ok(ExitCode::from(u8::from(failed)))
    }
}

/// Builds the programs of `targets`.
fn build(targets: &[Target]) -> Result<Built, String> {
    let rustc = Command::new("rustc").arg("-vV").output().map_err(|e| format!("rustc: {e}"))?;
    let version = String::from_utf8_lossy(&rustc.stdout);
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).ok_or("rustc -vV: expected a host")?;
    let target_dir =
        env::var_os("CARGO_TARGET_DIR").map_or_else(|| cargo::root().join("target"), PathBuf::from).join("fuzz");
    let mut build = cargo::cargo("build");
    // With a target named, the flags are not for build scripts and macros.
    build.args(["--quiet", "--target", host]).arg("--target-dir").arg(&target_dir);
    build.arg("--manifest-path").arg(cargo::root().join("fuzz/Cargo.toml"));
    for target in targets {
        build.args(["--bin", &target.name()]);
    }
    if host == WITH_ASAN {
        build.env("RUSTC_BOOTSTRAP", "1").env("RUSTFLAGS", format!("{COVERAGE} -Zsanitizer=address"));
    } else {
        eprintln!("fuzz: without AddressSanitizer, which {host} lacks: reads out of bounds go unseen");
        build.env("RUSTFLAGS", COVERAGE);
    }
    eprintln!("building the targets, unless they were built before: 2 to 5 minutes on 2 cores");
    match build.status() {
        Ok(status) if status.success() => Ok(Built { target_dir, host: host.to_owned() }),
        Ok(_) => Err("the targets do not build".into()),
        Err(e) => Err(format!("cargo build: {e}")),
    }
}

impl Built {
    fn program(&self, target: Target) -> Command {
        let program = self.target_dir.join(&self.host).join("debug").join(target.name());
        let mut command = Command::new(program.with_extension(env::consts::EXE_EXTENSION));
        command.args(LIMITS).env("RUST_BACKTRACE", "1");
        command
    }

    /// Fuzzes a target, and prints the result; returns whether it is as expected.
    fn fuzz(&self, target: Target, seconds: u32) -> Result<bool, String> {
        let name = target.name();
        let fuzz_dir = cargo::root().join("fuzz");
        // The control starts without inputs, and keeps none.
        let (corpus, artifacts) = match target {
            Target::Control => (Vec::new(), self.target_dir.join("control")),
            // New inputs are kept in the first folder.
            _ => (
                vec![self.target_dir.join("corpus").join(&name), fuzz_dir.join("corpus").join(&name)],
                fuzz_dir.join("artifacts").join(&name),
            ),
        };
        for folder in corpus.iter().chain([&artifacts]) {
            fs::create_dir_all(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
        }
        let log = self.target_dir.join(format!("{name}.log"));
        let file = fs::File::create(&log).map_err(|e| format!("{}: {e}", log.display()))?;
        let mut fuzz = self.program(target);
        fuzz.args([format!("-max_total_time={seconds}"), format!("-artifact_prefix={}/", artifacts.display())]);
        fuzz.arg("-print_final_stats=1").args(corpus).stdout(Stdio::null()).stderr(file);
        let status = fuzz.status().map_err(|e| format!("{name}: {e}"))?;
        let text = fs::read(&log).map_err(|e| format!("{}: {e}", log.display()))?;
        let text = String::from_utf8_lossy(&text);
        let (good, verdict) = match target {
            Target::Control => {
                let expected = if self.host == WITH_ASAN { "ERROR: AddressSanitizer" } else { "panicked" };
                let found = !status.success() && text.contains(expected);
                (
                    found,
                    if found { "found its fault, as it must" } else { "FAILED: its fault was not found" }.to_owned(),
                )
            }
            _ if status.success() => (true, summary(&text)),
            _ => (false, format!("FAILED\n{}\n  all of it: {}", report(&text, &name), log.display())),
        };
        println!("{name}: {verdict}");
        Ok(good)
    }
}

/// The number of inputs and the speed, from libFuzzer's final output.
fn summary(text: &str) -> String {
    let stat = |name: &str| text.lines().rev().find_map(|line| line.strip_prefix(name)).unwrap_or("?").trim();
    let [inputs, speed] = ["stat::number_of_executed_units:", "stat::average_exec_per_sec:"].map(stat);
    format!("{inputs} inputs, {speed} a second; none crashed")
}

/// The failure, and the command that repeats it.
fn report(text: &str, target: &str) -> String {
    let mut lines = Vec::new();
    let mut all = text.lines();
    while let Some(line) = all.next() {
        if line.contains("panicked at") {
            lines.extend([line, all.next().unwrap_or_default()].map(|line| format!("  {line}")));
        } else if line.contains("ERROR: ") && !line.contains("deadly signal") {
            lines.push(format!("  {line}"));
        }
    }
    if let Some((_, input)) = text.rsplit_once("Test unit written to ") {
        let input = input.lines().next().unwrap_or_default();
        lines.push(format!("  again: cargo xtask fuzz {target} --replay {input}"));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crash_report_has_reason_and_replay_command() {
        let text = "#7 NEW\n\nthread '<unnamed>' panicked at src/block.rs:35:5:\ntoo much\nstack backtrace:\n\
            ==1== ERROR: libFuzzer: deadly signal\nartifact_prefix='a/'; Test unit written to a/crash-1\nBase64: AA==";
        let lines: Vec<String> = report(text, "block").lines().map(str::to_owned).collect();
        assert_eq!(lines.len(), 3, "{lines:?}");
        assert_eq!(lines[1..], ["  too much", "  again: cargo xtask fuzz block --replay a/crash-1"]);
    }

    #[test]
    fn summary_has_inputs_and_speed() {
        let text = "Done 9 runs\nstat::number_of_executed_units: 9\nstat::average_exec_per_sec:     3\n";
        assert_eq!(summary(text), "9 inputs, 3 a second; none crashed");
    }
}
