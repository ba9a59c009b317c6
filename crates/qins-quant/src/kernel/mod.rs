//! Products with a matrix that stays encoded, on plain slices.

mod linear;
mod rows;

pub use linear::{linear, naive};
pub use rows::Rows;
