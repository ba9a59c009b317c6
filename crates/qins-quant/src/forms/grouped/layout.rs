//! The lengths of the parts of a row.

use super::Width;

/// The layout of a grouped scheme. The codes of a row are a whole number of 32-bit words. Its scales and selectors are single
/// bytes, which are padded to words in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    width: Width,
}

impl Layout {
    /// Weights that share a scale and a curve.
    pub const GROUP: usize = 32;

    /// Groups that share an `f16` scale.
    pub const SUPER: usize = 8;

    /// Curves that a group can use.
    pub const CURVES: usize = 4;

    /// The layout of codes of this width.
    pub(crate) const fn new(width: Width) -> Self {
        Self { width }
    }

    /// The width of a code.
    pub const fn width(self) -> Width {
        self.width
    }

    /// Bytes of the codes of one group.
    pub const fn group_bytes(self) -> usize {
        Self::GROUP / 8 * self.width.bits()
    }

    /// Bytes of the codes of a row, whose last group is padded.
    pub const fn packed(self, cols: usize) -> usize {
        cols.div_ceil(Self::GROUP).saturating_mul(self.group_bytes())
    }

    /// Super-blocks per row: one `f16` scale each.
    pub const fn scales(self, cols: usize) -> usize {
        cols.div_ceil(Self::GROUP * Self::SUPER)
    }

    /// Bytes of the group scales of a row: one per group.
    pub const fn group_scales(self, cols: usize) -> usize {
        cols.div_ceil(Self::GROUP)
    }

    /// Bytes of the selectors of a row: four groups per byte.
    pub const fn selectors(self, cols: usize) -> usize {
        cols.div_ceil(4 * Self::GROUP)
    }
}
