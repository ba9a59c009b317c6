//! A row of codes as the integer kernels read it.

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

/// The whole number of a weight is that of its code's level.
#[derive(Clone, Copy)]
pub(super) struct CompandedRow<'a> {
    pub(super) codes: &'a [u8],
    pub(super) levels: &'a Companded,
}

/// The whole number of a weight is ⌊(t·(256·s) + 2¹⁴)/2¹⁵⌋ for a level t and the scale s of its group: the rounded high
/// half of a product, which all instruction sets have. Where levels are bytes, t = 128·byte and it is byte·s, exactly.
#[derive(Clone, Copy)]
pub(super) struct GroupedRow<'a> {
    pub(super) width: Width,
    /// [`Layout`](crate::Layout) says how long the parts are; a block is a super-block.
    pub(super) packed: &'a [u8],
    pub(super) group_scale: &'a [u8],
    pub(super) selector: &'a [u8],
    pub(super) levels: &'a GroupLevels,
}

/// What one stands for in a block of a row.
#[derive(Clone, Copy)]
pub(super) enum Units<'a> {
    /// In every block.
    One(f32),
    /// `unit` of the scale of each.
    Each { unit: f32, scales: &'a [f32] },
}

impl Units<'_> {
    #[inline]
    pub(super) fn of(self, b: usize) -> f32 {
        match self {
            Self::One(unit) => unit,
            Self::Each { unit, scales } => scales[b] * unit,
        }
    }
}

/// A matrix of such rows.
pub(super) enum Matrix<'a> {
    Companded { codes: &'a [u8], stride: usize, scale: &'a [f32], curvature: &'a [f32] },
    Grouped { rows: GroupedRows<'a>, levels: GroupLevels },
}

impl<'a> Matrix<'a> {
    /// `None` of a form that is not multiplied in whole numbers.
    pub(super) fn new(w: Rows<'a>) -> Option<Self> {
        match w {
            Rows::Q8 { codes, stride, scale, curvature } => Some(Self::Companded { codes, stride, scale, curvature }),
            Rows::Grouped(rows) => Some(Self::Grouped { rows, levels: GroupLevels::new(&rows) }),
            Rows::Dense(_) | Rows::Half { .. } | Rows::F32 { .. } | Rows::Lossless { .. } | Rows::Rate { .. } => None,
        }
    }

    /// Whether weights are products of two signed bytes.
    pub(super) fn has_byte_levels(&self) -> bool {
        matches!(self, Self::Grouped { rows, .. } if rows.layout.width().has_byte_levels())
    }

    /// Fills in the levels of row `r`, of `cols` weights, where rows have their own.
    #[inline]
    pub(super) fn levels(&self, simd: Simd, r: usize, cols: usize, levels: &mut Companded) {
        if let Self::Companded { codes, stride, curvature, .. } = self {
            // They were checked when the matrix was made; a curvature that is none is linear.
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

    /// What one stands for in the blocks of row `r`, of `cols` weights, whose levels have this unit if it has its own.
    #[inline]
    pub(super) fn units(&self, r: usize, cols: usize, unit: f32) -> Units<'_> {
        match self {
            Self::Companded { scale, .. } => Units::One(scale[r] * unit),
            Self::Grouped { rows, .. } => {
                let supers = rows.layout.scales(cols);
                Units::Each {
                    unit: GroupLevels::unit(rows.layout.width()),
                    scales: &rows.scale[r * supers..][..supers],
                }
            }
        }
    }
}
