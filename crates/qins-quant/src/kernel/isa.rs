//! What an instruction set provides for the integer product.

use super::{
    Simd,
    activations::{Activations, BLOCK},
    panel::{PANEL, Products, Tile, Words},
    row::{Matrix, Row},
};

/// An instruction set. A value of the type exists only on a machine that has it, which is what makes the methods safe.
///
/// Every implementation gives the same bits as [`Portable`](super::portable::Portable).
pub(super) trait Isa: Copy + Send + Sync {
    /// The value that selects it at run time.
    const SIMD: Simd;

    /// Arranges what [`gemv`](Self::gemv) reads of activations.
    fn arrange(self, w: &Matrix<'_>, x: &mut Activations) {
        let _ = (w, x);
    }

    /// Multiplies consecutive rows of weights by each row of `x`: `out[i·m + j]` is the product of row `first + i` with row `j`.
    /// All rows of a task are one call, so that what they share stays in registers.
    fn gemv(self, w: &Matrix<'_>, x: &Activations, first: usize, out: &mut [f32]);

    /// Decodes the weights of block `b`. What it writes beyond the row's end is arbitrary: activations there are zero.
    fn unpack(self, row: &Row<'_>, b: usize, words: &mut [i16; BLOCK]);

    /// Adds the products of one block of columns: `y[t][r][j] += Σ w[r]·x[t][j] · (step·unit)`.
    fn add_products(self, w: &Words, units: &[f32; PANEL], x: &[Tile], y: &mut [Products]);
}
