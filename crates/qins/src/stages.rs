//! The stages of long work on stderr: bars at a terminal, lines of a log elsewhere.

use std::{
    io::{self, Write},
    sync::{LazyLock, Mutex, PoisonError},
    time::{Duration, Instant},
};

use indicatif::ProgressBar;
use qins_eval::Progress;

use crate::progress::{note, progress};

/// As [`progress`], of a stage of work that may take long: where stderr is no terminal and minutes have gone by, a line of a log
/// says that it began.
pub(crate) fn stage(length: u64, message: String) -> ProgressBar {
    static FIRST: LazyLock<Instant> = LazyLock::new(Instant::now);
    let bar = progress(length, message);
    if let Some(line) = log(FIRST.elapsed(), &bar.message(), length).filter(|_| bar.is_hidden()) {
        // A log that cannot be written is no reason to stop.
        let _ = writeln!(io::stderr(), "{line}");
    }
    bar
}

/// The line of a log, unless work has only begun: what is soon done says nothing but its result.
fn log(since: Duration, message: &str, length: u64) -> Option<String> {
    let (minutes, seconds) = (since.as_secs() / 60, since.as_secs() % 60);
    (minutes >= 2).then(|| format!("{minutes:4}:{seconds:02} {message} ({length})"))
}

/// The stages of an evaluation, each with a bar.
#[derive(Default)]
pub(crate) struct Bars(Mutex<Vec<ProgressBar>>);

impl Bars {
    fn innermost(&self, act: impl FnOnce(&mut Vec<ProgressBar>)) {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl Progress for Bars {
    fn begin(&self, name: &str, steps: usize) {
        self.innermost(|bars| bars.push(stage(steps as u64, name.to_owned())));
    }

    fn step(&self) {
        self.innermost(|bars| bars.iter().next_back().into_iter().for_each(|bar| bar.inc(1)));
    }

    fn end(&self) {
        self.innermost(|bars| bars.pop().into_iter().for_each(|bar| bar.finish_and_clear()));
    }

    fn note(&self, text: &str) {
        note(text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_long_work_leaves_a_log() {
        let line = |seconds| log(Duration::from_secs(seconds), "scoring q8", 57);
        assert_eq!(line(119), None);
        assert_eq!(line(3725), Some("  62:05 scoring q8 (57)".to_owned()));
    }
}
