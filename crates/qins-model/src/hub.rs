//! Models by name: fetched from the Hugging Face hub into the cache that its other programs use too.
//!
//! # The cache
//!
//! ```text
//! $HF_HUB_CACHE                        ~/.cache/huggingface/hub
//! ├── models--owner--name
//! │   ├── blobs
//! │   │   ├── 5f3c…                    a file by its checksum: SHA-256 of a large one, SHA-1 of the git blob of a small one
//! │   │   └── 9a17….incomplete         what has come of a file so far; the next fetch goes on there
//! │   ├── refs
//! │   │   └── main                     the commit of a branch or tag
//! │   └── snapshots
//! │       └── 1111…                    a commit
//! │           └── config.json          a link to ../../blobs/5f3c…
//! └── .locks/models--owner--name       one lock for each blob, held while it is fetched
//! ```
//!
//! Files come through `hf-hub`, over HTTP or, where the hub offers it, over Xet, which reads variables of its own
//! (`HF_XET_…`) and keeps what it has seen in `$HF_HOME/xet`.
//! A file gets its name among the blobs only when its checksum has been seen, a link or a ref is replaced by renaming
//! another over it, and what is right is left alone: several programs may fetch and read at once.

mod backoff;
mod cache;
mod checksum;
mod client;
mod error;
mod listing;
mod location;
mod name;
mod progress;
mod proxy;
mod settings;
mod snapshot;
mod transfer;

use std::{
    panic,
    path::PathBuf,
    sync::mpsc::{Receiver, sync_channel},
    thread,
};

use self::{
    client::Client,
    progress::Reporter,
    snapshot::{Request, cached},
};
pub use self::{
    error::{HubError, HubFailure},
    location::{LocationError, ModelLocation},
    name::{HubName, NameError, NameProblem},
    progress::{HubNote, HubProgress},
    settings::HubBuilder,
};

/// Reports that may wait for a slow callback.
const REPORTS: usize = 64;

/// The hub, and a cache on this machine.
///
/// ```no_run
/// use qins_model::{Hub, HubName, HubProgress};
///
/// let name: HubName = "microsoft/Phi-3.5-mini-instruct".parse()?;
/// let fetched = Hub::from_env()?.fetch(&name, &mut |progress| match progress {
///     HubProgress::Bytes { file, done, total, .. } => eprint!("\r{file}: {done} of {total} bytes"),
///     HubProgress::Note(note) => eprintln!("{note}"),
///     _ => {}
/// })?;
/// println!("{} of commit {}", fetched.dir.display(), fetched.commit);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Hub {
    settings: HubBuilder,
}

/// A model's files in the cache.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Fetched {
    /// The directory of its snapshot.
    pub dir: PathBuf,
    /// The commit that the revision stood for, 40 hexadecimal digits.
    pub commit: String,
    /// How many files were transferred; 0 where the cache had them all.
    pub transferred: usize,
}

impl Hub {
    /// The hub and the cache that the environment names; [`HubBuilder::from_env`] lists the variables.
    ///
    /// # Errors
    /// [`HubError::Setting`] where a variable has no usable value, [`HubError::NoHome`] where none says where the cache is.
    pub fn from_env() -> Result<Self, HubError> {
        HubBuilder::from_env()?.build()
    }

    /// Gives a model's configuration, tokenizer files and weights (safetensors), fetching what the cache has not.
    /// `progress` is called on this thread. Blocks until all is there; may be called from within an async runtime, which it
    /// blocks too.
    ///
    /// # Errors
    /// [`HubError::Fetch`] when the hub has no such model or does not give it, when what it gives is not what it announced,
    /// or when it cannot be reached and the cache has no whole snapshot; it says which.
    pub fn fetch(&self, name: &HubName, progress: &mut dyn FnMut(HubProgress)) -> Result<Fetched, HubError> {
        let (sender, reports): (_, Receiver<HubProgress>) = sync_channel(REPORTS);
        // A thread of its own: a runtime within another one panics.
        thread::scope(|scope| {
            let work = scope.spawn(move || self.run(name, &Reporter::new(sender)));
            reports.into_iter().for_each(progress);
            work.join().unwrap_or_else(|panic| panic::resume_unwind(panic))
        })
    }

    fn run(&self, name: &HubName, reporter: &Reporter) -> Result<Fetched, HubError> {
        let wrong = |file: Option<&str>, cause| HubError::Fetch {
            name: Box::new(name.clone()),
            endpoint: self.settings.shown_endpoint(),
            file: file.map(str::to_owned),
            cause: Box::new(cause),
        };
        let folder = cache::Folder::of(self.settings.cache(), name);
        if self.settings.is_offline() {
            return cached(&folder, name).map_err(|cause| wrong(None, HubFailure::Offline(Box::new(cause))));
        }
        let io = |e| wrong(None, HubFailure::Client(Box::new(e)));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(io)?;
        let client = Client::new(&self.settings).map_err(|cause| wrong(None, cause))?;
        let request =
            Request { client: &client, name, folder: &folder, reporter, is_forced: self.settings.is_forced() };
        runtime.block_on(request.run()).map_err(|(file, cause)| wrong(file.as_deref(), cause))
    }
}
