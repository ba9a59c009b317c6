//! Models by name: fetched from the Hugging Face hub into the cache that its other programs use too.
//!
//! In the cache `blobs` holds files by their checksum, `snapshots/<commit>` links to them by name, and `refs/<revision>`
//! tells the commit of a branch. A file is given its name there only when its checksum has been seen.

mod blob;
mod client;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, fs,
    io::{self, Write},
    path::{Path, PathBuf},
};

use serde::Deserialize;

use self::client::{Client, Failure};

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

/// A model on the hub, `owner/name` or `owner/name@revision`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HubName {
    repository: String,
    revision: Option<String>,
}

/// A model's files in the cache.
#[derive(Debug)]
pub(crate) struct Fetched {
    /// The directory of its snapshot.
    pub(crate) dir: PathBuf,
    /// The commit that the revision stood for.
    pub(crate) commit: String,
}

impl HubName {
    /// Reads a `--model` as a name. What exists is a path, and so is what begins with `.` or `/` or has not just one `/`.
    pub(crate) fn of(model: &Path) -> Option<Self> {
        let text = model.to_str().filter(|_| !model.exists())?;
        let (repository, revision) = match text.split_once('@') {
            Some((repository, revision)) => (repository, Some(revision)),
            None => (text, None),
        };
        let (owner, name) = repository.split_once('/')?;
        let is_part = |part: &str| is_plain(part) && !part.contains("--") && !part.ends_with(['.', '-']);
        let fits = is_part(owner) && is_part(name) && revision.is_none_or(|r| r.split('/').all(is_plain));
        fits.then(|| Self { repository: repository.to_owned(), revision: revision.map(str::to_owned) })
    }

    /// The name without a revision.
    pub(crate) fn repository(&self) -> &str {
        &self.repository
    }

    fn revision(&self) -> &str {
        self.revision.as_deref().unwrap_or("main")
    }
}

impl fmt::Display for HubName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.repository)?;
        self.revision.iter().try_for_each(|revision| write!(f, "@{revision}"))
    }
}

/// Gives a model's files, fetching what the cache has not.
///
/// # Errors
/// When the hub has no such model or does not give it, when what it gives is not what it announced, or when it cannot be
/// reached and the cache has no whole snapshot.
pub(crate) fn fetch(name: &HubName) -> Result<Fetched, String> {
    let client = Client::from_environment()?;
    let folder = client.cache.join(format!("models--{}", name.repository.replace('/', "--")));
    let none = |why: String| format!("{name}: no such directory, and none from {}: {why}", client.endpoint);
    if client.is_offline {
        return cached(&folder, name).map_err(|why| none(format!("{why}; unset HF_HUB_OFFLINE to fetch it")));
    }
    match client.listing(name) {
        Ok(listing) => {
            let dir = folder.join("snapshots").join(&listing.commit);
            let snapshot = Snapshot { client: &client, name, folder, dir, commit: listing.commit };
            snapshot.complete(&listing.files).map_err(|why| format!("{name}: {why}"))
        }
        Err(Failure::Lasting(why)) => Err(none(why)),
        Err(Failure::Passing(why)) => {
            let found = cached(&folder, name).map_err(|missing| none(format!("{why}, and {missing}")))?;
            note(&format!("{}: {why}; using {}@{} from the cache", client.endpoint, name.repository, found.commit));
            Ok(found)
        }
    }
}

/// The whole snapshot that the cache has of a revision; without one, what it lacks.
fn cached(folder: &Path, name: &HubName) -> Result<Fetched, String> {
    let missing = |path: &Path| format!("expected {} in the cache, found none", path.display());
    let commit = if is_hex(name.revision(), 40) {
        name.revision().to_owned()
    } else {
        let reference = folder.join("refs").join(name.revision());
        let text = fs::read_to_string(&reference).unwrap_or_default();
        Some(text.trim()).filter(|text| is_hex(text, 40)).ok_or_else(|| missing(&reference))?.to_owned()
    };
    let dir = folder.join("snapshots").join(&commit);
    let weights = match dir.join(INDEX) {
        index if index.exists() && !dir.join(SINGLE).exists() => shards(&index)?,
        _ => BTreeSet::from([SINGLE.to_owned()]),
    };
    match [CONFIG].into_iter().chain(weights.iter().map(String::as_str)).find(|file| !dir.join(file).exists()) {
        Some(file) => Err(missing(&dir.join(file))),
        None => Ok(Fetched { dir, commit }),
    }
}

/// A commit of a model, being fetched.
struct Snapshot<'a> {
    client: &'a Client,
    name: &'a HubName,
    folder: PathBuf,
    dir: PathBuf,
    commit: String,
}

impl Snapshot<'_> {
    /// Fetches what is needed of the repository's files and not there yet.
    fn complete(self, files: &BTreeSet<String>) -> Result<Fetched, String> {
        let mut is_new = false;
        let mut bring = |file: &str| -> Result<(), String> {
            if !files.contains(file) {
                return Err(format!("{file}: expected it in the repository, found none"));
            }
            is_new |= self.bring(file).map_err(|why| format!("{file}: {why}"))?;
            Ok(())
        };
        for file in SMALL {
            if file == CONFIG || files.contains(file) {
                bring(file)?;
            }
        }
        if files.contains(INDEX) && !files.contains(SINGLE) {
            bring(INDEX)?;
            shards(&self.dir.join(INDEX))?.iter().try_for_each(|shard| bring(shard))?;
        } else {
            bring(SINGLE)?;
        }
        let reference = self.folder.join("refs").join(self.name.revision());
        if self.name.revision() != self.commit && fs::read_to_string(&reference).ok().as_ref() != Some(&self.commit) {
            create_parent(&reference)?;
            fs::write(&reference, &self.commit).map_err(|e| local(&reference, &e))?;
        }
        if is_new {
            note(&format!("fetched {}@{}", self.name.repository, self.commit));
        }
        Ok(Fetched { dir: self.dir, commit: self.commit })
    }
}

/// The names of the shards that an index has, each a file beside it.
fn shards(index: &Path) -> Result<BTreeSet<String>, String> {
    #[derive(Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    let text = fs::read(index).map_err(|e| local(index, &e))?;
    let Index { weight_map } = serde_json::from_slice(&text).map_err(|e| format!("{INDEX}: {e}"))?;
    let names: BTreeSet<String> = weight_map.into_values().collect();
    match names.iter().find(|name| !is_plain(name) || !name.ends_with(".safetensors")) {
        Some(name) => Err(format!("{INDEX}: expected names of safetensors files beside it, found {name:?}")),
        None if names.is_empty() => Err(format!("{INDEX}: expected a weight_map naming shards, found none")),
        None => Ok(names),
    }
}

/// Whether a text can be a file's name and a piece of a URL as it is, and leads nowhere else.
fn is_plain(text: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    (1..=96).contains(&text.len()) && text.chars().all(fits) && !text.starts_with(['.', '-']) && !text.contains("..")
}

fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.chars().all(|c| matches!(c, '0'..='9' | 'a'..='f'))
}

fn create_parent(path: &Path) -> Result<(), String> {
    path.parent().map_or(Ok(()), |parent| fs::create_dir_all(parent).map_err(|e| local(parent, &e)))
}

/// What went wrong on this machine.
fn local(path: &Path, error: &io::Error) -> String {
    let hint = match error.kind() {
        io::ErrorKind::StorageFull => ": free some space, or set HF_HUB_CACHE to a folder on another disk",
        _ => "",
    };
    format!("{}: {error}{hint}", path.display())
}

fn note(text: &str) {
    let _ = writeln!(io::stderr(), "note: {text}");
}
