//! One context length, in another process.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    output::written,
    process::{Machine, bench, json, output, qins, root},
};

/// A measurement, as `qins bench` prints it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Run {
    pub(crate) kv: String,
    /// Tokens of the context.
    pub(crate) prompt_tokens: usize,
    /// Tokens decoded after it.
    pub(crate) tokens: usize,
    pub(crate) threads: usize,
    pub(crate) cpu: Option<String>,
    pub(crate) card: Option<String>,
    pub(crate) kv_bytes: u64,
    pub(crate) prefill_tokens_per_second: f64,
    pub(crate) decode_tokens_per_second: f64,
    pub(crate) peak_rss_bytes: Option<u64>,
    /// GPU memory in use, in bytes.
    pub(crate) device_bytes: Option<u64>,
}

impl Run {
    /// Bytes of the KV cache per token.
    pub(crate) fn bytes_per_token(&self) -> f64 {
        self.kv_bytes as f64 / (self.prompt_tokens + self.tokens) as f64
    }

    /// Prefill time in seconds.
    pub(crate) fn seconds(&self) -> f64 {
        self.prompt_tokens as f64 / self.prefill_tokens_per_second
    }

    /// Decode time per token in milliseconds.
    pub(crate) fn milliseconds(&self) -> f64 {
        1e3 / self.decode_tokens_per_second
    }
}

/// A copy of a config.json with at least this context length.
pub(crate) fn with_positions(config: &Path, positions: u32) -> Result<PathBuf, String> {
    let error = |e: String| format!("{}: {e}", config.display());
    let text = fs::read_to_string(config).map_err(|e| error(e.to_string()))?;
    let mut value: Value = serde_json::from_str(&text).map_err(|e| error(e.to_string()))?;
    let Value::Object(fields) = &mut value else { return Err(error("expected an object".to_owned())) };
    let now = fields.get("max_position_embeddings").and_then(Value::as_u64).unwrap_or(0);
    fields.insert("max_position_embeddings".to_owned(), now.max(u64::from(positions)).into());
    let copy = root().join("target/bench/context.config.json");
    written(&copy, value.to_string())?;
    Ok(copy)
}

/// Measures a context of this length.
pub(crate) fn measure(shapes: &Path, kv: &str, context: u32, tokens: u32, machine: &Machine) -> Result<Run, String> {
    let mut run = bench(machine);
    run.args(["--model", &format!("synthetic:{}", shapes.display()), "--kv", kv, "--repeats", "1"]);
    run.args(["--prompt-tokens", &context.to_string(), "--tokens", &tokens.to_string()]);
    json(&mut run, &format!("{context} tokens, KV cache in {kv}"))
}

/// A GGUF file of random weights in these shapes.
pub(crate) fn gguf(python: &Path, shapes: &Path, machine: &Machine) -> Result<PathBuf, String> {
    let (model, file) = (root().join("target/bench/context-model"), root().join("target/bench/context.gguf"));
    if model.exists() {
        fs::remove_dir_all(&model).map_err(|e| format!("{}: {e}", model.display()))?;
    }
    output(qins(machine, "synth").arg("--config").arg(shapes).arg("--out").arg(&model))?;
    let convert = root().join("benches/peers/convert.py");
    output(Command::new(python).arg(convert).arg(&model).arg(&file).args(["--type", "bf16"]))?;
    Ok(file)
}

/// Measures llama.cpp at a context of this length.
pub(crate) fn llama(
    python: &Path,
    gguf: &Path,
    kv: &str,
    context: u32,
    tokens: u32,
    threads: usize,
) -> Result<Run, String> {
    let mut run = Command::new(python);
    run.arg(root().join("benches/peers/cache.py")).arg("speed").arg(gguf).args(["--kv", kv]);
    for (option, value) in [("--context", context as usize), ("--tokens", tokens as usize), ("--threads", threads)] {
        run.args([option, &value.to_string()]);
    }
    json(&mut run, &format!("{context} tokens, llama.cpp's KV cache in {kv}"))
}
