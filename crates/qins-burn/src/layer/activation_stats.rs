//! Statistics of a linear's inputs.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use burn::tensor::Tensor;

use crate::{Error, device::read};

/// Sums of the squares of a linear's inputs, per channel. Clones share the sums, so that clones of a module record together.
#[derive(Clone, Debug, Default)]
pub(crate) struct ActivationStats(Arc<Mutex<Sums>>);

#[derive(Debug, Default)]
struct Sums {
    positions: usize,
    /// One per input channel; empty before the first input.
    squares: Vec<f64>,
    /// The first error of reading an input.
    failure: Option<Error>,
}

impl ActivationStats {
    /// Adds `x[m, in]`.
    pub(super) fn add(&self, x: &Tensor<2>) {
        let [m, channels] = x.dims();
        let x = read(x.clone());
        let mut sums = self.sums();
        let x = match x {
            Ok(x) => x,
            // The first error is kept, since it may cause later ones.
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

    /// The mean square of each channel; `None` without inputs.
    ///
    /// # Errors
    /// When an input could not be read from the device.
    pub(crate) fn mean_squares(&self) -> Result<Option<Vec<f32>>, Error> {
        let mut sums = self.sums();
        if let Some(error) = sums.failure.take() {
            return Err(error);
        }
        let mean = |sum: &f64| (sum / sums.positions as f64) as f32;
        Ok((sums.positions > 0).then(|| sums.squares.iter().map(mean).collect()))
    }

    /// The sums are consistent even after a panic of a thread that held the lock.
    fn sums(&self) -> MutexGuard<'_, Sums> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
