//! What an instruction set provides for the integer product.

use super::{
    Simd,
    activations::{ActivationRow, BLOCK},
    panel::{PANEL, Panel, Words},
    row::{BlockScale, Row},
};

/// An instruction set. A value of the type exists only on a machine that has it, which is what makes the methods safe.
///
/// Every implementation gives the same bits as [`Portable`](super::portable::Portable).
pub(super) trait Isa: Copy + Send + Sync {
    /// The value that selects it at run time.
    const SIMD: Simd;

    /// Whether [`totals`](Self::totals) reads [`ActivationRow::bytes`] for rows whose levels are bytes.
    const READS_BYTES: bool = false;

    /// Σ w·a of each block of a row.
    fn totals(self, row: &Row<'_>, a: ActivationRow<'_>, totals: &mut [i32]);

    /// Σ total·(step·scale) over the blocks of a row, added in the order of the blocks.
    fn sum(self, totals: &[i32], steps: &[f32], scale: BlockScale<'_>) -> f32;

    /// Decodes the weights of block `b`. What it writes beyond the row's end is arbitrary: activations there are zero.
    fn unpack(self, row: &Row<'_>, b: usize, words: &mut [i16; BLOCK]);

    /// Interleaves pairs of columns.
    fn interleave(self, words: &Words, panel: &mut Panel);

    /// Σ w·a of each row of a panel with each row of `x`, whose rows start `stride` values apart.
    fn panel_totals(self, panel: &Panel, x: &[i16], stride: usize, totals: &mut [[i32; PANEL]]);
}
