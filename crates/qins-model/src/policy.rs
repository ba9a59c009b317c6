//! Policies: the scheme each linear of a model is stored in.

use std::{collections::BTreeMap, fmt, str::FromStr, sync::Arc};

use qins_quant::{Recipe, Scheme, convert::Part};
use wildmatch::WildMatch;

use crate::{Error, LinearSpec, ModelConfig, Targets, linears};

/// Which linears are encoded, and how.
#[derive(Clone, Debug)]
pub struct Policy {
    /// The linears that are encoded unless an override says otherwise.
    pub targets: Targets,
    /// The scheme and options they are encoded with.
    pub recipe: Recipe,
    /// Overrides for some linears; where several match, the last decides.
    pub overrides: Vec<Override>,
    /// Mean squares of linears' inputs from a calibration: weight errors are weighted by them.
    pub importance: Importance,
    /// Texts on which whoever encodes by this policy calibrates error feedback; without them each weight is rounded by itself.
    pub calibration: Option<Arc<CalibrationTexts>>,
    /// What the schemes in the overrides were chosen for by what the model writes after prompts, such as `kl=0.05`; a checkpoint says so.
    pub goal: Option<String>,
}

/// Token ids to calibrate error feedback on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CalibrationTexts {
    /// Texts that the plain model reads, each by itself.
    pub texts: Vec<Vec<u32>>,
    /// Tokens that texts begin with, beside those that these texts begin with: nearly every query attends to the first position.
    /// Where a tokenizer has a token for the beginning of a text, none are needed.
    pub firsts: Vec<u32>,
}

impl CalibrationTexts {
    /// The fewest texts that are held out: of fewer, the interval of a mean over texts says little.
    pub const HELD_OUT: usize = 8;

    /// The number of tokens in all texts.
    pub fn tokens(&self) -> usize {
        self.texts.iter().map(Vec::len).sum()
    }

    /// Three of each four texts, and every fourth: to calibrate on, and to measure on what no fit has seen. All and none, where these would
    /// be fewer than [`HELD_OUT`](Self::HELD_OUT).
    pub fn hold_out(&self) -> (Self, Vec<Vec<u32>>) {
        if self.texts.len() < 4 * Self::HELD_OUT {
            return (self.clone(), Vec::new());
        }
        let (mut texts, mut held_out) = (Vec::new(), Vec::new());
        for (i, text) in self.texts.iter().enumerate() {
            if i % 4 == 3 { &mut held_out } else { &mut texts }.push(text.clone());
        }
        (Self { texts, firsts: self.firsts.clone() }, held_out)
    }
}

/// Mean squares of linears' inputs, `[in]` each, by the linears' names.
pub type Importance = BTreeMap<String, Arc<[f32]>>;

/// An override: linears that match a pattern are stored in a scheme, or stay plain.
#[derive(Clone, Debug)]
pub struct Override {
    /// The pattern, as given.
    pattern: String,
    /// `None` leaves them plain.
    scheme: Option<Scheme>,
}

impl Policy {
    /// Encodes `targets` with `recipe`, without overrides.
    pub fn new(targets: Targets, recipe: impl Into<Recipe>) -> Self {
        let (overrides, importance) = (Vec::new(), Importance::new());
        Self { targets, recipe: recipe.into(), overrides, importance, calibration: None, goal: None }
    }

    /// Whether any linear may be encoded with error feedback, if there is a calibration.
    pub fn uses_feedback(&self) -> bool {
        let schemes = self.overrides.iter().filter_map(Override::scheme).chain([self.recipe.scheme]);
        schemes.into_iter().any(|scheme| Recipe { scheme, ..self.recipe.clone() }.uses_feedback())
    }

    /// The recipe of a linear; `None` when it stays plain.
    pub fn recipe(&self, spec: &LinearSpec) -> Option<Recipe> {
        let default = self.targets.contains(spec.kind).then_some(self.recipe.scheme);
        let scheme = self.exception(spec).map_or(default, |exception| exception.scheme)?;
        let importance = self.importance.get(&spec.module).cloned();
        Some(Recipe { scheme, importance, ..self.recipe.clone() })
    }

    /// The override that applies to a linear, if any.
    pub fn exception(&self, spec: &LinearSpec) -> Option<&Override> {
        self.overrides.iter().rfind(|exception| exception.matches(spec))
    }

    /// Checks that the targets and every override match a linear of the model.
    ///
    /// # Errors
    /// [`Error::Policy`] naming the targets or the first override that match none.
    pub fn check(&self, config: &ModelConfig) -> Result<(), Error> {
        let linears = linears(config);
        // For example, the head alone, where it shares the embedding's weights.
        if !linears.iter().any(|spec| self.targets.contains(spec.kind)) {
            let message = format!("expected targets to name a linear of the model, found none in `{}`", self.targets);
            return Err(Error::Policy(message));
        }
        match self.overrides.iter().find(|exception| !linears.iter().any(|spec| exception.matches(spec))) {
            None => Ok(()),
            Some(Override { pattern, .. }) => Err(Error::Policy(format!(
                "expected an override to match a linear of the model, found none like `{pattern}`"
            ))),
        }
    }

    /// The argument of [`qins_quant::convert::convert`]: the linears in a stored tensor, and the recipe of each.
    pub fn parts(&self, config: &ModelConfig) -> impl Fn(&str, &[usize]) -> Option<Vec<Part>> {
        let specs = linears(config);
        move |tensor, _| {
            let stored = tensor.strip_suffix(".weight")?;
            let parts: Vec<Part> = specs
                .iter()
                .filter_map(|spec| {
                    let rows = match &spec.fused {
                        Some((fused, _, rows)) if fused == stored => rows.clone(),
                        _ if spec.module == stored => 0..spec.shape[0],
                        _ => return None,
                    };
                    Some(Part { module: spec.module.clone(), rows, recipe: self.recipe(spec) })
                })
                .collect();
            (!parts.is_empty()).then_some(parts)
        }
    }
}

impl Override {
    /// An override of the linears whose role or name matches a pattern: see [`from_str`](Self::from_str).
    pub fn of(module: &str, scheme: Option<Scheme>) -> Self {
        Self { pattern: module.to_owned(), scheme }
    }

    /// The scheme; `None` leaves its linears plain.
    pub fn scheme(&self) -> Option<Scheme> {
        self.scheme
    }

    /// Whether it applies to this linear.
    fn matches(&self, spec: &LinearSpec) -> bool {
        let pattern = WildMatch::new(&self.pattern);
        [&spec.module, spec.kind.name(), spec.kind.short_name()].into_iter().any(|name| pattern.matches(name))
    }
}

impl fmt::Display for Override {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.pattern, self.scheme.map_or("none", Scheme::name))
    }
}

impl FromStr for Override {
    type Err = String;

    /// `PATTERN=SCHEME`: the pattern is a linear's role (`down_proj`, or `down`) or full name, in which `*` matches any characters
    /// and `?` any one; the scheme may be `none`.
    fn from_str(text: &str) -> Result<Self, String> {
        let (pattern, scheme) = text.split_once('=').filter(|(pattern, _)| !pattern.is_empty()).ok_or_else(|| {
            format!("expected PATTERN=SCHEME such as down_proj=q6 or model.layers.0.*=q8, found `{text}`")
        })?;
        let scheme = match scheme {
            "none" => None,
            name => Some(name.parse::<Scheme>().map_err(|e| e.to_string().replace("one of ", "one of none, "))?),
        };
        Ok(Self { pattern: pattern.to_owned(), scheme })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn held_out_texts_are_every_fourth_and_no_others() {
        let all = CalibrationTexts { texts: (0..34).map(|i| vec![i; 3]).collect(), firsts: vec![7] };
        let (rest, held_out) = all.hold_out();
        assert_eq!(held_out, [3, 7, 11, 15, 19, 23, 27, 31].map(|i| vec![i; 3]));
        assert_eq!(rest.texts.len() + held_out.len(), 34);
        assert!(rest.texts.iter().all(|text| all.texts.contains(text) && !held_out.contains(text)));
        assert_eq!(rest.firsts, all.firsts);
        let few = CalibrationTexts { texts: vec![vec![1]; 31], firsts: Vec::new() };
        assert_eq!(few.hold_out(), (few, Vec::new()));
    }
}
