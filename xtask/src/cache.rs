//! `cargo xtask bench cache`.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
    thread,
};

use clap::Args;

use crate::{
    bench::{peer, quality},
    cargo::{self, Outcome, expect},
    qins,
};

/// Measure what each form of the KV cache changes, of real models, by context length.
///
/// For each model and context length, `qins validate --preset cache` compares every scheme with the plain cache on the texts in
/// benches/quality/texts, teacher-forced; with --python, llama.cpp then reads the same tokens with the same weights in f32, its cache in
/// each of its types. Each result is written as it is measured, and what an earlier run left in --out is part of the table: so lengths and
/// models may be measured one after the other. The exit code is 1 when a scheme missed its threshold.
#[derive(Debug, Args)]
pub(crate) struct Cache {
    /// A checkpoint's directory, by whose last part it is named; may be repeated
    #[arg(long = "model", value_name = "DIR", required = true)]
    models: Vec<PathBuf>,
    /// Schemes of the KV cache, separated by commas [default: all encoded ones]
    #[arg(long, value_name = "SCHEMES")]
    kv: Option<String>,
    /// Context lengths in tokens
    #[arg(long, value_delimiter = ',', default_value = "224,2048,8192", value_name = "TOKENS")]
    contexts: Vec<usize>,
    /// A text to read passages of; may be repeated [default: all in benches/quality/texts]
    #[arg(long = "text", value_name = "FILE")]
    texts: Vec<PathBuf>,
    /// Measure llama.cpp too: a Python with the packages of benches/peers/requirements.txt (see benches/peers/llama.py)
    #[arg(long, value_name = "PROGRAM")]
    python: Option<PathBuf>,
    /// Where the results are written
    #[arg(long, value_name = "DIR", default_value = "target/bench/cache")]
    out: PathBuf,
}

impl Cache {
    pub(crate) fn run(&self) -> Outcome {
        let texts = self.texts()?;
        fs::create_dir_all(&self.out).map_err(|e| format!("{}: {e}", self.out.display()))?;
        if let Some(python) = &self.python {
            // Before minutes are spent on qins.
            expect(Command::new(python).arg(peer("cache.py")).arg("--help").stdout(Stdio::null()))?;
        }
        let mut failed = false;
        for model in &self.models {
            let name = model.file_name().ok_or_else(|| format!("{}: expected a directory", model.display()))?;
            for context in &self.contexts {
                let named = |end: &str| {
                    let mut file = name.to_owned();
                    file.push(end);
                    self.out.join(file)
                };
                let file = |extension: &str| named(&format!("-{context}.{extension}"));
                eprintln!("measuring {}, contexts of {context} tokens", model.display());
                failed |= self.validate(model, *context, &texts, &file("report.json"), &file("safetensors"))?;
                if let Some(python) = &self.python {
                    let gguf = named(".gguf");
                    if !gguf.exists() {
                        expect(Command::new(python).arg(peer("convert.py")).arg(model).arg(&gguf))?;
                    }
                    llama(python, &gguf, &file("safetensors"), &file("llama.json"))?;
                }
                // The logits of all passages.
                fs::remove_file(file("safetensors")).map_err(|e| format!("{}: {e}", file("safetensors").display()))?;
            }
        }
        print!("{}", quality("--cache", &self.out)?);
        println!("\nplot: {}", self.out.join("cache.svg").display());
        Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }

    /// Whether a scheme missed its threshold.
    fn validate(
        &self,
        model: &Path,
        context: usize,
        texts: &[PathBuf],
        report: &Path,
        baseline: &Path,
    ) -> Result<bool, String> {
        let mut arguments: Vec<OsString> =
            ["validate", "--preset", "cache", "--contexts", &context.to_string()].map(OsString::from).into();
        arguments.extend(self.kv.iter().flat_map(|kv| ["--kv", kv]).map(OsString::from));
        let paths = [("--model", model), ("--report", report), ("--baseline", baseline)];
        let texts = texts.iter().map(|text| ("--text", &**text));
        arguments.extend(paths.into_iter().chain(texts).flat_map(|(option, path)| [option.into(), path.into()]));
        match cargo::code(qins::command(&arguments).stdout(Stdio::null()))? {
            code @ (0 | 1) => Ok(code == 1),
            code => Err(format!("qins validate: exit code {code}")),
        }
    }

    fn texts(&self) -> Result<Vec<PathBuf>, String> {
        if !self.texts.is_empty() {
            return Ok(self.texts.clone());
        }
        let dir = cargo::root().join("benches/quality/texts");
        let error = |e| format!("{}: {e}", dir.display());
        let mut texts = Vec::new();
        for entry in fs::read_dir(&dir).map_err(error)? {
            texts.push(entry.map_err(error)?.path());
        }
        texts.retain(|path| path.extension().is_some_and(|extension| extension == "txt"));
        texts.sort();
        Ok(texts)
    }
}

fn llama(python: &Path, gguf: &Path, baseline: &Path, out: &Path) -> Result<(), String> {
    let threads = thread::available_parallelism().map_or(1, usize::from).to_string();
    let mut run = Command::new(python);
    run.arg(peer("cache.py")).arg("kl").args([gguf, baseline]).args(["--json", "--threads", &threads]);
    let output = run.stderr(Stdio::inherit()).output().map_err(|e| format!("{}: {e}", python.display()))?;
    if !output.status.success() {
        return Err(format!("benches/peers/cache.py: {}", output.status));
    }
    fs::write(out, output.stdout).map_err(|e| format!("{}: {e}", out.display()))
}
