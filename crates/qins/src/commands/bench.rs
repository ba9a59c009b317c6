//! `qins bench`.

use std::{
    collections::BTreeMap,
    error::Error,
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    str::FromStr,
    time::Instant,
};

use clap::Args;
use indicatif::HumanBytes;
use qins_burn::{
    Device, DeviceMemory, Loaded, Session, copy_bandwidth, count_launches,
    decoder::{Decoder, Logits},
    device_memory, read, synthetic,
};
use qins_model::{ModelConfig, Policy, Targets};
use qins_quant::{
    FloatDtype,
    kernel::{Simd, read_bandwidth},
};
use serde::Serialize;

use crate::{
    Outcome,
    args::{DeviceArgs, KvArgs, ModelArgs, SchemeOrNone},
    environment::{environment, peak_rss_bytes},
    load::load_model,
    model,
    progress::progress,
    shapes::shapes,
};

/// Measure decode and prefill speed and peak memory, of a model or of random weights of its shapes.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  qins bench --scheme q8
  qins bench --model synthetic:phi-3.5-mini --blocks 4 --scheme q4 --targets full --threads 2
  qins bench --model synthetic:llama-3.1-8b --scheme q4 --targets full
  qins bench --model DIR --json

Decoding a token reads every weight once, so its speed is bounded by memory bandwidth. The bandwidth is measured in the same run \
(on a GPU, that of a copy), and the share that decoding uses is printed.")]
pub(crate) struct Bench {
    /// A Hugging Face directory, or `synthetic:NAME` or `synthetic:FILE` for random weights in the shapes of a model that is built
    /// in, such as `llama-3.1-8b` (an unknown name lists them), or of a config.json [default: the embedded model]
    #[arg(long, value_name = "MODEL")]
    model: Option<Model>,
    /// Number of blocks of a synthetic model, instead of all
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=4096))]
    blocks: Option<u16>,
    /// Encode the weights: none, companded-f32, lossless, q8g, q8, q6, q5, q4, q3 or rate
    #[arg(long, default_value = "none")]
    scheme: SchemeOrNone,
    /// Which linears to encode: `safe`, `all`, `full`, or a list such as `v_proj,down_proj`
    /// [default: safe]
    #[arg(long, value_name = "POLICY")]
    targets: Option<Targets>,
    /// The type of a synthetic model's plain weights: bf16, f16 or f32 [default: bf16]
    #[arg(long, value_parser = ["bf16", "f16", "f32"])]
    dtype: Option<String>,
    #[command(flatten)]
    kv: KvArgs,
    #[command(flatten)]
    device: DeviceArgs,
    /// Prefill: tokens of the prompt, in one forward pass
    #[arg(long, default_value_t = 128, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=65_536))]
    prompt_tokens: u32,
    /// Decode: tokens after the prompt, one by one
    #[arg(long, default_value_t = 32, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=65_536))]
    tokens: u32,
    /// Number of measurements after a warm-up; the median is reported
    #[arg(long, default_value_t = 3, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1000))]
    repeats: u16,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Debug)]
enum Model {
    Directory(PathBuf),
    Synthetic(String),
}

impl FromStr for Model {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.strip_prefix("synthetic:") {
            None => Ok(Self::Directory(text.into())),
            Some(_) => Ok(Self::Synthetic(text.to_owned())),
        }
    }
}

/// The measurements. Speeds are medians, in tokens or 10⁹ bytes per second.
#[derive(Serialize)]
struct Measured {
    name: &'static str,
    model: String,
    blocks: usize,
    scheme: String,
    targets: String,
    threads: usize,
    simd: &'static str,
    cpu: Option<String>,
    /// The GPU, if one computes.
    card: Option<String>,
    kv: String,
    /// Of the KV cache, after all tokens.
    kv_bytes: usize,
    prompt_tokens: usize,
    tokens: usize,
    prefill_tokens_per_second: f64,
    decode_tokens_per_second: f64,
    decode_gb_per_second: f64,
    /// Memory bandwidth: on a CPU what all threads read, on a GPU what it copies, counted in both directions, where that can
    /// be measured.
    read_gb_per_second: Option<f64>,
    load_seconds: f64,
    peak_rss_bytes: Option<u64>,
    /// GPU memory in tensors, KV cache included, and GPU memory reserved by the allocator.
    device_bytes: Option<u64>,
    device_reserved_bytes: Option<u64>,
    weight_bytes: usize,
    /// Kernel launches on a GPU for the last token, by kernel.
    launches: BTreeMap<String, usize>,
    prefill_runs: Vec<f64>,
    decode_runs: Vec<f64>,
}

impl Bench {
    pub(crate) fn run(self) -> Outcome {
        let device = self.device.device()?;
        let policy = match (self.scheme.scheme(), &self.targets) {
            (None, Some(_)) => return Err("expected a --scheme to encode with --targets, found none".into()),
            (None, None) => None,
            (Some(scheme), targets) => Some(Policy::new(targets.clone().unwrap_or(Targets::Safe), scheme)),
        };
        let start = Instant::now();
        let (name, Loaded { mut model, report }) = self.load(policy.as_ref(), &device)?;
        model.set_kv(self.kv.kv);
        let load_seconds = start.elapsed().as_secs_f64();
        let vocabulary = model.config().vocab_size as u32;
        let limit = model.config().max_position_embeddings;
        let (prompt, tokens) = (self.prompt_tokens as usize, self.tokens as usize);
        if prompt + tokens > limit {
            return Err(format!(
                "expected at most {limit} tokens, the model's context length, found {}",
                prompt + tokens
            )
            .into());
        }
        let ids: Vec<u32> =
            (0..self.prompt_tokens + self.tokens).map(|i| i.wrapping_mul(40_503) % vocabulary).collect();
        let bar = progress(1 + u64::from(self.repeats), "measuring".to_owned());
        // Warm-up.
        let first = self.measure(&model, &ids, &device)?;
        let mut runs = (Vec::new(), Vec::new());
        for _ in 0..self.repeats {
            bar.inc(1);
            let run = self.measure(&model, &ids, &device)?;
            runs.0.push(prompt as f64 / run.prefill);
            runs.1.push(tokens as f64 / run.decode);
        }
        bar.finish_and_clear();
        let launches = self.launches(&model, &ids)?;
        // Before the bandwidth is measured, which allocates memory of its own.
        let peak_rss_bytes = peak_rss_bytes();
        let (prefill, decode) = (median(&runs.0), median(&runs.1));
        let environment = environment(&self.device);
        let measured = Measured {
            name: "qins",
            model: name,
            blocks: model.config().layers.len(),
            scheme: match (&policy, &self.model) {
                (Some(policy), _) => policy.recipe.scheme.to_string(),
                (None, Some(Model::Synthetic(_))) => format!("none ({})", self.dtype.as_deref().unwrap_or("bf16")),
                // As its files have them: plain, or converted before.
                (None, _) => "as stored".to_owned(),
            },
            targets: policy.map_or("none".to_owned(), |policy| policy.targets.to_string()),
            threads: environment.threads,
            simd: Simd::chosen()?.name(),
            cpu: environment.cpu,
            card: self.device.backend.card(),
            kv: self.kv.kv.to_string(),
            kv_bytes: first.kv_bytes,
            prompt_tokens: prompt,
            tokens,
            prefill_tokens_per_second: prefill,
            decode_tokens_per_second: decode,
            decode_gb_per_second: decode * report.bytes_per_token() as f64 / 1e9,
            read_gb_per_second: match self.device.backend.card() {
                Some(_) => copy_bandwidth(&device),
                None => Some(read_bandwidth()),
            }
            .map(|bytes| bytes / 1e9),
            load_seconds,
            peak_rss_bytes,
            device_bytes: first.device.map(|memory| memory.in_use),
            device_reserved_bytes: first.device.map(|memory| memory.reserved),
            weight_bytes: report.weight_bytes(),
            launches,
            prefill_runs: runs.0,
            decode_runs: runs.1,
        };
        measured.print(self.json)?;
        Ok(ExitCode::SUCCESS)
    }

    /// The type of a synthetic model's plain weights.
    fn dtype(&self) -> FloatDtype {
        match self.dtype.as_deref() {
            None | Some("bf16") => FloatDtype::Bf16,
            Some("f16") => FloatDtype::F16,
            Some(_) => FloatDtype::F32,
        }
    }

    fn load(&self, policy: Option<&Policy>, device: &Device) -> Result<(String, Loaded), Box<dyn Error>> {
        let Some(Model::Synthetic(name)) = &self.model else {
            for (is_given, option) in [(self.blocks.is_some(), "--blocks"), (self.dtype.is_some(), "--dtype")] {
                if is_given {
                    return Err(format!("expected {option} with a synthetic model only, found another model").into());
                }
            }
            let model = match &self.model {
                Some(Model::Directory(dir)) => Some(dir.clone()),
                _ => None,
            };
            let source = model::open(&ModelArgs::named(model))?;
            expect_effect(policy, &ModelConfig::of(&source.checkpoint)?)?;
            let loaded = load_model(&source, policy, device)?;
            return Ok((source.name, loaded));
        };
        let file = Path::new(name.trim_start_matches("synthetic:"));
        let config = shapes(file, self.blocks)?;
        let config = ModelConfig::parse(&config, file)?;
        expect_effect(policy, &config)?;
        let dtype = self.dtype();
        let bar = progress(0, format!("creating {}", policy.map_or("plain", |policy| policy.recipe.scheme.name())));
        let loaded = synthetic(config, policy, dtype, device, |done, total| {
            bar.set_length(total as u64);
            bar.set_position(done as u64);
        })?;
        bar.finish_and_clear();
        Ok((name.clone(), loaded))
    }

    fn measure(&self, model: &Decoder, ids: &[u32], device: &Device) -> Result<Run, Box<dyn Error>> {
        let (prompt, tokens) = ids.split_at(self.prompt_tokens as usize);
        let mut session = Session::new(model, ids.len());
        let mut timed = |ids: &[u32]| -> Result<f64, Box<dyn Error>> {
            let start = Instant::now();
            // Reading the logits waits until they are computed.
            std::hint::black_box(read(session.extend(ids, Logits::Last)?)?);
            Ok(start.elapsed().as_secs_f64())
        };
        let prefill = timed(prompt)?;
        let decode = tokens.iter().map(|id| timed(std::slice::from_ref(id))).sum::<Result<f64, _>>()?;
        Ok(Run { prefill, decode, kv_bytes: session.cache().bytes(), device: device_memory(device) })
    }

    /// The kernel launches of the last token.
    fn launches(&self, model: &Decoder, ids: &[u32]) -> Result<BTreeMap<String, usize>, Box<dyn Error>> {
        // A CPU launches none.
        let (Some(_), Some((last, others))) = (self.device.backend.card(), ids.split_last()) else {
            return Ok(BTreeMap::new());
        };
        let mut session = Session::new(model, ids.len());
        read(session.extend(others, Logits::Last)?)?;
        let (logits, launches) = count_launches(|| -> Result<_, qins_burn::Error> {
            read(session.extend(std::slice::from_ref(last), Logits::Last)?)
        });
        logits?;
        Ok(launches)
    }
}

/// Seconds of prefill and of decoding all tokens after it, and memory at the end.
struct Run {
    prefill: f64,
    decode: f64,
    kv_bytes: usize,
    device: Option<DeviceMemory>,
}

impl Measured {
    fn print(&self, json: bool) -> Result<(), Box<dyn Error>> {
        let mut out = io::stdout().lock();
        if json {
            return Ok(writeln!(out, "{}", serde_json::to_string(self)?)?);
        }
        writeln!(
            out,
            "{}, {} blocks, {} ({}), {} threads, {}",
            self.model,
            self.blocks,
            self.scheme,
            self.targets,
            self.threads,
            self.card.as_deref().unwrap_or(self.simd)
        )?;
        writeln!(out, "prefill  {:8.1} tok/s (pp{})", self.prefill_tokens_per_second, self.prompt_tokens)?;
        let share = self.read_gb_per_second.map_or(String::new(), |read| {
            let kind = if self.card.is_some() { "copy" } else { "read" };
            format!(", {:.0} % of the {kind} bandwidth of {read:.1} GB/s", 100.0 * self.decode_gb_per_second / read)
        });
        writeln!(
            out,
            "decode   {:8.1} tok/s (tg{}), {:.1} GB/s of weights{share}",
            self.decode_tokens_per_second, self.tokens, self.decode_gb_per_second
        )?;
        let memory = self.peak_rss_bytes.map_or(String::new(), |peak| {
            format!(", peak RSS {} ({:.2} ×)", HumanBytes(peak), peak as f64 / self.weight_bytes as f64)
        });
        writeln!(
            out,
            "weights  {}{memory}, loaded in {:.1} s",
            HumanBytes(self.weight_bytes as u64),
            self.load_seconds
        )?;
        if let (Some(used), Some(reserved)) = (self.device_bytes, self.device_reserved_bytes) {
            let bytes = self.weight_bytes + self.kv_bytes;
            let times = used as f64 / bytes as f64;
            let (used, reserved) = (HumanBytes(used), HumanBytes(reserved));
            writeln!(out, "device   {used} in tensors ({times:.2} × weights and KV cache), {reserved} reserved")?;
        }
        if !self.launches.is_empty() {
            let launches: usize = self.launches.values().sum();
            writeln!(out, "launches {launches} kernels per token")?;
        }
        let context = self.prompt_tokens + self.tokens;
        writeln!(out, "KV cache {} for {context} tokens in {}", HumanBytes(self.kv_bytes as u64), self.kv)?;
        Ok(())
    }
}

/// That a policy encodes any linear.
fn expect_effect(policy: Option<&Policy>, config: &ModelConfig) -> Result<(), qins_model::Error> {
    policy.map_or(Ok(()), |policy| policy.check(config))
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    f64::midpoint(sorted[(sorted.len() - 1) / 2], sorted[sorted.len() / 2])
}
