//! The panel of weights that the product with many rows of activations works on.

use super::activations::BLOCK;

/// Rows of weights that are multiplied together.
pub(super) const PANEL: usize = 32;

/// One block of columns of each row of a panel.
pub(super) type Words = [[i16; BLOCK]; PANEL];

/// The same weights interleaved: for each pair of columns, that pair of every row.
#[derive(Clone)]
#[repr(C, align(64))]
pub(super) struct Panel(pub(super) [[[i16; 2]; PANEL]; BLOCK / 2]);
