//! What passes into a linear, summed up on the way.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use burn::tensor::Tensor;

use crate::{Error, device::read};

/// Sums the squares of a linear's inputs, per channel. Clones share one sum: a module can be cloned, and so must its parts.
#[derive(Clone, Debug, Default)]
pub(crate) struct ActivationStats(Arc<Mutex<Sums>>);

#[derive(Debug, Default)]
struct Sums {
    positions: usize,
    /// One per input channel; none before the first input.
    squares: Vec<f64>,
    /// What kept an input from being read.
    failure: Option<Error>,
}

impl ActivationStats {
    /// Takes in `x[m, in]`.
    pub(super) fn add(&self, x: &Tensor<2>) {
        let [m, channels] = x.dims();
        let x = read(x.clone());
        let mut sums = self.sums();
        let x = match x {
            Ok(x) => x,
            // The first is told, as later ones come of it.
            Err(error) => return sums.failure = sums.failure.take().or(Some(error)),
        };
        sums.positions += m;
        sums.squares.resize(channels, 0.0);
        for row in x.chunks_exact(channels) {
            for (sum, &a) in sums.squares.iter_mut().zip(row) {
                *sum += f64::from(a) * f64::from(a);
            }
        }
    }

    /// The mean square of each channel; `None` when nothing came in.
    ///
    /// # Errors
    /// When the device failed at an input.
    pub(crate) fn mean_squares(&self) -> Result<Option<Vec<f32>>, Error> {
        let mut sums = self.sums();
        if let Some(error) = sums.failure.take() {
            return Err(error);
        }
        let mean = |sum: &f64| (sum / sums.positions as f64) as f32;
        Ok((sums.positions > 0).then(|| sums.squares.iter().map(mean).collect()))
    }

    /// Sums are whole at any time, also after a thread that held them has panicked.
    fn sums(&self) -> MutexGuard<'_, Sums> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
