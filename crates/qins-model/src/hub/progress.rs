//! What a fetch reports while it runs.

use std::{fmt, io, path::PathBuf, sync::Arc, sync::mpsc::SyncSender, time::Duration};

use super::HubFailure;

/// What a fetch reports while it runs.
#[derive(Debug)]
#[non_exhaustive]
pub enum HubProgress {
    /// A part of a file has come.
    #[non_exhaustive]
    Bytes {
        /// The file's name in the repository.
        file: Arc<str>,
        /// How many of its bytes are here.
        done: u64,
        /// How many it has.
        total: u64,
    },
    /// Something that a user may want to know of.
    Note(HubNote),
}

/// Something that a user may want to know of, as a sentence.
#[derive(Debug)]
#[non_exhaustive]
pub enum HubNote {
    /// The hub does not answer, and the cache has the model.
    #[non_exhaustive]
    UsingCache {
        /// `owner/name`.
        repository: String,
        /// The commit that is in the cache.
        commit: String,
        /// The hub, without a password.
        endpoint: String,
        /// Why it does not answer.
        cause: HubFailure,
    },
    /// Another program fetches the same file.
    #[non_exhaustive]
    WaitingForLock {
        /// The file's name in the repository.
        file: String,
    },
    /// A request is going to be repeated.
    #[non_exhaustive]
    Retrying {
        /// After this time.
        wait: Duration,
        /// What it met with.
        cause: HubFailure,
    },
    /// The commit of a branch could not be written down, so that this branch cannot be used without the hub.
    #[non_exhaustive]
    RefNotWritten {
        /// Where it was to be written.
        path: PathBuf,
        /// Why it was not.
        error: io::Error,
    },
}

impl fmt::Display for HubNote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UsingCache { repository, commit, endpoint, cause } => {
                write!(f, "{endpoint}: {cause}; using {repository}@{commit} from the cache")
            }
            Self::WaitingForLock { file } => write!(f, "waiting for another program that fetches {file}"),
            Self::Retrying { wait, cause } => write!(f, "{cause}; trying again in {:.1} s", wait.as_secs_f32()),
            Self::RefNotWritten { path, error } => {
                write!(f, "{}: {error}; without the hub this revision will not be found", path.display())
            }
        }
    }
}

/// The end that reports.
pub(super) struct Reporter(SyncSender<HubProgress>);

impl Reporter {
    pub(super) fn new(sender: SyncSender<HubProgress>) -> Self {
        Self(sender)
    }

    pub(super) fn note(&self, note: HubNote) {
        self.send(HubProgress::Note(note));
    }

    pub(super) fn bytes(&self, file: &Arc<str>, done: u64, total: u64) {
        self.send(HubProgress::Bytes { file: file.clone(), done, total });
    }

    fn send(&self, progress: HubProgress) {
        // Nobody listens any more where the callback panicked.
        let _ = self.0.send(progress);
    }
}
