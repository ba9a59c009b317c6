//! Statistics of a linear's inputs.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use burn::tensor::Tensor;
use qins_quant::Hessian;

use crate::{Error, device::read};

/// Statistics of a linear's inputs. Clones share them, so that clones of a module record together.
#[derive(Clone, Debug)]
pub(crate) struct ActivationStats(Arc<Mutex<Recorded>>);

#[derive(Debug)]
struct Recorded {
    sums: Sums,
    /// The first error of reading an input.
    failure: Option<Error>,
}

#[derive(Debug)]
enum Sums {
    /// Of squares, one per input channel; none before the first input.
    Squares { positions: usize, squares: Vec<f64> },
    /// Of products of any two channels; none before the first input.
    Products(Option<Hessian>),
}

impl ActivationStats {
    /// To sum squares.
    pub(crate) fn of_squares() -> Self {
        Self::new(Sums::Squares { positions: 0, squares: Vec::new() })
    }

    /// To sum products of any two channels.
    pub(crate) fn of_products() -> Self {
        Self::new(Sums::Products(None))
    }

    fn new(sums: Sums) -> Self {
        Self(Arc::new(Mutex::new(Recorded { sums, failure: None })))
    }

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
        match &mut recorded.sums {
            Sums::Squares { positions, squares } => {
                *positions += m;
                squares.resize(channels, 0.0);
                for row in x.chunks_exact(channels) {
                    for (sum, &a) in squares.iter_mut().zip(row) {
                        *sum += f64::from(a) * f64::from(a);
                    }
                }
            }
            Sums::Products(hessian) => {
                let added = hessian.get_or_insert_with(|| Hessian::new(channels)).add(&x);
                if let Err(source) = added {
                    let module = "a linear".to_owned();
                    recorded.failure = recorded.failure.take().or(Some(Error::Moments { module, source }));
                }
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
        Ok(match &recorded.sums {
            Sums::Squares { positions: 0, .. } | Sums::Products(None) => None,
            Sums::Squares { positions, squares } => {
                let mean = |sum: &f64| (sum / *positions as f64) as f32;
                Some(squares.iter().map(mean).collect())
            }
            Sums::Products(Some(hessian)) => hessian.mean_squares().ok(),
        })
    }

    /// Takes the sums of products; `None` without inputs, or if none were summed.
    ///
    /// # Errors
    /// When an input could not be read from the device.
    pub(crate) fn take_products(&self) -> Result<Option<Hessian>, Error> {
        let mut recorded = self.recorded();
        if let Some(error) = recorded.failure.take() {
            return Err(error);
        }
        Ok(match &mut recorded.sums {
            Sums::Squares { .. } => None,
            Sums::Products(hessian) => hessian.take(),
        })
    }

    /// The sums are consistent even after a panic of a thread that held the lock.
    fn recorded(&self) -> MutexGuard<'_, Recorded> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
