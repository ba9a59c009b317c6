//! Counting GPU kernel launches.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use burn_cubecl::cubecl::logging::{LaunchObservation, LaunchObserver};

#[derive(Default)]
struct Counts(Mutex<BTreeMap<String, usize>>);

impl LaunchObserver for Counts {
    fn launched(&self, kernel: &'static str) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry(kernel.to_owned()).or_default() += 1;
    }
}

/// The kernels that this process launches while `f` runs, and the number of launches of each.
pub(super) fn count<R>(f: impl FnOnce() -> R) -> (R, BTreeMap<String, usize>) {
    let counts = Arc::new(Counts::default());
    let observation = LaunchObservation::new(counts.clone());
    let result = f();
    drop(observation);
    let counts = counts.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
    (result, counts)
}
