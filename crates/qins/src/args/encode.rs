//! How linears are encoded: `--targets`, `--override` and their like.

use std::path::PathBuf;

use clap::Args;
#[cfg(feature = "burn")]
use qins_eval::report::Settings;
use qins_model::{Override, Targets};
use qins_quant::{Alpha, Effort, EncodeOptions, Prune, Rate, Recipe, Scheme};

use super::Target;

/// How linears are encoded.
#[derive(Debug, Args)]
pub(crate) struct EncodeArgs {
    /// Which linears to encode: `safe` (v, o, gate, up, down), `all` (q and k too), `full` (embedding and head too), or
    /// a list such as `v_proj,down_proj` [default: safe]
    #[arg(long, value_name = "POLICY")]
    targets: Option<Targets>,
    /// Another scheme, or `none`, for linears by role or name, such as `down_proj=q6` or `model.layers.0.*=q8`. May be
    /// repeated; the last match decides
    #[arg(long = "override", value_name = "PATTERN=SCHEME")]
    pub(crate) overrides: Vec<Override>,
    /// Choose a scheme from q3 to q8g for each linear (mixed precision): the least error at `bits=4.5` bits per weight, or the fewest
    /// bits with `sqnr=40` dB; by model output, the fewest bits with a mean KL divergence of at most `kl=1e-3` nats, or a top-1
    /// agreement of at least `match=99.9%`, measured on calibration prompts; `validate` confirms it on other prompts. With a
    /// calibration it is chosen by errors of outputs, and `bits` by divergence too, of fits with error feedback; what is written makes up
    /// for errors before a linear besides. `bits` is then one scheme for all, unless a mixture is known to change less. Fits that
    /// are measured take 4.5 bytes per weight of temporary space. Linears with an override are left out
    #[arg(long, value_name = "GOAL", conflicts_with_all = ["scheme", "alpha"])]
    pub(crate) target: Option<Target>,
    /// Calibrate: run the plain model on this text, in place of the standard calibration. For q3 to q6, q8g and rate the inputs of
    /// each linear give error feedback (see `--effort`), for q8 and `--prune` an importance matrix
    #[arg(long, value_name = "FILE")]
    pub(crate) calibrate: Option<PathBuf>,
    /// Work done for q3 to q6, q8g and rate. `fast`: round each weight by itself. `good`: error feedback (GPTQ), in which each weight makes
    /// up for the rounding of those before it, and each linear for the errors of those before it. `best`: adjust all codes again after that, in
    /// half as much time again; those of rate stay. Without `--calibrate`, `good` and `best` calibrate on a standard text and on what the model writes itself [default: good with a
    /// calibration, else fast]
    #[arg(long, value_name = "EFFORT")]
    pub(crate) effort: Option<Effort>,
    /// Entropy-code the stored weights: the same codes in 1 to 7 % fewer bytes. `lossless` and `rate` always are
    #[arg(long)]
    pub(crate) entropy: bool,
    /// Bits per weight of the scheme `rate` [default: 4]
    #[arg(long, value_name = "BITS", value_parser = parse_rate, allow_negative_numbers = true)]
    pub(crate) bits_per_weight: Option<Rate>,
    /// Magnitude pruning: set this share of each row's weights to zero first, the smallest ones
    #[arg(long, value_name = "SHARE", value_parser = parse_prune, allow_negative_numbers = true)]
    pub(crate) prune: Option<Prune>,
    /// Fix α of z = 1/(1+α|x|) instead of fitting the curve to each row
    #[arg(long, value_name = "A", value_parser = parse_alpha, allow_negative_numbers = true)]
    pub(crate) alpha: Option<Alpha>,
}

impl EncodeArgs {
    /// The linears to encode.
    pub(crate) fn targets(&self) -> Targets {
        self.targets.clone().unwrap_or(Targets::Safe)
    }

    /// Whether a calibration is asked for, which is not made by default.
    pub(crate) fn asks_for_calibration(&self) -> bool {
        self.calibrate.is_some() || self.effort.is_some()
    }

    /// Checks that no option says how to encode, where nothing is encoded, or nothing `but_controls`, which have the targets.
    ///
    /// # Errors
    /// When one does.
    pub(crate) fn expect_none(&self, but_controls: bool) -> Result<(), String> {
        let options = [
            (self.alpha.is_some(), "--alpha"),
            (self.bits_per_weight.is_some(), "--bits-per-weight"),
            (self.prune.is_some(), "--prune"),
            (self.entropy, "--entropy"),
            (self.calibrate.is_some(), "--calibrate"),
            (self.effort.is_some(), "--effort"),
            (!self.overrides.is_empty(), "--override"),
            (self.targets.is_some() && !but_controls, "--targets"),
        ];
        match options.into_iter().find(|(given, _)| *given) {
            Some((_, name)) => Err(format!("expected a --scheme to encode with {name}, found none")),
            None => Ok(()),
        }
    }

    /// The recipe that encodes with `scheme` and these options; `None` when nothing is encoded.
    ///
    /// # Errors
    /// When an option is given that has no effect.
    pub(crate) fn recipe(&self, scheme: Option<Scheme>) -> Result<Option<Recipe>, String> {
        // With --target each linear gets its own scheme: which one is here makes no difference.
        let scheme = scheme.or(self.target.map(|_| Scheme::Q8g));
        match scheme {
            None => self.expect_none(false).map(|()| None),
            Some(scheme) => {
                if self.calibrate.is_some() && self.prune.is_none() && !self.any(scheme, Scheme::uses_importance) {
                    return Err(format!("expected a scheme that uses a calibration with --calibrate, found {scheme}"));
                }
                if let Some(effort) = self.effort {
                    if !self.any(scheme, Scheme::uses_feedback) {
                        return Err(format!("expected one of q3 to q6, q8g or rate with --effort, found {scheme}"));
                    }
                    if effort != Effort::Fast && self.prune.is_some() {
                        return Err(format!(
                            "expected no --prune with --effort {effort}, found one: pruned weights stay zeros"
                        ));
                    }
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
                    effort: self.effort.unwrap_or_default(),
                };
                Ok(Some(Recipe { coded: self.entropy, options, ..scheme.into() }))
            }
        }
    }

    /// Whether `scheme` or the scheme of an override satisfies `predicate`.
    fn any(&self, scheme: Scheme, predicate: impl Fn(Scheme) -> bool) -> bool {
        predicate(scheme) || self.overrides.iter().filter_map(Override::scheme).any(predicate)
    }

    fn rates(&self, scheme: Scheme) -> bool {
        self.any(scheme, |scheme| scheme == Scheme::Rate)
    }
}

#[cfg(feature = "burn")]
impl EncodeArgs {
    /// The settings, for the report, of a variant made with these options and this recipe.
    pub(crate) fn settings(&self, recipe: &Recipe) -> Settings {
        let rate = match recipe.options.rate {
            Rate::Bits(bits) if self.rates(recipe.scheme) => Some(bits),
            _ => None,
        };
        Settings {
            checkpoint: None,
            nominal_bits_per_weight: None,
            kv: None,
            computation: None,
            scheme: self.target.map_or(recipe.scheme.name(), |_| "mixture").to_owned(),
            targets: self.targets().to_string(),
            alpha: self.alpha.map(Alpha::get),
            target: self.target.map(|goal| goal.to_string()),
            overrides: self.overrides.iter().map(ToString::to_string).collect(),
            calibration: match (&self.calibrate, self.effort) {
                (Some(file), _) => Some(file.display().to_string()),
                (None, Some(Effort::Good | Effort::Best)) => Some("standard".to_owned()),
                (None, Some(Effort::Fast) | None) => None,
            },
            effort: self.effort.map(|effort| effort.to_string()),
            entropy: self.entropy,
            rate,
            prune: self.prune.map(Prune::get).filter(|share| *share > 0.0),
        }
    }
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
