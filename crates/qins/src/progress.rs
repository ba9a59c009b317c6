//! Progress bars and notes on stderr.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// As [`progress`], in bytes.
pub(crate) fn bytes_progress(length: u64, message: String) -> ProgressBar {
    bar(length, message, "{msg:24} {bar:40} {bytes}/{total_bytes} {bytes_per_sec} {eta:>4} left")
}

/// A progress bar on stderr with an estimate of the time left; hidden when stderr is not a terminal.
pub(crate) fn progress(length: u64, message: String) -> ProgressBar {
    bar(length, message, "{msg:24} {bar:40} {pos}/{len} {eta:>4} left")
}

fn bar(length: u64, message: String, template: &str) -> ProgressBar {
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    let bar = ProgressBar::new(length).with_style(style).with_message(message);
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

/// Prints a note to stderr.
pub(crate) fn note(text: &str) {
    use std::io::{Write, stderr};

    // If stderr is closed, there is nowhere to print.
    let _ = writeln!(stderr(), "note: {text}");
}
