//! Sampling of the next token: `--temperature` and related options.

use clap::Args;
use qins_model::Sampler;

/// Sampling of the next token.
#[derive(Clone, Debug, Args)]
pub(crate) struct SampleArgs {
    /// Sampling temperature; 0 is greedy decoding
    #[arg(long, value_name = "T", value_parser = parse_temperature, allow_negative_numbers = true)]
    temperature: Option<f32>,
    /// Sample among the K most probable tokens
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u32).range(1..))]
    top_k: Option<u32>,
    /// Nucleus sampling: among the most probable tokens that together reach this probability
    #[arg(long, value_name = "P", value_parser = parse_share, allow_negative_numbers = true)]
    top_p: Option<f32>,
    /// Sample among tokens whose probability is at least this share of the largest
    #[arg(long, value_name = "P", value_parser = parse_share, allow_negative_numbers = true)]
    min_p: Option<f32>,
    /// Divide the positive logits of tokens already in the context by this, and multiply the negative ones
    #[arg(long, value_name = "F", value_parser = parse_penalty, allow_negative_numbers = true)]
    repetition_penalty: Option<f32>,
    /// Seed of the random numbers: the same seed gives the same text
    #[arg(long, default_value_t = 0, value_name = "N")]
    seed: u64,
}

impl SampleArgs {
    /// The sampler, at `temperature` unless an option sets another.
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
