//! Rows of codes as the integer kernels read them.

use qins_codec::Curvature;

#[cfg(target_arch = "x86_64")]
use super::prefetch::next_line;
use super::{
    Rows, Simd,
    activations::BLOCK,
    levels::{self, Companded, Curve, GroupLevels},
};
use crate::{GroupedRows, RowParts, Width};

/// A row of weights, with the levels of its codes.
#[derive(Clone, Copy)]
pub(super) enum Row<'a> {
    Companded(CompandedRow<'a>, &'a Companded),
    Grouped(GroupedRow<'a>),
}

/// A row whose integer weights are the levels of its codes.
#[derive(Clone, Copy)]
pub(super) struct CompandedRow<'a> {
    pub(super) codes: &'a [u8],
    pub(super) curve: Curve,
    /// What an integer weight of 1 stands for.
    pub(super) unit: f32,
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
    /// One per block: a weight of 1 stands for [`GroupLevels::unit`] times it.
    pub(super) scale: &'a [f32],
    pub(super) levels: &'a GroupLevels,
}

impl Row<'_> {
    /// The codes, and how many bytes of them a block has.
    pub(super) fn codes(&self) -> (&[u8], usize) {
        match self {
            Self::Companded(row, _) => (row.codes, BLOCK),
            Self::Grouped(row) => (row.packed, BLOCK / 8 * row.width.bits()),
        }
    }

    /// What an integer weight of 1 stands for in block `b`.
    #[inline(always)]
    pub(super) fn unit(&self, b: usize) -> f32 {
        match self {
            Self::Companded(row, _) => row.unit,
            Self::Grouped(row) => row.unit(b),
        }
    }
}

impl GroupedRow<'_> {
    /// What an integer weight of 1 stands for in block `b`.
    #[inline(always)]
    pub(super) fn unit(&self, b: usize) -> f32 {
        self.scale[b] * GroupLevels::unit(self.width)
    }
}

/// A matrix that is multiplied in integers.
pub(super) enum Matrix<'a> {
    Companded(CompandedMatrix<'a>),
    Grouped(GroupedMatrix<'a>),
}

/// A matrix of [`CompandedRow`]s.
pub(super) struct CompandedMatrix<'a> {
    cols: usize,
    codes: &'a [u8],
    stride: usize,
    scale: &'a [f32],
    curvature: &'a [f32],
}

/// A matrix of [`GroupedRow`]s.
pub(super) struct GroupedMatrix<'a> {
    cols: usize,
    rows: GroupedRows<'a>,
    pub(super) levels: GroupLevels,
}

impl<'a> Matrix<'a> {
    /// A matrix of `cols` columns. `None` for a form that is multiplied in floats.
    pub(super) fn new(w: Rows<'a>, cols: usize) -> Option<Self> {
        match w {
            Rows::Q8 { codes, stride, scale, curvature } => {
                Some(Self::Companded(CompandedMatrix { cols, codes, stride, scale, curvature }))
            }
            Rows::Grouped(rows) => Some(Self::Grouped(GroupedMatrix { cols, rows, levels: GroupLevels::new(&rows) })),
            Rows::Dense(_) | Rows::Half { .. } | Rows::F32 { .. } | Rows::Lossless { .. } | Rows::Rate { .. } => None,
        }
    }

    /// Whether weights are products of two signed bytes: a level and a scale.
    pub(super) fn has_byte_levels(&self) -> bool {
        matches!(self, Self::Grouped(w) if w.width().has_byte_levels())
    }

    /// Row `r`. `levels` is filled where each row has its own.
    #[inline]
    pub(super) fn row<'r>(&'r self, simd: Simd, r: usize, levels: &'r mut Companded) -> Row<'r> {
        match self {
            Self::Companded(w) => {
                let row = w.row(r);
                levels::fill(simd, levels, row.curve);
                Row::Companded(row, levels)
            }
            Self::Grouped(w) => Row::Grouped(w.row(r)),
        }
    }
}

impl<'a> CompandedMatrix<'a> {
    /// Row `r`.
    #[inline]
    pub(super) fn row(&self, r: usize) -> CompandedRow<'a> {
        let codes = &self.codes[r * self.stride..][..self.cols];
        // Curvatures were checked when the matrix was made; an invalid one would count as linear.
        let curve = Curve::new(Curvature::new(self.curvature[r]).unwrap_or(Curvature::LINEAR), codes);
        CompandedRow { codes, curve, unit: self.scale[r] * curve.unit }
    }

    /// Prefetches the scales and curvatures of rows that come soon after row `r`.
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    pub(super) fn fetch_after(&self, r: usize) {
        next_line(self.scale, r);
        next_line(self.curvature, r);
    }
}

impl GroupedMatrix<'_> {
    /// The width of its codes.
    #[inline]
    pub(super) fn width(&self) -> Width {
        self.rows.layout.width()
    }

    /// Groups per row.
    #[cfg_attr(not(target_arch = "x86_64"), expect(dead_code, reason = "only AVX-512 asks"))]
    pub(super) fn groups(&self) -> usize {
        self.rows.layout.group_scales(self.cols)
    }

    /// Row `r`.
    #[inline(always)]
    pub(super) fn row(&self, r: usize) -> GroupedRow<'_> {
        let RowParts { packed, group_scale, selector, scale } = self.rows.row(r, self.cols);
        GroupedRow { width: self.width(), packed, group_scale, selector, scale, levels: &self.levels }
    }
}
