//! The stages of long work on stderr: progress bars at a terminal, log lines elsewhere.

use std::{
    io::{self, Write},
    sync::{LazyLock, Mutex, PoisonError},
    time::{Duration, Instant},
};

use indicatif::ProgressBar;
use qins_eval::Progress;

use crate::{
    interrupt,
    progress::{note, progress},
};

/// As [`progress`], for a stage that may take long: when stderr is not a terminal, a log line is printed at its start, unless the
/// program has just begun.
pub(crate) fn stage(length: u64, message: String) -> ProgressBar {
    static FIRST: LazyLock<Instant> = LazyLock::new(Instant::now);
    let bar = progress(length, message);
    if let Some(line) = log(FIRST.elapsed(), &bar.message(), length).filter(|_| bar.is_hidden()) {
        // Failing to write a log line must not stop the work.
        let _ = writeln!(io::stderr(), "{line}");
    }
    bar
}

/// The log line; none in the first two minutes, so that short runs print only their result.
fn log(since: Duration, message: &str, length: u64) -> Option<String> {
    let (minutes, seconds) = (since.as_secs() / 60, since.as_secs() % 60);
    (minutes >= 2).then(|| format!("{minutes:4}:{seconds:02} {message} ({length})"))
}

/// The stages of an evaluation, each with a progress bar.
#[derive(Default)]
pub(crate) struct Bars(Mutex<Vec<ProgressBar>>);

impl Bars {
    fn with_bars(&self, act: impl FnOnce(&mut Vec<ProgressBar>)) {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl Progress for Bars {
    fn begin(&self, name: &str, steps: usize) {
        self.with_bars(|bars| bars.push(stage(steps as u64, name.to_owned())));
    }

    fn step(&self) {
        self.with_bars(|bars| bars.iter().next_back().into_iter().for_each(|bar| bar.inc(1)));
    }

    fn end(&self) {
        self.with_bars(|bars| bars.pop().into_iter().for_each(|bar| bar.finish_and_clear()));
    }

    fn note(&self, text: &str) {
        note(text);
    }

    fn is_cancelled(&self) -> bool {
        interrupt::requested()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_line_is_printed_after_two_minutes() {
        let line = |seconds| log(Duration::from_secs(seconds), "scoring q8", 57);
        assert_eq!(line(119), None);
        assert_eq!(line(3725), Some("  62:05 scoring q8 (57)".to_owned()));
    }
}
