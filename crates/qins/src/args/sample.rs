//! Sampling of the next token: `--temperature` and related options.

use clap::Args;
use qins_model::Sampler;

/// Sampling of the next token.
#[derive(Clone, Debug, Args)]
pub(crate) struct SampleArgs {
    /// Sampling temperature; 0 is greedy decoding, where filters and the seed make no difference
    #[arg(long, value_name = "T", value_parser = parse_temperature, allow_negative_numbers = true)]
    temperature: Option<f32>,
    /// Sample among the K most probable tokens; 0 for all
    #[arg(long, value_name = "K")]
    top_k: Option<u32>,
    /// Nucleus sampling: among the most probable tokens that together reach this probability; 1 for all
    #[arg(long, value_name = "P", value_parser = parse_share, allow_negative_numbers = true)]
    top_p: Option<f32>,
    /// Sample among tokens whose probability is at least this share of the largest; 0 for all
    #[arg(long, value_name = "P", value_parser = parse_min_p, allow_negative_numbers = true)]
    min_p: Option<f32>,
    /// Divide the positive logits of tokens already in the context by this, and multiply the negative ones; 1 for neither
    #[arg(long, value_name = "F", value_parser = parse_penalty, allow_negative_numbers = true)]
    repetition_penalty: Option<f32>,
    /// Seed of the random numbers: the same seed gives the same text [default: 0]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
}

impl SampleArgs {
    /// The sampler, at `temperature` unless an option sets another.
    ///
    /// # Errors
    /// When decoding is greedy because no temperature was given, and an option would restrict what is sampled.
    pub(crate) fn sampler(&self, temperature: f32) -> Result<Sampler, String> {
        let restricts = [
            ("--top-k", self.top_k.is_some_and(|k| k > 0)),
            ("--top-p", self.top_p.is_some_and(|p| p < 1.0)),
            ("--min-p", self.min_p.is_some_and(|p| p > 0.0)),
            ("--seed", self.seed.is_some()),
        ];
        let is_greedy = self.temperature.is_none() && temperature == 0.0;
        if let Some((option, _)) = restricts.into_iter().find(|(_, is_set)| is_greedy && *is_set) {
            return Err(format!("expected --temperature with {option}, found none: without it decoding is greedy"));
        }
        Ok(Sampler {
            temperature: self.temperature.unwrap_or(temperature),
            top_k: self.top_k.map_or(0, |k| k as usize),
            top_p: self.top_p.unwrap_or(1.0),
            min_p: self.min_p.unwrap_or(0.0),
            repetition_penalty: self.repetition_penalty.unwrap_or(1.0),
            seed: self.seed.unwrap_or(0),
        })
    }
}

pub(crate) fn parse_temperature(text: &str) -> Result<f32, String> {
    number(text, "0 or more", |value| value >= 0.0)
}

fn parse_share(text: &str) -> Result<f32, String> {
    number(text, "a share above 0 and at most 1", |value| value > 0.0 && value <= 1.0)
}

fn parse_min_p(text: &str) -> Result<f32, String> {
    number(text, "a share above 0 and at most 1, or 0 for all", |value| (0.0..=1.0).contains(&value))
}

fn parse_penalty(text: &str) -> Result<f32, String> {
    number(text, "a number above 0", |value| value > 0.0)
}

fn number(text: &str, expected: &str, fits: impl Fn(f32) -> bool) -> Result<f32, String> {
    let value: f32 = text.parse().map_err(|e: std::num::ParseFloatError| e.to_string())?;
    if value.is_finite() && fits(value) {
        Ok(value)
    } else {
        Err(format!("expected {expected}, within the range of f32, found {text}"))
    }
}
