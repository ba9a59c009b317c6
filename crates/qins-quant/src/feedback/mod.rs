//! Error feedback: what rounding one column of a matrix does to the output is made up for by the columns after it.
//!
//! The error of a product x·Wᵀ, over inputs whose second moments are H = `E[xxᵀ]`, is Σ e·H·eᵀ over the rows e = w − q of the
//! weights' errors. With H = R·Rᵀ, R upper triangular, it is Σⱼ Dⱼ·(cⱼ − qⱼ)² for Dⱼ = Rⱼⱼ² and cⱼ = wⱼ + Σᵢ﹤ⱼ eᵢ·Lᵢⱼ with Lᵢⱼ =
//! Rᵢⱼ/Rⱼⱼ: each column is rounded from what the errors before it leave to make up for (GPTQ; LDLQ in QuIP's terms).

mod cholesky;
mod drift;
mod effort;
mod factor;
mod hessian;
mod order;
mod sweep;

pub(crate) use drift::ROWS as CORRECTED_ROWS;
pub use effort::Effort;
pub(crate) use factor::Block;
pub use factor::Feedback;
pub use hessian::{Hessian, HessianError};
pub(crate) use sweep::{BLOCK, ROWS as FEEDBACK_ROWS, Rounding, Target, padded, sweep};

use std::{error::Error, sync::Arc};

use crate::EncodedTensor;

/// What is known of the inputs of a model's linears, computed as an encoder asks for it.
pub trait Calibration {
    /// The place of a linear in the order in which asking is cheap; `None` if nothing is known of it.
    fn place(&self, module: &str) -> Option<usize>;

    /// The mean square of each of a linear's inputs; `None` if nothing is known of them.
    ///
    /// # Errors
    /// When it cannot be computed.
    fn importance(&mut self, module: &str) -> Result<Option<Arc<[f32]>>, Box<dyn Error + Send + Sync>>;

    /// The feedback for a linear; `None` if nothing is known of its inputs.
    ///
    /// # Errors
    /// When it cannot be computed.
    fn feedback(&mut self, module: &str) -> Result<Option<Arc<Feedback>>, Box<dyn Error + Send + Sync>>;

    /// Whether it is told of a linear's [encoded weights](Self::encoded).
    fn follows(&self, _module: &str) -> bool {
        false
    }

    /// Takes the encoded weights of the linear that was asked for last, so that linears after it make up for their errors too.
    ///
    /// # Errors
    /// When it fails.
    fn encoded(&mut self, _module: &str, _weights: &EncodedTensor) -> Result<(), Box<dyn Error + Send + Sync>> {
        Ok(())
    }
}
