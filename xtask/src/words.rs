//! `cargo xtask bench words`.

use std::{
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
};

use clap::Args;

use crate::{
    bench::{peer, quality},
    cargo::{self, Outcome, expect},
    qins,
};

/// Measure what qins' schemes and llama.cpp's formats change of the predictions of models, against bits per weight.
///
/// For each model: `qins convert` writes the linears of its blocks in each scheme, with error feedback from its calibration where the scheme
/// has it; with --python, llama.cpp's quantiser rounds them to each of its formats, with an importance matrix from the same calibration
/// (`qins importance`); and both without. `qins validate` then compares all of them with the plain model. The report of each model is kept in
/// --out, and all that lie there, also of earlier runs, are gathered in words.json, words.md and words.svg. Checkpoints are written to --out,
/// up to four bytes a weight each, and removed. The exit code is 1 when a scheme missed its threshold.
#[derive(Debug, Args)]
pub(crate) struct Words {
    /// A checkpoint's directory, by whose last part it is named; may be repeated [default: the embedded model]
    #[arg(long = "model", value_name = "DIR")]
    models: Vec<PathBuf>,
    /// Schemes, separated by commas
    #[arg(long, value_delimiter = ',', default_value = "q8,q6,q5,q4,q3", value_name = "SCHEMES")]
    schemes: Vec<String>,
    /// Schemes that are written with `--effort best` too, separated by commas
    #[arg(long, value_delimiter = ',', value_name = "SCHEMES")]
    best: Vec<String>,
    /// Formats of llama.cpp, separated by commas
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "Q8_0,Q6_K,Q5_K,Q4_K,IQ4_XS,Q3_K,IQ3_S",
        value_name = "FORMATS",
        requires = "python"
    )]
    formats: Vec<String>,
    /// Leave out what is without a calibration, q8 and Q8_0 among it
    #[arg(long)]
    calibrated_only: bool,
    /// Measure llama.cpp too: a Python with the packages of benches/peers/requirements.txt (see benches/peers/llama.py)
    #[arg(long, value_name = "PROGRAM")]
    python: Option<PathBuf>,
    /// Where the results are written
    #[arg(long, value_name = "DIR", default_value = "target/bench/words")]
    out: PathBuf,
    /// Passed on to `qins validate`, after `--`, such as `--preset quick --max-new-tokens 32`
    #[arg(last = true)]
    validate: Vec<OsString>,
}

/// What each program writes the same with a calibration as without.
const UNCHANGED: [&str; 2] = ["q8", "Q8_0"];

/// A directory that is removed with all that is in it, also where an earlier run was killed before it could.
struct Scratch(PathBuf);

impl Scratch {
    fn new(path: PathBuf) -> Result<Self, String> {
        let named = |e: io::Error| format!("{}: {e}", path.display());
        match fs::remove_dir_all(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(named(e)),
            _ => fs::create_dir_all(&path).map_err(named)?,
        }
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Words {
    pub(crate) fn run(&self) -> Outcome {
        fs::create_dir_all(&self.out).map_err(|e| format!("{}: {e}", self.out.display()))?;
        if let Some(python) = &self.python {
            // Before minutes are spent on qins.
            expect(Command::new(python).arg(peer("round_ggml.py")).arg("--help").stdout(Stdio::null()))?;
        }
        let models: Vec<Option<&Path>> = match &self.models[..] {
            [] => vec![None],
            models => models.iter().map(|model| Some(&**model)).collect(),
        };
        let mut failed = false;
        for model in models {
            failed |= self.measure(model)?;
        }
        print!("{}", quality("--words", &self.out)?);
        println!("\nplot: {}", self.out.join("words.svg").display());
        Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }

    /// Whether a scheme missed its threshold, on the model of a directory or the embedded one.
    fn measure(&self, model: Option<&Path>) -> Result<bool, String> {
        let embedded = cargo::root().join("crates/qins/assets/atlas");
        let directory = model.unwrap_or(&embedded);
        let name = directory.file_name().ok_or_else(|| format!("{}: expected a directory", directory.display()))?;
        let named = |end: &str| {
            let mut file = name.to_owned();
            file.push(end);
            self.out.join(file)
        };
        let model: Vec<OsString> = model.iter().flat_map(|dir| ["--model".into(), (*dir).into()]).collect();
        let scratch = Scratch::new(named(".checkpoints"))?;
        let mut candidates = self.converted(&model, &scratch.0)?;
        if let Some(python) = &self.python {
            candidates.extend(self.rounded(python, &model, directory, &scratch.0)?);
        }
        let mut arguments: Vec<OsString> = vec!["validate".into()];
        arguments.extend(model);
        arguments.extend(candidates.into_iter().flat_map(|candidate| ["--candidate".into(), candidate]));
        if !self.calibrated_only {
            arguments.extend(["--scheme", &self.schemes.join(","), "--targets", "all"].map(OsString::from));
        }
        arguments.extend(["--report".into(), named(".report.json").into()]);
        arguments.extend(self.validate.iter().cloned());
        match cargo::code(qins::command(&arguments).stdout(Stdio::null()))? {
            code @ (0 | 1) => Ok(code == 1),
            code => Err(format!("qins validate: exit code {code}")),
        }
    }

    /// Checkpoints that `qins convert` makes of a model, with its calibration.
    fn converted(&self, model: &[OsString], out: &Path) -> Result<Vec<OsString>, String> {
        let good = calibrated(&self.schemes).into_iter().map(|scheme| (scheme, "good", ""));
        let best = self.best.iter().map(|scheme| (&**scheme, "best", "-best"));
        let mut made = Vec::new();
        for (scheme, effort, suffix) in good.chain(best) {
            let dir = out.join(format!("{scheme}{suffix}"));
            let options = ["convert", "--scheme", scheme, "--effort", effort, "--targets", "all", "--out"];
            let mut arguments: Vec<OsString> = options.map(OsString::from).into();
            arguments.push(dir.clone().into());
            arguments.extend(model.iter().cloned());
            expect(qins::command(&arguments).stdout(Stdio::null()))?;
            made.push(dir.into());
        }
        Ok(made)
    }

    /// Checkpoints in llama.cpp's formats, with their bits: `DIR@BITS` each.
    fn rounded(
        &self,
        python: &Path,
        model: &[OsString],
        directory: &Path,
        out: &Path,
    ) -> Result<Vec<OsString>, String> {
        let importance = out.join("importance.safetensors");
        let mut arguments: Vec<OsString> = vec!["importance".into(), "--out".into(), importance.clone().into()];
        arguments.extend(model.iter().cloned());
        expect(&mut qins::command(&arguments))?;
        let all = if self.calibrated_only { Vec::new() } else { self.formats.iter().map(|name| &**name).collect() };
        let mut made = Vec::new();
        for (formats, with) in [(all, false), (calibrated(&self.formats), true)] {
            if formats.is_empty() {
                continue;
            }
            let mut round = Command::new(python);
            round.arg(peer("round_ggml.py")).args([directory, out]).args(["--types", &formats.join(",")]);
            if with {
                round.arg("--importance").arg(&importance);
            }
            let output = round.stderr(Stdio::inherit()).output().map_err(|e| format!("{}: {e}", python.display()))?;
            if !output.status.success() {
                return Err(format!("benches/peers/round_ggml.py: {}", output.status));
            }
            made.extend(String::from_utf8_lossy(&output.stdout).lines().map(OsString::from));
        }
        Ok(made)
    }
}

/// Those that a calibration changes.
fn calibrated(names: &[String]) -> Vec<&str> {
    names.iter().map(|name| &**name).filter(|name| !UNCHANGED.contains(name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scratch_is_empty_at_first_and_gone_at_last() {
        let path = std::env::temp_dir().join(format!("qins-words-{}", std::process::id()));
        fs::create_dir_all(path.join("left")).unwrap();
        let scratch = Scratch::new(path.clone()).unwrap();
        assert_eq!(fs::read_dir(&path).unwrap().count(), 0);
        fs::write(path.join("file"), "").unwrap();
        // Control: a file is no directory.
        assert!(Scratch::new(path.join("file")).is_err_and(|message| message.contains("file")));
        drop(scratch);
        assert!(!path.exists());
    }

    #[test]
    fn bytes_have_no_calibration() {
        let names = ["q8", "q4", "Q8_0", "Q4_K"].map(str::to_owned);
        assert_eq!(calibrated(&names), ["q4", "Q4_K"]);
    }
}
