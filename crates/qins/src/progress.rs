//! Progress bars and notes on stderr.

use std::{
    io::{self, Write},
    thread,
    time::Duration,
};

use indicatif::{ProgressBar, ProgressStyle};
use terminal_size::{Width, terminal_size_of};

/// Below this many columns a bar shows less.
const WIDE: u16 = 72;

/// How often work that is counted in bytes logs a line when stderr is not a terminal.
const LOG_INTERVAL: Duration = Duration::from_secs(30);

/// As [`progress`], in bytes; when stderr is not a terminal, a line is logged every half minute.
pub(crate) fn bytes_progress(length: u64, message: String) -> ProgressBar {
    let bar = bar(length, message, bytes_template(columns()));
    if bar.is_hidden() {
        log_every(&bar, LOG_INTERVAL, |line| print_line(&line));
    }
    bar
}

/// A progress bar on stderr with an estimate of the time left; hidden when stderr is not a terminal.
pub(crate) fn progress(length: u64, message: String) -> ProgressBar {
    bar(length, message, template(columns()))
}

fn columns() -> u16 {
    terminal_size_of(io::stderr()).map_or(80, |(Width(columns), _)| columns)
}

/// The bar takes what the rest leaves; every other part has a bound, so that the line fits the terminal.
fn bytes_template(columns: u16) -> &'static str {
    if columns < WIDE {
        "{msg:14!} {wide_bar} {percent:>3}% {bytes_per_sec:>12!} {eta:>4!}"
    } else {
        "{msg:20!} {wide_bar} {bytes:>10!}/{total_bytes:10!} {bytes_per_sec:>12!} {eta:>4!} left"
    }
}

fn template(columns: u16) -> &'static str {
    if columns < WIDE {
        "{msg:14!} {wide_bar} {pos:>6!}/{len:6!} {eta:>4!}"
    } else {
        "{msg:30!} {wide_bar} {pos:>8!}/{len:8!} {eta:>4!} left"
    }
}

fn bar(length: u64, message: String, template: &str) -> ProgressBar {
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    let bar = ProgressBar::new(length).with_style(style).with_message(message);
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

/// Passes on a line of progress at this interval, as long as the bar exists and is not finished.
fn log_every(bar: &ProgressBar, interval: Duration, print: impl Fn(String) + Send + 'static) {
    let bar = bar.downgrade();
    thread::spawn(move || {
        loop {
            thread::sleep(interval);
            match bar.upgrade() {
                Some(bar) if !bar.is_finished() => print(log_line(&bar)),
                _ => return,
            }
        }
    });
}

/// `model.safetensors: 12 %, 123 of 1024 MB, 35 s, about 256 s left`.
fn log_line(bar: &ProgressBar) -> String {
    let (done, total) = (bar.position(), bar.length().unwrap_or(0));
    let percent = (100.0 * done as f64 / total.max(1) as f64).floor();
    let [done, total] = [done, total].map(|bytes| bytes / 1_000_000);
    let (elapsed, left) = (bar.elapsed(), bar.length().unwrap_or(0).saturating_sub(bar.position()));
    let left = match bar.position() {
        0 => String::new(),
        position => format!(", about {:.0} s left", elapsed.as_secs_f64() * left as f64 / position as f64),
    };
    format!("{}: {percent} %, {done} of {total} MB, {} s{left}", bar.message(), elapsed.as_secs())
}

/// Prints a note to stderr.
pub(crate) fn note(text: &str) {
    print_line(&format!("note: {text}"));
}

fn print_line(text: &str) {
    // If stderr is closed, there is nowhere to print.
    let _ = writeln!(io::stderr(), "{text}");
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use indicatif::ProgressDrawTarget;

    use super::*;

    #[test]
    fn work_without_a_terminal_logs_until_it_ends() {
        let bar = ProgressBar::with_draw_target(Some(2_000_000_000), ProgressDrawTarget::hidden());
        bar.set_message("model.safetensors");
        bar.set_position(250_000_000);
        let (sender, lines) = channel();
        log_every(&bar, Duration::from_millis(2), move |line| sender.send(line).unwrap());
        assert_eq!(lines.recv().unwrap(), "model.safetensors: 12 %, 250 of 2000 MB, 0 s, about 0 s left");
        bar.finish();
        // The thread ends, and with it the channel.
        assert!(lines.iter().count() < 1000);
    }
}
