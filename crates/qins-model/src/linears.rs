//! The linears of a model: their roles, and where their weights are stored in a checkpoint.

use std::ops::Range;

use qins_quant::checkpoint::{Checkpoint, Plain};

use crate::Error;

/// The role of a linear in the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs)]
pub enum LinearKind {
    Q,
    K,
    V,
    O,
    Gate,
    Up,
    Down,
    Embedding,
    Head,
    /// A linear with none of these roles.
    Other,
}

impl LinearKind {
    /// Every role.
    pub const ALL: [Self; 10] = [
        Self::Q,
        Self::K,
        Self::V,
        Self::O,
        Self::Gate,
        Self::Up,
        Self::Down,
        Self::Embedding,
        Self::Head,
        Self::Other,
    ];

    /// The last component of the module's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Q => "q_proj",
            Self::K => "k_proj",
            Self::V => "v_proj",
            Self::O => "o_proj",
            Self::Gate => "gate_proj",
            Self::Up => "up_proj",
            Self::Down => "down_proj",
            Self::Embedding => "embed_tokens",
            Self::Head => "lm_head",
            Self::Other => "other",
        }
    }

    /// The first of the linears of a block that have the same input.
    pub const fn first_of_input(self) -> Self {
        match self {
            Self::Q | Self::K | Self::V => Self::Q,
            Self::Gate | Self::Up => Self::Gate,
            Self::O | Self::Down | Self::Embedding | Self::Head | Self::Other => self,
        }
    }

    /// The name without its `_proj`.
    pub fn short_name(self) -> &'static str {
        self.name().trim_end_matches("_proj")
    }
}

/// A linear, and where its weights are stored in a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinearSpec {
    /// The module's full name, `model.layers.0.self_attn.v_proj`.
    pub module: String,
    /// Its role.
    pub kind: LinearKind,
    /// `[out, in]`.
    pub shape: [usize; 2],
    /// The fused matrix it may be part of: its module's name, its number of rows, and the rows of this linear.
    pub fused: Option<(String, usize, Range<usize>)>,
}

impl LinearSpec {
    /// The name of the tensor of a plain checkpoint that stores it, the tensor's number of rows, and the rows of this linear: the
    /// tensor of its own name, or, where there is none, the fused matrix.
    pub fn place(&self, checkpoint: &Checkpoint) -> (String, usize, Range<usize>) {
        let own = format!("{}.weight", self.module);
        match &self.fused {
            Some((fused, total, rows)) if !checkpoint.contains(&own) => {
                (format!("{fused}.weight"), *total, rows.clone())
            }
            _ => (own, self.shape[0], 0..self.shape[0]),
        }
    }

    /// The name of the tensor that stores it in a plain checkpoint, and its weights, `shape` row-major.
    ///
    /// # Errors
    /// When the tensor is missing, has another shape, or is not of a floating-point type.
    pub fn plain<'a>(&self, checkpoint: &'a Checkpoint) -> Result<(String, Plain<'a>), Error> {
        let (name, total, rows) = self.place(checkpoint);
        let plain = checkpoint.plain_rows(&name, [total, self.shape[1]], rows)?;
        Ok((name, plain))
    }

    /// Checks that this linear is encoded in `checkpoint` with its model's shape.
    ///
    /// # Errors
    /// When it is not encoded, or has another shape.
    pub fn expect_encoded_shape(&self, checkpoint: &Checkpoint) -> Result<(), Error> {
        let found = checkpoint.encoded_shape(&self.module)?;
        if found == self.shape {
            return Ok(());
        }
        let tensor = format!("{}.weight_shape", self.module);
        let message = format!("expected {:?}, found {found:?}", self.shape);
        Err(qins_quant::Error::tensor(checkpoint.path_of(&tensor), tensor, message).into())
    }
}
