//! Why a fetch came to nothing, in one sentence.

use std::{error::Error, io, path::PathBuf, time::Duration};

use super::HubName;

/// What a cause comes from, where that is another crate's.
type Source = Box<dyn Error + Send + Sync>;

/// Why a model is not there.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HubError {
    /// A variable of the environment, or what was given to the builder in its place, has no usable value.
    #[error("{variable}: expected {expected}, found {found:?}")]
    #[non_exhaustive]
    Setting {
        /// The variable.
        variable: &'static str,
        /// What fits.
        expected: &'static str,
        /// What it has; of a URL without its password.
        found: String,
    },
    /// Nothing says where the cache is.
    #[error("expected a folder for models in HF_HOME, or a home directory, found neither")]
    NoHome,
    /// The model, or one of its files, is not to be had.
    #[error("{name}: {}expected it from {endpoint}: {cause}", file.iter().map(|f| format!("{f}: ")).collect::<String>())]
    #[non_exhaustive]
    Fetch {
        /// The model.
        name: Box<HubName>,
        /// The hub, without a password.
        endpoint: String,
        /// The file, where it is about one.
        file: Option<String>,
        /// Why.
        #[source]
        cause: Box<HubFailure>,
    },
}

/// Why the hub, or the cache, did not give something.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HubFailure {
    /// The hub wants to know who asks, or knows and refuses.
    #[error(
        "expected access, found status {0}: check the name, and for a gated or private model accept the licence on its \
         page and set HF_TOKEN to a token that may read it"
    )]
    Denied(u16),
    /// The hub has nothing of this name.
    #[error("found status 404: check the name")]
    NotFound,
    /// The repository has no such revision.
    #[error("expected a branch, tag or commit, found no `{0}`")]
    NoRevision(String),
    /// The hub is busy or out of order; it may say when to come back.
    #[error("expected an answer, found status {status}{}", retry_after.map_or(String::new(), |wait| format!(" with a wish to wait {} s", wait.as_secs())))]
    #[non_exhaustive]
    Busy {
        /// The status.
        status: u16,
        /// The time that its `Retry-After` names.
        retry_after: Option<Duration>,
    },
    /// The hub answers in another way than is known.
    #[error("expected status 200, found {0}")]
    Status(u16),
    /// A redirection leads nowhere.
    #[error("expected a redirection to a URL, found status {0} without one")]
    Redirection(u16),
    /// There is no way to the hub, or none that is finished in time.
    #[error("expected an answer, found none ({})", chain(&**.0))]
    Unreachable(#[source] Source),
    /// The hub's redirections have no end, or cannot be followed.
    #[error("expected at most {} redirections, each to a URL ({})", super::client::REDIRECTIONS, chain(&**.0))]
    Redirections(#[source] Source),
    /// No request can be made at all.
    #[error("expected to start an HTTP client, found that it cannot ({})", chain(&**.0))]
    Client(#[source] Source),
    /// The hub's answer cannot be read as a listing.
    #[error("expected the listing of a repository, found {0}")]
    Listing(String),
    /// The repository has no such file.
    #[error("expected it in the repository, found none")]
    NotInRepository,
    /// The index of the shards does not name shards.
    #[error("expected a weight_map that names safetensors files beside it, found {0}")]
    Index(String),
    /// The hub announces a file that is too large to be what it is called.
    #[error("expected at most {limit} bytes, found {size}")]
    #[non_exhaustive]
    TooLarge {
        /// The most.
        limit: u64,
        /// What is announced.
        size: u64,
    },
    /// More or fewer bytes came than were announced.
    #[error("expected {expected} bytes, found {found}: run this again")]
    #[non_exhaustive]
    Size {
        /// What was announced.
        expected: u64,
        /// What there was when that was seen.
        found: u64,
    },
    /// Other bytes came than were announced.
    #[error("expected checksum {expected}, found {found}: run this again")]
    #[non_exhaustive]
    Checksum {
        /// What was announced.
        expected: String,
        /// What came.
        found: String,
    },
    /// The connection ended, or was silent for too long, within a file.
    #[error("the transfer broke off at byte {position} of {size}{}", source.as_ref().map_or(String::new(), |e| format!(" ({})", chain(&**e))))]
    #[non_exhaustive]
    BrokenOff {
        /// How far it came.
        position: u64,
        /// How far it should have come.
        size: u64,
        /// What was met with, other than the end.
        #[source]
        source: Option<Source>,
    },
    /// The hub began at the file's start though it was asked to go on.
    #[error("expected the bytes from {0} on, found others")]
    NotContinued(u64),
    /// Something that may pass was met with so often that it did not.
    #[error("{cause}, {attempts} times")]
    #[non_exhaustive]
    Repeated {
        /// How often.
        attempts: u32,
        /// The last time.
        #[source]
        cause: Box<HubFailure>,
    },
    /// A transfer came to an end before the file's, and what has come is kept.
    #[error("{0}: run this again to go on")]
    Interrupted(#[source] Box<HubFailure>),
    /// A file cannot be read or written.
    #[error("{}: {source}{}", path.display(), hint(source))]
    #[non_exhaustive]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The cache has not all of the model.
    #[error("expected {} in the cache, found none", .0.display())]
    NotCached(PathBuf),
    /// A file in the cache is not what it was.
    #[error("{}: expected {expected}, found {found}: delete it and fetch it again", path.display())]
    #[non_exhaustive]
    Damaged {
        /// The file to delete.
        path: PathBuf,
        /// Its size or checksum.
        expected: String,
        /// What it is now.
        found: String,
    },
    /// Nothing may be asked of the hub.
    #[error("{0}; unset HF_HUB_OFFLINE to fetch it")]
    Offline(#[source] Box<HubFailure>),
    /// The hub does not answer, and the cache has not all of the model.
    #[error("{hub}, and {cache}")]
    #[non_exhaustive]
    Neither {
        /// Why the hub does not answer.
        #[source]
        hub: Box<HubFailure>,
        /// What the cache lacks.
        cache: Box<HubFailure>,
    },
}

impl HubFailure {
    /// What an answer without the thing that was asked for means.
    pub(super) fn of_status(status: u16, retry_after: Option<Duration>) -> Self {
        match status {
            300..=399 => Self::Redirection(status),
            401 | 403 => Self::Denied(status),
            404 => Self::NotFound,
            408 | 429 | 500.. => Self::Busy { status, retry_after },
            _ => Self::Status(status),
        }
    }

    /// What became of a request that got no answer. Its URL may have a signature in it, and is left out.
    pub(super) fn of_request(error: reqwest::Error) -> Self {
        let error = error.without_url();
        if error.is_redirect() { Self::Redirections(error.into()) } else { Self::Unreachable(error.into()) }
    }

    pub(super) fn io(path: impl Into<PathBuf>, source: io::Error) -> Self {
        Self::Io { path: path.into(), source }
    }

    /// Whether the same request may do better the next time.
    pub(super) fn is_transient(&self) -> bool {
        match self {
            Self::Busy { .. } | Self::Unreachable(_) | Self::BrokenOff { .. } | Self::NotContinued(_) => true,
            Self::Repeated { cause, .. } => cause.is_transient(),
            Self::Denied(_)
            | Self::NotFound
            | Self::NoRevision(_)
            | Self::Status(_)
            | Self::Redirection(_)
            | Self::Redirections(_)
            | Self::Client(_)
            | Self::Listing(_)
            | Self::NotInRepository
            | Self::Index(_)
            | Self::TooLarge { .. }
            | Self::Size { .. }
            | Self::Checksum { .. }
            | Self::Interrupted(_)
            | Self::Io { .. }
            | Self::NotCached(_)
            | Self::Damaged { .. }
            | Self::Offline(_)
            | Self::Neither { .. } => false,
        }
    }
}

/// An error with what it comes from, which reqwest's own text leaves out.
fn chain(error: &(dyn Error + 'static)) -> String {
    let (mut text, mut error) = (error.to_string(), error);
    while let Some(source) = error.source() {
        text = format!("{text}: {source}");
        error = source;
    }
    text
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull => ": free some space, or set HF_HUB_CACHE to a folder on another disk",
        _ => "",
    }
}
