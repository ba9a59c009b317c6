//! How the next token is chosen: `--temperature` and its like.

use clap::Args;
use qins_model::Sampler;

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
