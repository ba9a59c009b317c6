//! Which of a repository's files make up a model, from the hub or from the cache alone.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
};

use qins_quant::json;
use serde::Deserialize;

use super::{
    Fetched, HubFailure, HubName, HubNote,
    cache::{Folder, SMALL_FILE, check_offline},
    client::Client,
    listing::Listing,
    name::is_plain,
    progress::Reporter,
};

const CONFIG: &str = "config.json";
const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
/// What is fetched beside the weights where the repository has it, and before them: whole weights tell of a whole
/// snapshot.
const SMALL: [&str; 6] = [
    CONFIG,
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "special_tokens_map.json",
];

/// What went wrong, and with which file.
type Failed = (Option<String>, HubFailure);

/// A model that is asked for.
pub(super) struct Request<'a> {
    pub(super) client: &'a Client,
    pub(super) name: &'a HubName,
    pub(super) folder: &'a Folder,
    pub(super) reporter: &'a Reporter,
    pub(super) is_forced: bool,
}

/// A commit of it, being fetched.
pub(super) struct Snapshot<'a> {
    pub(super) request: &'a Request<'a>,
    pub(super) commit: String,
    pub(super) dir: PathBuf,
}

impl Request<'_> {
    pub(super) async fn run(&self) -> Result<Fetched, Failed> {
        match self.client.listing(self.name, self.reporter).await {
            Ok(listing) => self.complete(listing).await,
            Err(cause) if cause.is_transient() => match cached(self.folder, self.name) {
                Ok(found) => {
                    let (repository, commit) = (self.name.repository(), found.commit.clone());
                    let endpoint = self.client.shown_endpoint.clone();
                    self.reporter.note(HubNote::UsingCache { repository, commit, endpoint, cause });
                    Ok(found)
                }
                Err(missing) => Err((None, HubFailure::Neither { hub: Box::new(cause), cache: Box::new(missing) })),
            },
            Err(cause) => Err((None, cause)),
        }
    }

    /// Fetches what is needed of the repository's files and not there yet.
    async fn complete(&self, listing: Listing) -> Result<Fetched, Failed> {
        let Listing { commit, files } = listing;
        let snapshot = Snapshot { request: self, dir: self.folder.snapshot(&commit), commit };
        let is_sharded = files.contains_key(INDEX) && !files.contains_key(SINGLE);
        let needed = SMALL.into_iter().filter(|file| *file == CONFIG || files.contains_key(*file));
        let mut transferred = 0;
        for file in needed.chain(is_sharded.then_some(INDEX)) {
            transferred += snapshot.ensure(file, &files, SMALL_FILE).await?;
        }
        for file in weights(&snapshot.dir, is_sharded).map_err(|cause| (Some(INDEX.to_owned()), cause))? {
            transferred += snapshot.ensure(&file, &files, u64::MAX).await?;
        }
        self.folder.set_commit(self.name.revision(), &snapshot.commit, self.reporter);
        Ok(Fetched { dir: snapshot.dir, commit: snapshot.commit, transferred })
    }
}

impl Snapshot<'_> {
    async fn ensure(
        &self,
        file: &str,
        files: &BTreeMap<String, super::listing::Entry>,
        limit: u64,
    ) -> Result<usize, Failed> {
        let ensured = match files.get(file) {
            None => Err(HubFailure::NotInRepository),
            Some(entry) if entry.size > limit => Err(HubFailure::TooLarge { limit, size: entry.size }),
            Some(entry) => self.ensure_file(file, entry).await,
        };
        ensured.map(usize::from).map_err(|cause| (Some(file.to_owned()), cause))
    }
}

/// The whole snapshot that the cache has of a revision.
pub(super) fn cached(folder: &Folder, name: &HubName) -> Result<Fetched, HubFailure> {
    let commit = folder.commit(name.revision())?;
    let dir = folder.snapshot(&commit);
    // A link that leads nowhere was a file.
    let is_there = |file: &str| !dir.join(file).symlink_metadata().is_err_and(|e| e.kind() == ErrorKind::NotFound);
    let is_sharded = is_there(INDEX) && !is_there(SINGLE);
    for file in SMALL.into_iter().filter(|file| *file == CONFIG || is_there(file)).chain(is_sharded.then_some(INDEX)) {
        check_offline(&dir.join(file))?;
    }
    weights(&dir, is_sharded)?.iter().try_for_each(|file| check_offline(&dir.join(file)))?;
    Ok(Fetched { dir, commit, transferred: 0 })
}

/// The names of the files that weights are in, by the index where there is one; each is a file beside it.
fn weights(dir: &Path, is_sharded: bool) -> Result<BTreeSet<String>, HubFailure> {
    #[derive(Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    if !is_sharded {
        return Ok(BTreeSet::from([SINGLE.to_owned()]));
    }
    let path = dir.join(INDEX);
    let text = fs::read(&path).map_err(|e| HubFailure::io(path, e))?;
    let index = json::object(&text).and_then(|index| json::typed(&index));
    let Index { weight_map } = index.map_err(HubFailure::Index)?;
    let names: BTreeSet<String> = weight_map.into_values().collect();
    match names.iter().find(|name| !is_plain(name) || !name.ends_with(".safetensors")) {
        Some(name) => Err(HubFailure::Index(format!("{name:?}"))),
        None if names.is_empty() => Err(HubFailure::Index("none".to_owned())),
        None => Ok(names),
    }
}
