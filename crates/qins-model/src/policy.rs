//! How each linear of a model shall rest.

use std::{collections::BTreeMap, fmt, str::FromStr, sync::Arc};

use qins_quant::{Recipe, Scheme, convert::Part};
use wildmatch::WildMatch;

use crate::{Error, LinearSpec, ModelConfig, Targets, linears};

/// Which linears are encoded, and how.
#[derive(Clone, Debug)]
pub struct Policy {
    /// The linears that are encoded unless an override says otherwise.
    pub targets: Targets,
    /// How they are.
    pub recipe: Recipe,
    /// Exceptions; where several match, the last decides.
    pub overrides: Vec<Override>,
    /// Mean squares of a linear's inputs, by its name, as a calibration gives them: an error in a
    /// weight counts by how large its inputs are.
    pub importance: Importance,
}

/// Mean squares of linears' inputs, `[in]` each, by the linears' names.
pub type Importance = BTreeMap<String, Arc<[f32]>>;

/// An exception: linears of this name rest in this scheme.
#[derive(Clone, Debug)]
pub struct Override {
    /// As it was written.
    pattern: String,
    /// `None` leaves them plain.
    scheme: Option<Scheme>,
}

impl Policy {
    /// `targets` as `recipe`, without exceptions.
    pub fn new(targets: Targets, recipe: impl Into<Recipe>) -> Self {
        Self { targets, recipe: recipe.into(), overrides: Vec::new(), importance: Importance::new() }
    }

    /// How a linear shall rest; `None` leaves it plain.
    pub fn recipe(&self, spec: &LinearSpec) -> Option<Recipe> {
        let default = self.targets.contains(spec.kind).then_some(self.recipe.scheme);
        let scheme = self.exception(spec).map_or(default, |exception| exception.scheme)?;
        let importance = self.importance.get(&spec.module).cloned();
        Some(Recipe { scheme, importance, ..self.recipe.clone() })
    }

    /// The override that decides of a linear, if one does.
    pub fn exception(&self, spec: &LinearSpec) -> Option<&Override> {
        self.overrides.iter().rfind(|exception| exception.matches(spec))
    }

    /// Checks that there are linears among the targets, and that every exception is one to some linear.
    ///
    /// # Errors
    /// Naming the targets, or the first exception that matches none.
    pub fn check(&self, config: &ModelConfig) -> Result<(), Error> {
        let linears = linears(config);
        // As a list of the head alone has none where the head is the embedding.
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

    /// What [`qins_quant::convert::convert`] asks: the linears in a stored tensor, and how each shall rest.
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
    /// Of the linears whose role or name is like this: see [`from_str`](Self::from_str).
    pub fn of(module: &str, scheme: Option<Scheme>) -> Self {
        Self { pattern: module.to_owned(), scheme }
    }

    /// The scheme; `None` leaves its linears plain.
    pub fn scheme(&self) -> Option<Scheme> {
        self.scheme
    }

    /// Whether it is one to this linear.
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

    /// `PATTERN=SCHEME`: the pattern is a linear's role (`down_proj`, or `down`) or full name, in which `*` stands for any
    /// letters and `?` for any one; the scheme may be `none`.
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
