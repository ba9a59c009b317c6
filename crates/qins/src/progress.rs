//! What is told on stderr while work goes on.

use std::{
    io::{self, Write},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressStyle};

/// As [`progress`], in bytes.
pub(crate) fn bytes_progress(length: u64, message: String) -> ProgressBar {
    bar(length, message, "{msg:24} {bar:40} {bytes}/{total_bytes} {bytes_per_sec} {eta:>4} left")
}

/// A bar on stderr with an estimate of the time left; invisible where that is no terminal.
pub(crate) fn progress(length: u64, message: String) -> ProgressBar {
    bar(length, message, "{msg:24} {bar:40} {pos}/{len} {eta:>4} left")
}

fn bar(length: u64, message: String, template: &str) -> ProgressBar {
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    let bar = ProgressBar::new(length).with_style(style).with_message(message);
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

/// Something a user should know.
#[cfg(any(feature = "burn", feature = "hub"))]
pub(crate) fn note(text: &str) {
    // Where even stderr is closed, it goes unsaid.
    let _ = writeln!(io::stderr(), "note: {text}");
}
