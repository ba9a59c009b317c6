//! A hub of one's own, and a cache beside it.

use std::{
    collections::BTreeSet,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
};

use qins_model::hub::{Fetched, Hub, HubBuilder, HubError, HubProgress};
use tempfile::TempDir;

use crate::{
    repository::{MAIN, NAME, NEEDED, SHARDS, files},
    server::HubServer,
};

pub(crate) struct Case {
    pub(crate) home: TempDir,
    pub(crate) server: HubServer,
}

/// What became of a fetch, and the notes on the way.
pub(crate) struct Run {
    pub(crate) result: Result<Fetched, HubError>,
    pub(crate) notes: Vec<String>,
    /// The last report of each file: its name, how many bytes were there, and how many it has.
    pub(crate) bytes: Vec<(String, u64, u64)>,
}

impl Run {
    #[track_caller]
    pub(crate) fn done(self) -> Fetched {
        self.result.unwrap_or_else(|e| panic!("{e}"))
    }

    /// Fails with an error of one line that says all of `says`.
    #[track_caller]
    pub(crate) fn refused(self, what: &str, says: &[&str]) {
        let error = self.result.expect_err(what).to_string();
        assert!(!error.contains('\n'), "{what}: {error}");
        says.iter().for_each(|word| assert!(error.contains(word), "{what}: expected {word:?} in {error:?}"));
    }
}

impl Case {
    pub(crate) fn new() -> Self {
        Self { home: tempfile::tempdir().unwrap(), server: HubServer::start() }
    }

    pub(crate) fn hub(&self) -> HubBuilder {
        Hub::builder(self.cache()).endpoint(&self.server.url)
    }

    pub(crate) fn cache(&self) -> PathBuf {
        self.home.path().join("hf/hub")
    }

    /// Variables that name this hub and cache.
    pub(crate) fn vars<'a>(&'a self, more: &'a [(&'a str, &'a str)]) -> impl Fn(&str) -> Option<OsString> + 'a {
        move |name| match (more.iter().find(|(variable, _)| *variable == name), name) {
            (Some((_, value)), _) => Some(value.into()),
            (None, "HF_HOME") => Some(self.home.path().join("hf").into()),
            (None, "HF_ENDPOINT") => Some((&self.server.url).into()),
            (None, _) => None,
        }
    }

    pub(crate) fn fetch(&self, name: &str) -> Run {
        fetch(self.hub(), name)
    }

    /// With such variables in the environment.
    pub(crate) fn fetch_with(&self, name: &str, variables: &[(&str, &str)]) -> Run {
        fetch(HubBuilder::from_vars(self.vars(variables)).unwrap(), name)
    }

    pub(crate) fn folder(&self) -> PathBuf {
        self.cache().join("models--owner--name")
    }

    pub(crate) fn snapshot(&self, commit: &str) -> PathBuf {
        self.folder().join("snapshots").join(commit)
    }

    /// Where the content of a file of `main` is.
    pub(crate) fn blob(&self, file: &str) -> PathBuf {
        fs::canonicalize(self.snapshot(MAIN).join(file)).unwrap()
    }

    /// The files whose content was asked for since this was last asked, each with the bytes it was asked for.
    pub(crate) fn transfers(&self) -> BTreeSet<(String, String)> {
        let requests = self.server.requests().into_iter().filter(crate::server::Request::is_transfer);
        requests
            .map(|r| {
                let range = r.headers.get("range").cloned().unwrap_or_default();
                (r.path.rsplit('/').next().unwrap().to_owned(), range)
            })
            .collect()
    }

    /// Fails for this, says this, and leaves no blob of the file.
    #[track_caller]
    pub(crate) fn refused(&self, file: &str, says: &[&str]) {
        self.fetch(NAME).refused(file, &[&[NAME, file], says].concat());
        assert!(!self.snapshot(MAIN).join(file).is_symlink(), "{file}");
        let names = |folder: &Path| {
            fs::read_dir(folder).map_or(0, |entries| {
                entries.filter(|e| e.as_ref().unwrap().path().extension().is_none_or(|x| x != "incomplete")).count()
            })
        };
        assert_eq!(names(&self.folder().join("blobs")), names(&self.snapshot(MAIN)), "{file}");
        assert!(!self.folder().join("refs").exists());
    }

    /// Every needed file is there, and as it should be.
    #[track_caller]
    pub(crate) fn is_whole(&self) {
        whole(&self.snapshot(MAIN));
    }
}

#[track_caller]
pub(crate) fn whole(dir: &Path) {
    for (file, content) in files(MAIN) {
        let is_needed = NEEDED.contains(&file.as_str()) || SHARDS.contains(&file.as_str());
        assert!(fs::read(dir.join(&file)).ok() == is_needed.then_some(content), "{file}");
    }
}

pub(crate) fn fetch(hub: HubBuilder, name: &str) -> Run {
    let (mut notes, mut bytes) = (Vec::new(), Vec::<(String, u64, u64)>::new());
    let result = hub.build().and_then(|hub| {
        hub.fetch(&name.parse().unwrap(), &mut |progress| match progress {
            HubProgress::Bytes { file, done, total, .. } => {
                bytes.retain(|(name, ..)| **name != *file);
                bytes.push((file.to_string(), done, total));
            }
            HubProgress::Note(note) => notes.push(note.to_string()),
            other => panic!("{other:?}"),
        })
    });
    Run { result, notes, bytes }
}
