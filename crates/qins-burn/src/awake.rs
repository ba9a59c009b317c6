//! Threads that wait for the next product awake.

use std::{
    hint,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use rayon::Yield;

/// How long a thread without work stays awake.
const IDLE: Duration = Duration::from_millis(1);

/// Whether threads are kept awake for some computation.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// Runs `f` within the thread pool, while its other threads look for work without a pause: a token is hundreds of short parallel steps, and a thread
/// that sleeps between two of them takes longer to wake than many of them take. For one computation at a time: a thread that waited on behalf of
/// another would hold up the first.
pub(crate) fn awake<T: Send>(f: impl FnOnce() -> T + Send) -> T {
    rayon::scope(|_| {
        let own = rayon::current_thread_index();
        let _ended = Computation::begin().inspect(|Computation(ended)| {
            let ended = Arc::clone(ended);
            rayon::spawn_broadcast(move |thread| {
                let mut since = Instant::now();
                while Some(thread.index()) != own && !ended.load(Ordering::Relaxed) {
                    if rayon::yield_now() == Some(Yield::Executed) {
                        since = Instant::now();
                    } else if since.elapsed() > IDLE {
                        break;
                    }
                    hint::spin_loop();
                }
            });
        });
        f()
    })
}

/// What threads are kept awake for; once it is dropped, also by a panic, they no longer are.
struct Computation(Arc<AtomicBool>);

impl Computation {
    /// `None` if there is another.
    fn begin() -> Option<Self> {
        let is_free = rayon::current_num_threads() > 1 && !TAKEN.swap(true, Ordering::Relaxed);
        is_free.then(|| Self(Arc::default()))
    }
}

impl Drop for Computation {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
        TAKEN.store(false, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use rayon::prelude::*;

    use super::*;

    #[test]
    fn computations_end_side_by_side_and_after_a_panic() {
        let sum = |from: u64| awake(|| (from..from + 10_000).into_par_iter().map(|x| x % 7).sum::<u64>());
        let expected: Vec<u64> = (0..20).map(|from| (from..from + 10_000).map(|x| x % 7).sum()).collect();
        // From several threads outside the pool, and from within it.
        let outside = std::thread::scope(|scope| {
            let all: Vec<_> = (0..20).map(|from| scope.spawn(move || sum(from))).collect();
            all.into_iter().map(|one| one.join().unwrap()).collect::<Vec<_>>()
        });
        assert_eq!(outside, expected);
        assert_eq!((0..20).into_par_iter().map(sum).collect::<Vec<_>>(), expected);
        assert!(std::panic::catch_unwind(|| awake(|| -> u64 { panic!("within") })).is_err());
        // Another test may have one now.
        let free = || Computation::begin().or_else(|| (std::thread::sleep(IDLE), None).1);
        let again = (0..2000).find_map(|_| free());
        assert_eq!(again.is_some(), rayon::current_num_threads() > 1);
        // While one is kept awake for, another runs all the same.
        assert!(Computation::begin().is_none());
        assert_eq!(sum(3), expected[3]);
    }
}
