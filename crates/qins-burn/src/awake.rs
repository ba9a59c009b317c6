//! Threads that wait for the next product awake.

use std::{
    hint,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use burn::tensor::Device;
use rayon::Yield;

use crate::kernel::on_cpu;

/// How long a thread without work stays awake.
const IDLE: Duration = Duration::from_millis(1);

/// Tokens from which products take so long that waking a thread does not matter.
const MANY: usize = 16;

/// The number of computations now.
static RUNNING: AtomicUsize = AtomicUsize::new(0);

/// Runs `f`, which reads so many tokens, within the thread pool. For a few tokens on a CPU its other threads look for work without a pause meanwhile: a
/// token is hundreds of short parallel steps, and a thread that sleeps between two of them takes longer to wake than many of them take. They do so
/// only while there is no other such computation: a thread that looks for work of one may be needed by the other.
pub(crate) fn awake<T: Send>(device: &Device, tokens: usize, f: impl FnOnce() -> T + Send) -> T {
    if tokens >= MANY || !on_cpu(device) || rayon::current_num_threads() == 1 {
        return rayon::scope(|_| f());
    }
    rayon::scope(|_| {
        let own = rayon::current_thread_index();
        let computation = Computation::begin();
        if computation.is_alone() {
            let ended = Arc::clone(&computation.ended);
            rayon::spawn_broadcast(move |thread| {
                let mut since = Instant::now();
                let goes_on = || !ended.load(Ordering::Relaxed) && RUNNING.load(Ordering::Relaxed) == 1;
                while Some(thread.index()) != own && goes_on() {
                    if rayon::yield_now() == Some(Yield::Executed) {
                        since = Instant::now();
                    } else if since.elapsed() > IDLE {
                        break;
                    }
                    hint::spin_loop();
                }
            });
        }
        f()
    })
}

/// A computation, until it is dropped: also by a panic.
struct Computation {
    ended: Arc<AtomicBool>,
    others: usize,
}

impl Computation {
    fn begin() -> Self {
        Self { ended: Arc::default(), others: RUNNING.fetch_add(1, Ordering::Relaxed) }
    }

    /// Whether there was no other when it began.
    fn is_alone(&self) -> bool {
        self.others == 0
    }
}

impl Drop for Computation {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        RUNNING.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use rayon::prelude::*;

    use super::*;

    #[test]
    fn computations_end_side_by_side_and_after_a_panic() {
        let device = crate::Backend::default().device().unwrap();
        let sum = |from: u64| awake(&device, 1, || (from..from + 10_000).into_par_iter().map(|x| x % 7).sum::<u64>());
        let expected: Vec<u64> = (0..20).map(|from| (from..from + 10_000).map(|x| x % 7).sum()).collect();
        // From several threads outside the pool, and from within it.
        let outside = std::thread::scope(|scope| {
            let all: Vec<_> = (0..20).map(|from| scope.spawn(move || sum(from))).collect();
            all.into_iter().map(|one| one.join().unwrap()).collect::<Vec<_>>()
        });
        assert_eq!(outside, expected);
        assert_eq!((0..20).into_par_iter().map(sum).collect::<Vec<_>>(), expected);
        let panics = || awake(&device, 1, || -> u64 { panic!("within") });
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(panics)).is_err());
        // While there is one, another runs all the same.
        let one = Computation::begin();
        assert!(!Computation::begin().is_alone());
        assert_eq!(sum(3), expected[3]);
        drop(one);
        assert_eq!(sum(4), expected[4]);
    }
}
