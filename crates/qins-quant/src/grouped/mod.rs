//! The fixed-rate schemes of 3 to 8 bits, in which 32 weights share a scale and one of four curves.
//!
//! A weight is x = (d·s)·t. Here d is the `f16` scale of its super-block of 256 weights, and s the signed byte that scales its
//! group of 32. The level t is [`Curvature::level`](qins_codec::Curvature::level) of its code q in −2ᵇ⁻¹..2ᵇ⁻¹, under the curve
//! j of the group; for b ≤ 5 it is rounded to a multiple of 1/127. There is one more level below zero than above: the sign of s
//! is chosen so that the largest weight of the group is on that side.

mod curves;
mod encode;
mod fit;
mod layout;
mod planes;
mod rows;
mod width;

pub use curves::Curves;
pub(crate) use curves::{SAMPLE, choose};
pub(crate) use encode::encode;
pub use layout::Layout;
pub(crate) use planes::unpack;
pub use rows::GroupedRows;
pub(crate) use rows::RowParts;
pub use width::Width;
pub(crate) use width::with_bits;

/// The stored parts of a grouped matrix. Each part is stored row by row; [`Layout`] gives the length of a row.
#[derive(Clone, Debug, PartialEq)]
pub struct Grouped {
    /// The layout of a row.
    pub layout: Layout,
    /// The packed codes.
    pub packed: Vec<u8>,
    /// The scale d of each super-block, exactly representable in `f16`.
    pub scale: Vec<f32>,
    /// The scale s of each group, a two's complement byte.
    pub group_scale: Vec<u8>,
    /// The curve j of each group, four to a byte.
    pub selector: Vec<u8>,
    /// The four curves, exactly representable in `f16`.
    pub curvature: Vec<f32>,
}

impl Grouped {
    /// The rows as kernels read them.
    pub fn rows(&self) -> GroupedRows<'_> {
        GroupedRows {
            layout: self.layout,
            align: 1,
            packed: &self.packed,
            scale: &self.scale,
            group_scale: &self.group_scale,
            selector: &self.selector,
            curvature: &self.curvature,
        }
    }
}
