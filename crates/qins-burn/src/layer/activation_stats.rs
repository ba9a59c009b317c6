//! Statistics of a linear's inputs.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use burn::tensor::Tensor;

use crate::{Error, device::read};

/// Sums of squares of a linear's inputs. Clones share them, so that clones of a module record together.
#[derive(Clone, Debug, Default)]
pub(crate) struct ActivationStats(Arc<Mutex<Recorded>>);

#[derive(Debug, Default)]
struct Recorded {
    positions: usize,
    /// One per input channel; none before the first input.
    squares: Vec<f64>,
    /// The first error of reading an input.
    failure: Option<Error>,
}

impl ActivationStats {
    /// Adds `x[m, in]`.
    pub(crate) fn add(&self, x: &Tensor<2>) {
        let [m, channels] = x.dims();
        let x = read(x.clone());
        let mut recorded = self.recorded();
        let x = match x {
            Ok(x) => x,
            // The first error is kept, since it may cause later ones.
            Err(error) => return recorded.failure = recorded.failure.take().or(Some(error)),
        };
        recorded.positions += m;
        recorded.squares.resize(channels, 0.0);
        for row in x.chunks_exact(channels) {
            for (sum, &a) in recorded.squares.iter_mut().zip(row) {
                *sum += f64::from(a) * f64::from(a);
            }
        }
    }

    /// The mean square of each channel; `None` without inputs.
    ///
    /// # Errors
    /// When an input could not be read from the device.
    pub(crate) fn mean_squares(&self) -> Result<Option<Vec<f32>>, Error> {
        let mut recorded = self.recorded();
        if let Some(error) = recorded.failure.take() {
            return Err(error);
        }
        let mean = |sum: &f64| (sum / recorded.positions as f64) as f32;
        Ok((recorded.positions > 0).then(|| recorded.squares.iter().map(mean).collect()))
    }

    /// The sums are consistent even after a panic of a thread that held the lock.
    fn recorded(&self) -> MutexGuard<'_, Recorded> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
