//! What is stored for a weight, and how many bits it costs.

use std::{fmt, str::FromStr, sync::Arc};

use qins_codec::Alpha;

use crate::{Curves, EncodeError, EncodedTensor, FloatDtype, Layout, Prune, Rate, Width, grouped, rate};

/// How an encoded matrix rests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scheme {
    /// Pattern A as first validated: the encoded value itself, as `f32`, in the complement form
    /// `u = sign(x)·α|x|/(1+α|x|)`. Saves nothing; decodes to the very bits of a bf16 source up to |x| = 2¹⁶/α, of an
    /// f16 source up to 2¹¹/α.
    F32,
    /// The very bits of the source, entropy-coded in the file: about 10.5 bits per weight of bf16.
    Lossless,
    /// One byte per weight, and for each group of 32 a scale and one of four curves: 0.375 bits per weight, the same for
    /// all grouped schemes below.
    Q8g,
    /// One byte per weight: sign and seven bits of the companded magnitude, with an `f16` scale and an `f16` curvature
    /// per row.
    Q8,
    /// Six bits per weight and the parameters of groups.
    Q6,
    /// Five bits per weight and the parameters of groups.
    Q5,
    /// Four bits per weight and the parameters of groups.
    Q4,
    /// Three bits per weight and the parameters of groups.
    Q3,
    /// Whole numbers of one step, entropy-coded in the file at the bits per weight that were asked for
    /// ([`EncodeOptions::rate`]).
    Rate,
}

impl Scheme {
    /// Every scheme, in the order of their size; last the one that takes the size it is told.
    pub const ALL: [Self; 9] =
        [Self::F32, Self::Lossless, Self::Q8g, Self::Q8, Self::Q6, Self::Q5, Self::Q4, Self::Q3, Self::Rate];

    /// The form of what is stored.
    pub const fn form(self) -> Form {
        let width = match self {
            Self::F32 => return Form::F32,
            Self::Lossless => return Form::Lossless,
            Self::Q8 => return Form::Q8,
            Self::Rate => return Form::Rate,
            Self::Q8g => Width::W8,
            Self::Q6 => Width::W6,
            Self::Q5 => Width::W5,
            Self::Q4 => Width::W4,
            Self::Q3 => Width::W3,
        };
        Form::Grouped(Layout::new(width))
    }

    /// The name used in configuration files and on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Lossless => "lossless",
            Self::Q8g => "q8g",
            Self::Q8 => "q8",
            Self::Q6 => "q6",
            Self::Q5 => "q5",
            Self::Q4 => "q4",
            Self::Q3 => "q3",
            Self::Rate => "rate",
        }
    }

    /// Whether it is for files alone: what is read from them rests in memory as plain weights. Such a scheme is always
    /// entropy-coded, the others are where a [`Recipe`] says so.
    pub const fn is_for_files(self) -> bool {
        matches!(self, Self::Lossless | Self::Rate)
    }

    /// Whether the fit weighs errors by their importance; pruning does so under every scheme.
    pub const fn heeds_importance(self) -> bool {
        matches!(self.form(), Form::Q8 | Form::Grouped(_))
    }

    /// Whether every weight comes back as the bits it was, from a source of bf16.
    pub const fn is_lossless(self) -> bool {
        matches!(self, Self::F32 | Self::Lossless)
    }
}

/// What the schemes are by construction: all that handles what is stored asks for this, not for the scheme.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Whole values.
    F32,
    /// The source's own bits.
    Lossless,
    /// Rows of bytes.
    Q8,
    /// Whole numbers of a step.
    Rate,
    /// Groups of codes.
    Grouped(Layout),
}

impl Layout {
    /// The scheme whose layout this is.
    pub const fn scheme(self) -> Scheme {
        match self.width() {
            Width::W3 => Scheme::Q3,
            Width::W4 => Scheme::Q4,
            Width::W5 => Scheme::Q5,
            Width::W6 => Scheme::Q6,
            Width::W8 => Scheme::Q8g,
        }
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A scheme's name that is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown scheme `{0}`: expected one of {names}", names = Scheme::ALL.map(Scheme::name).join(", "))]
pub struct ParseSchemeError(String);

impl FromStr for Scheme {
    type Err = ParseSchemeError;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|s| s.name() == name).ok_or_else(|| ParseSchemeError(name.to_owned()))
    }
}

/// Choices an encoder leaves to its caller.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct EncodeOptions {
    /// A fixed α. Without it `f32` takes the report's α = 1 and `q8` fits a curvature to each row.
    ///
    /// For `q8` a fixed α means what it meant in the report: the codes divide the whole of z ∈ [0, 1], whatever range
    /// the weights use of it. The other schemes have no α to fix.
    pub alpha: Option<Alpha>,
    /// What [`Scheme::Rate`] shall cost; no other scheme asks.
    pub rate: Rate,
    /// Which curves the groups of a grouped scheme choose from; without it, those that suit the matrix.
    pub curves: Option<Curves>,
    /// The share of each row's weights to set to zero beforehand.
    pub prune: Prune,
}

/// How a matrix shall rest.
#[derive(Clone, Debug, PartialEq)]
pub struct Recipe {
    /// What is stored.
    pub scheme: Scheme,
    /// Whether a file holds it entropy-coded, beyond the schemes that always are.
    pub coded: bool,
    /// How it is encoded.
    pub options: EncodeOptions,
    /// How much the squared errors of each column count; see [`EncodedTensor::encode`](crate::EncodedTensor::encode).
    pub importance: Option<Arc<[f32]>>,
}

impl Recipe {
    /// Whether a file holds it entropy-coded.
    pub fn is_coded(&self) -> bool {
        self.coded || self.scheme.is_for_files()
    }

    /// Weights to look at before a matrix is encoded in bands, so that they have in common what is the whole matrix's.
    pub(crate) fn sample(&self) -> Option<usize> {
        match self.scheme.form() {
            Form::Rate => Some(rate::SAMPLE),
            Form::Grouped(_) if self.options.curves.is_none() => Some(grouped::SAMPLE),
            Form::F32 | Form::Lossless | Form::Q8 | Form::Grouped(_) => None,
        }
    }

    /// The recipe for a matrix of which these are a [`sample`](Self::sample), with its step or curves decided.
    pub(crate) fn settle(&self, mut sample: Vec<f32>, cols: usize) -> Result<Self, EncodeError> {
        // What is refused of the recipe is refused of no weights as well.
        EncodedTensor::encode_as(&[], [0, cols], FloatDtype::F32, self)?;
        let importance = self.importance.as_deref();
        sample.chunks_mut(cols.max(1)).for_each(|row| self.options.prune.row(row, importance));
        let mut options = self.options;
        match self.scheme.form() {
            Form::Rate => options.rate = Rate::Step(options.rate.step(&sample, cols)?),
            Form::Grouped(layout) => {
                let chosen = || grouped::choose(&sample, cols, layout, importance);
                options.curves = Some(options.curves.unwrap_or_else(chosen));
            }
            Form::F32 | Form::Lossless | Form::Q8 => {}
        }
        Ok(Self { options, ..self.clone() })
    }
}

impl From<Scheme> for Recipe {
    fn from(scheme: Scheme) -> Self {
        Self { scheme, coded: false, options: EncodeOptions::default(), importance: None }
    }
}
