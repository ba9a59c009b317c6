//! Options that commands share.

use std::{fmt, path::PathBuf, str::FromStr};

use clap::Args;
use qins_burn::{Alpha, Backend, EncodeOptions, KvScheme, Override, Recipe, Sampler, Scheme, Targets};
use qins_eval::report::Settings;
use qins_quant::{ParseSchemeError, Prune, Rate, kernel::Simd, mixture::Goal};

/// Which model.
#[derive(Debug, Args)]
pub(crate) struct ModelArgs {
    /// A Phi-3 (or Llama without biases) in safetensors: a directory, or `owner/name[@revision]` on the Hugging Face hub, fetched
    /// into its cache once [default: the embedded model]
    #[arg(long, value_name = "MODEL")]
    pub(crate) model: Option<PathBuf>,
}

/// How linears are encoded.
#[derive(Debug, Args)]
pub(crate) struct EncodeArgs {
    /// Which linears to encode: `safe` (v, o, gate, up, down), `all` (q and k too), `full` (embedding and head too), or
    /// a list such as `v_proj,down_proj`
    #[arg(long, default_value = "safe", value_name = "POLICY")]
    pub(crate) targets: Targets,
    /// Another scheme, or `none`, for the linears of a role or name, such as `down_proj=q6` or `model.layers.0.*=q8`;
    /// may be given several times, and the last that matches decides
    #[arg(long = "override", value_name = "PATTERN=SCHEME")]
    pub(crate) overrides: Vec<Override>,
    /// Choose a scheme from q3 to q8g for each linear. By its weights' measured error: the least at `bits=4.5` bits per weight,
    /// or the fewest bits that keep `sqnr=40` dB. By what the model then says: the fewest bits that keep a mean divergence
    /// of `kl=1e-3` nats, or `match=99.9%` of its next tokens, on prompts which `validate` does not confirm it with. Linears
    /// with an override are left out of it
    #[arg(long, value_name = "GOAL", conflicts_with_all = ["scheme", "alpha"])]
    pub(crate) target: Option<Target>,
    /// Read a text with the plain model first, and let an error in a weight count by how large its inputs were: in q8 and
    /// q8g to q3, in what `--target` chooses, and in what `--prune` takes
    #[arg(long, value_name = "FILE")]
    pub(crate) calibrate: Option<PathBuf>,
    /// Entropy-code the file: the same codes in 1 to 7 % fewer bytes; `lossless` and `rate` always are
    #[arg(long)]
    pub(crate) entropy: bool,
    /// What `rate` shall cost [default: 4]
    #[arg(long, value_name = "BITS", value_parser = parse_rate, allow_negative_numbers = true)]
    pub(crate) bits_per_weight: Option<Rate>,
    /// Set this share of each row's weights to zero first, the least of them
    #[arg(long, value_name = "SHARE", value_parser = parse_prune, allow_negative_numbers = true)]
    pub(crate) prune: Option<Prune>,
    /// Fix α of z = 1/(1+α|x|) instead of fitting the curve to each row
    #[arg(long, value_name = "A", value_parser = parse_alpha, allow_negative_numbers = true)]
    pub(crate) alpha: Option<Alpha>,
}

/// How the next token is chosen.
#[derive(Clone, Debug, Args)]
pub(crate) struct SampleArgs {
    /// Draw the next token at this temperature; at 0 take the likeliest
    #[arg(long, value_name = "T", value_parser = parse_temperature, allow_negative_numbers = true)]
    temperature: Option<f32>,
    /// Draw among so many of the likeliest tokens
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u32).range(1..))]
    top_k: Option<u32>,
    /// Draw among the likeliest tokens that together reach this probability
    #[arg(long, value_name = "P", value_parser = parse_share, allow_negative_numbers = true)]
    top_p: Option<f32>,
    /// Draw among tokens at least this share as likely as the likeliest
    #[arg(long, value_name = "P", value_parser = parse_share, allow_negative_numbers = true)]
    min_p: Option<f32>,
    /// Divide the logits of tokens that were read or written by this
    #[arg(long, value_name = "F", value_parser = parse_penalty, allow_negative_numbers = true)]
    repetition_penalty: Option<f32>,
    /// What random numbers are made from: the same seed gives the same text
    #[arg(long, default_value_t = 0, value_name = "N")]
    seed: u64,
}

impl SampleArgs {
    /// At `temperature` where nothing else is said.
    pub(crate) fn sampler(&self, temperature: f32) -> Sampler {
        Sampler {
            temperature: self.temperature.unwrap_or(temperature),
            top_k: self.top_k.map_or(0, |k| k as usize),
            top_p: self.top_p.unwrap_or(1.0),
            min_p: self.min_p.unwrap_or(0.0),
            repetition_penalty: self.repetition_penalty.unwrap_or(1.0),
            seed: self.seed,
        }
    }
}

/// What computes.
#[derive(Clone, Debug, Args)]
pub(crate) struct DeviceArgs {
    /// Burn backend: flex, ndarray, wgpu or cuda; each must be compiled in by the cargo feature of its name
    #[arg(long, default_value_t = Backend::default())]
    pub(crate) backend: Backend,
    /// Threads to compute with [default: all cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) threads: Option<u16>,
}

/// What a mixture of schemes shall reach.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Target {
    /// Of the weights.
    Weights(Goal),
    /// Of the words.
    Words(Bar),
}

/// A checkpoint to compare: `DIR`, or `DIR@BITS` where it holds the values of another format as plain weights.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct OtherCheckpoint {
    pub(crate) dir: PathBuf,
    pub(crate) bits: Option<f64>,
}

impl FromStr for OtherCheckpoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bits = |text: &str| text.parse().ok().filter(|bits: &f64| (0.1..=64.0).contains(bits));
        match text.rsplit_once('@').and_then(|(dir, text)| Some((dir, bits(text)?))) {
            Some((dir, bits)) => Ok(Self { dir: dir.into(), bits: Some(bits) }),
            None => Ok(Self { dir: text.into(), bits: None }),
        }
    }
}

/// A bar for what a model says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Bar {
    /// Mean KL at most, in nats.
    Kl(f64),
    /// Same-top rate at least.
    Match(f64),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Weights(goal) => goal.fmt(f),
            Self::Words(Bar::Kl(kl)) => write!(f, "kl={kl}"),
            // Rounded to what was meant: 0.999 × 100 is no whole number of thousandths.
            Self::Words(Bar::Match(share)) => write!(f, "match={}%", (1e8 * share).round() / 1e6),
        }
    }
}

impl FromStr for Target {
    type Err = String;

    /// `bits=4.5`, `sqnr=40`, `kl=1e-3`, `match=99.9%` or `match=0.999`.
    fn from_str(text: &str) -> Result<Self, String> {
        let error = || format!("expected bits=NUMBER, sqnr=NUMBER, kl=NUMBER or match=PERCENT%, found `{text}`");
        let (name, value) = text.split_once('=').ok_or_else(error)?;
        let number = |text: &str| text.parse().ok().filter(|v: &f64| v.is_finite() && *v > 0.0).ok_or_else(error);
        match name {
            "kl" => Ok(Self::Words(Bar::Kl(number(value)?))),
            "match" => {
                let share = match value.strip_suffix('%') {
                    Some(percent) => number(percent)? / 100.0,
                    None => number(value)?,
                };
                if share < 1.0 { Ok(Self::Words(Bar::Match(share))) } else { Err(error()) }
            }
            _ => text.parse().map(Self::Weights).map_err(|_| error()),
        }
    }
}

/// How keys and values rest.
#[derive(Clone, Debug, Args)]
pub(crate) struct KvArgs {
    /// How keys and values of the tokens read rest: f32, f16, bf16, q8 or q4
    #[arg(long, default_value = "f32", value_name = "FORM")]
    pub(crate) kv: KvScheme,
}

/// `--scheme` where plain weights are a choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SchemeOrNone {
    /// Plain weights.
    None,
    /// Encoded ones.
    Scheme(Scheme),
}

impl EncodeArgs {
    /// How `scheme` is encoded with these options.
    ///
    /// # Errors
    /// When an option is given that nothing will ask for.
    pub(crate) fn recipe(&self, scheme: Option<Scheme>) -> Result<Option<Recipe>, String> {
        let options = [
            (self.alpha.is_some(), "--alpha"),
            (self.bits_per_weight.is_some(), "--bits-per-weight"),
            (self.prune.is_some(), "--prune"),
            (self.entropy, "--entropy"),
            (self.calibrate.is_some(), "--calibrate"),
            (!self.overrides.is_empty(), "--override"),
        ];
        let given = options.into_iter().find_map(|(given, name)| given.then_some(name));
        // A mixture begins with any scheme: each linear gets its own.
        let scheme = scheme.or(self.target.map(|_| Scheme::Q8g));
        match (scheme, given) {
            (None, Some(name)) => Err(format!("expected a --scheme to encode with {name}, found none")),
            (None, None) => Ok(None),
            (Some(scheme), _) => {
                if self.calibrate.is_some() && self.prune.is_none() && !self.any(scheme, Scheme::heeds_importance) {
                    return Err(format!("expected a scheme whose fit weighs errors with --calibrate, found {scheme}"));
                }
                if self.bits_per_weight.is_some() && !self.rates(scheme) {
                    return Err(
                        "expected --scheme rate, or an --override to it, with --bits-per-weight, found none".into()
                    );
                }
                let options = EncodeOptions {
                    alpha: self.alpha,
                    rate: self.bits_per_weight.unwrap_or_default(),
                    prune: self.prune.unwrap_or_default(),
                    curves: None,
                };
                Ok(Some(Recipe { coded: self.entropy, options, ..scheme.into() }))
            }
        }
    }
}

impl EncodeArgs {
    /// Whether anything rests in a scheme like this, where most rests in `scheme`.
    fn any(&self, scheme: Scheme, like: impl Fn(Scheme) -> bool) -> bool {
        like(scheme) || self.overrides.iter().filter_map(Override::scheme).any(like)
    }

    fn rates(&self, scheme: Scheme) -> bool {
        self.any(scheme, |scheme| scheme == Scheme::Rate)
    }

    /// What a report says of a form made with these options and this recipe.
    pub(crate) fn settings(&self, recipe: &Recipe) -> Settings {
        let rate = match recipe.options.rate {
            Rate::Bits(bits) if self.rates(recipe.scheme) => Some(bits),
            _ => None,
        };
        Settings {
            checkpoint: None,
            stands_for_bits: None,
            kv: None,
            computation: None,
            scheme: self.target.map_or(recipe.scheme.name(), |_| "mixture").to_owned(),
            targets: self.targets.to_string(),
            alpha: self.alpha.map(Alpha::get),
            target: self.target.map(|goal| goal.to_string()),
            overrides: self.overrides.iter().map(ToString::to_string).collect(),
            calibration: self.calibrate.as_ref().map(|file| file.display().to_string()),
            entropy: self.entropy,
            rate,
            prune: self.prune.map(Prune::get).filter(|share| *share > 0.0),
        }
    }
}

impl DeviceArgs {
    /// Sets up the threads; gives the device.
    pub(crate) fn device(&self) -> Result<qins_burn::Device, Box<dyn std::error::Error>> {
        // An instruction set that the environment names and this machine has not is refused here.
        Simd::chosen()?;
        if let Some(threads) = self.threads {
            rayon::ThreadPoolBuilder::new().num_threads(threads.into()).build_global()?;
        }
        Ok(self.backend.device()?)
    }
}

impl FromStr for SchemeOrNone {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "none" => Ok(Self::None),
            name => name
                .parse()
                .map(Self::Scheme)
                .map_err(|e: ParseSchemeError| e.to_string().replace("one of ", "one of none, ")),
        }
    }
}

impl SchemeOrNone {
    pub(crate) fn scheme(self) -> Option<Scheme> {
        match self {
            Self::None => None,
            Self::Scheme(scheme) => Some(scheme),
        }
    }
}

pub(crate) fn parse_temperature(text: &str) -> Result<f32, String> {
    number(text, "0 or more", |value| value >= 0.0)
}

fn parse_share(text: &str) -> Result<f32, String> {
    number(text, "a share above 0 and at most 1", |value| value > 0.0 && value <= 1.0)
}

fn parse_penalty(text: &str) -> Result<f32, String> {
    number(text, "a number above 0", |value| value > 0.0)
}

fn number(text: &str, expected: &str, fits: impl Fn(f32) -> bool) -> Result<f32, String> {
    let value: f32 = text.parse().map_err(|e: std::num::ParseFloatError| e.to_string())?;
    if value.is_finite() && fits(value) { Ok(value) } else { Err(format!("expected {expected}, found {text}")) }
}

fn parse_alpha(text: &str) -> Result<Alpha, String> {
    let value = text.parse::<f32>().map_err(|e| e.to_string())?;
    Alpha::new(value).map_err(|e| e.to_string())
}

fn parse_rate(text: &str) -> Result<Rate, String> {
    Rate::bits(text.parse().map_err(|e: std::num::ParseFloatError| e.to_string())?)
}

fn parse_prune(text: &str) -> Result<Prune, String> {
    Prune::new(text.parse().map_err(|e: std::num::ParseFloatError| e.to_string())?)
}
