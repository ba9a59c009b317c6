//! Rows of codes as the integer kernels read them.

use qins_codec::Curvature;

use super::{
    Rows, Simd,
    levels::{self, Companded, Curve, GroupLevels},
};
use crate::{GroupedRows, RowParts, Width};

/// A row of weights.
#[derive(Clone, Copy)]
pub(super) enum Row<'a> {
    Companded(CompandedRow<'a>),
    Grouped(GroupedRow<'a>),
}

/// A row whose integer weights are the levels of its codes.
#[derive(Clone, Copy)]
pub(super) struct CompandedRow<'a> {
    pub(super) codes: &'a [u8],
    pub(super) levels: &'a Companded,
}

/// A row whose integer weights are ⌊(t·(256·s) + 2¹⁴)/2¹⁵⌋, for the level t of a code and the scale s of its group. That is
/// the rounded high half of a product, which every instruction set computes. Where levels are bytes, t is 128·byte and the
/// weight is exactly byte·s.
#[derive(Clone, Copy)]
pub(super) struct GroupedRow<'a> {
    pub(super) width: Width,
    /// Of the length that [`Layout`](crate::Layout) gives, like the other parts. A block of columns is a super-block.
    pub(super) packed: &'a [u8],
    pub(super) group_scale: &'a [u8],
    pub(super) selector: &'a [u8],
    pub(super) levels: &'a GroupLevels,
}

/// What an integer weight of 1 stands for, in each block of a row.
#[derive(Clone, Copy)]
pub(super) enum BlockScale<'a> {
    /// The same in every block.
    Shared(f32),
    /// `unit` times the scale of the block.
    PerBlock { unit: f32, scales: &'a [f32] },
}

impl BlockScale<'_> {
    #[inline]
    pub(super) fn of(self, b: usize) -> f32 {
        match self {
            Self::Shared(unit) => unit,
            Self::PerBlock { unit, scales } => scales[b] * unit,
        }
    }
}

/// A matrix that is multiplied in integers.
pub(super) enum Matrix<'a> {
    Companded { codes: &'a [u8], stride: usize, scale: &'a [f32], curvature: &'a [f32] },
    Grouped { rows: GroupedRows<'a>, levels: GroupLevels },
}

impl<'a> Matrix<'a> {
    /// `None` for a form that is multiplied in floats.
    pub(super) fn new(w: Rows<'a>) -> Option<Self> {
        match w {
            Rows::Q8 { codes, stride, scale, curvature } => Some(Self::Companded { codes, stride, scale, curvature }),
            Rows::Grouped(rows) => Some(Self::Grouped { rows, levels: GroupLevels::new(&rows) }),
            Rows::Dense(_) | Rows::Half { .. } | Rows::F32 { .. } | Rows::Lossless { .. } | Rows::Rate { .. } => None,
        }
    }

    /// Whether weights are products of two signed bytes: a level and a scale.
    pub(super) fn has_byte_levels(&self) -> bool {
        matches!(self, Self::Grouped { rows, .. } if rows.layout.width().has_byte_levels())
    }

    /// Computes the levels of row `r`, of `cols` weights, where each row has its own.
    #[inline]
    pub(super) fn levels(&self, simd: Simd, r: usize, cols: usize, levels: &mut Companded) {
        if let Self::Companded { codes, stride, curvature, .. } = self {
            // Curvatures were checked when the matrix was made; an invalid one would count as linear.
            let k = Curvature::new(curvature[r]).unwrap_or(Curvature::LINEAR);
            levels::fill(simd, levels, Curve::new(k, &codes[r * stride..][..cols]));
        }
    }

    /// Row `r`, of `cols` weights, with its [`levels`](Self::levels).
    #[inline]
    pub(super) fn row<'r>(&'r self, r: usize, cols: usize, levels: &'r Companded) -> Row<'r> {
        match self {
            Self::Companded { codes, stride, .. } => {
                Row::Companded(CompandedRow { codes: &codes[r * stride..][..cols], levels })
            }
            Self::Grouped { rows, levels } => {
                let RowParts { packed, group_scale, selector, .. } = rows.row(r, cols);
                Row::Grouped(GroupedRow { width: rows.layout.width(), packed, group_scale, selector, levels })
            }
        }
    }

    /// The block scales of row `r`, of `cols` weights. Where each row has its own levels, `unit` is that of this row.
    #[inline]
    pub(super) fn block_scale(&self, r: usize, cols: usize, unit: f32) -> BlockScale<'_> {
        match self {
            Self::Companded { scale, .. } => BlockScale::Shared(scale[r] * unit),
            Self::Grouped { rows, .. } => {
                let supers = rows.layout.scales(cols);
                BlockScale::PerBlock {
                    unit: GroupLevels::unit(rows.layout.width()),
                    scales: &rows.scale[r * supers..][..supers],
                }
            }
        }
    }
}
