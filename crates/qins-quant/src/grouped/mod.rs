//! The fixed-rate schemes of 3 to 8 bits: 32 weights share a scale and one of four curves.
//!
//! Weight i of a row is x = (d·s)·t: d is the `f16` scale of its super-block of 256, s the signed byte and j the curve of
//! its group of 32, and t = [`Curvature::level`](qins_codec::Curvature::level) of its code q in −2ᵇ⁻¹..2ᵇ⁻¹ under that
//! curve, where b ≤ 5 rounded to a whole number of 1/127. All 2ᵇ codes are levels; since there is one more below zero than above, the sign of s turns a group so that
//! its largest weight lies on the longer side.

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

/// The stored form of a matrix of groups. Rows follow each other in every part; [`Layout`] says how long they are.
#[derive(Clone, Debug, PartialEq)]
pub struct Grouped {
    /// The form of a row.
    pub layout: Layout,
    /// Codes.
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
