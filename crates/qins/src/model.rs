//! Opening and loading models, with progress.

use std::{
    error::Error,
    io::{self, Write},
    sync::LazyLock,
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};
use qins_burn::{Device, Loaded, Policy, load};
use qins_quant::checkpoint::{Checkpoint, Files};

use crate::{
    args::ModelArgs,
    embedded,
    hub::{self, Fetched, HubName},
};

/// An open model directory.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) name: String,
    pub(crate) checkpoint: Checkpoint,
}

impl Source {
    pub(crate) fn open(args: &ModelArgs) -> Result<Self, Box<dyn Error>> {
        let (name, files) = match &args.model {
            Some(model) => match HubName::of(model) {
                Some(name) => {
                    let Fetched { dir, commit } = hub::fetch(&name)?;
                    (format!("{}@{commit}", name.repository()), Files::Directory(dir))
                }
                None => (model.display().to_string(), Files::Directory(model.clone())),
            },
            None => ("atlas (embedded)".to_owned(), embedded::files()),
        };
        Ok(Self { name, checkpoint: Checkpoint::open(files)? })
    }

    pub(crate) fn is_embedded(&self) -> bool {
        matches!(self.files(), Files::Embedded { .. })
    }

    pub(crate) fn files(&self) -> &Files {
        self.checkpoint.files()
    }

    /// Loads the model, its linears encoded by `policy`; without one as they are.
    pub(crate) fn load(&self, policy: Option<&Policy>, device: &Device) -> Result<Loaded, Box<dyn Error>> {
        let what = policy.map_or("plain".to_owned(), |policy| policy.recipe.scheme.to_string());
        let bar = progress(0, format!("loading {what}"));
        let loaded = load(&self.checkpoint, policy, device, |done, total| {
            bar.set_length(total as u64);
            bar.set_position(done as u64);
        })?;
        bar.finish_and_clear();
        if !loaded.report.unused.is_empty() {
            let names = loaded.report.unused.join(", ");
            writeln!(io::stderr(), "note: {}: the model has no use for {names}", self.name)?;
        }
        Ok(loaded)
    }
}

/// As [`progress`], in bytes.
pub(crate) fn bytes_progress(length: u64, message: String) -> ProgressBar {
    bar(length, message, "{msg:24} {bar:40} {bytes}/{total_bytes} {bytes_per_sec} {eta:>4} left")
}

/// A bar on stderr with an estimate of the time left; invisible where that is no terminal.
pub(crate) fn progress(length: u64, message: String) -> ProgressBar {
    bar(length, message, "{msg:24} {bar:40} {pos}/{len} {eta:>4} left")
}

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

fn bar(length: u64, message: String, template: &str) -> ProgressBar {
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    let bar = ProgressBar::new(length).with_style(style).with_message(message);
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
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
