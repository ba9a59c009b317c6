//! What a repository has at a revision. Asked with the client and not through hf-hub: the listing of its 1.0 has no SHA-256
//! (the hub calls it `lfs.oid`, and it looks for `lfs.sha256`), keeps no `Retry-After`, has no bound of size, and sends the
//! token to wherever a page says that the next one is.

use std::collections::BTreeMap;

use reqwest::{Response, Url, header::LINK};
use serde::{Deserialize, de::DeserializeOwned};

use super::{
    HubFailure, HubName,
    backoff::Backoff,
    client::{Client, body, header, retry_after},
    name::is_hex,
    progress::Reporter,
};

/// The most bytes of one page.
const PAGE: usize = 8 << 20;
/// The most pages; the hub's have a thousand entries each.
const PAGES: usize = 64;

/// A repository at a revision.
pub(super) struct Listing {
    pub(super) commit: String,
    pub(super) files: BTreeMap<String, Entry>,
}

/// What the hub announces of a file.
#[derive(Clone)]
pub(super) struct Entry {
    /// A SHA-256, or the SHA-1 that git gives the file.
    pub(super) checksum: String,
    pub(super) size: u64,
}

/// What the hub tells of a directory's entry.
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum TreeEntry {
    File {
        path: String,
        oid: String,
        size: u64,
        /// Of a large file git has a pointer only, and `oid` is the pointer's.
        lfs: Option<Lfs>,
    },
    #[serde(other)]
    Directory,
}

#[derive(Deserialize)]
struct Lfs {
    #[serde(alias = "sha256")]
    oid: String,
    size: u64,
}

impl Client {
    /// The commit of a revision, and the files of its topmost directory.
    pub(super) async fn listing(&self, name: &HubName, reporter: &Reporter) -> Result<Listing, HubFailure> {
        #[derive(Deserialize)]
        struct Revision {
            sha: String,
        }
        let (Revision { sha }, _) = self.page(self.api(name, "revision", name.revision())?, name, reporter).await?;
        if !is_hex(&sha, 40) {
            return Err(HubFailure::Listing(format!("commit {sha:?}")));
        }
        let (mut files, mut next) = (BTreeMap::new(), Some(self.api(name, "tree", &sha)?));
        for _ in 0..PAGES {
            let Some(url) = next.take() else { return Ok(Listing { commit: sha, files }) };
            let (entries, following): (Vec<TreeEntry>, _) = self.page(url, name, reporter).await?;
            for entry in entries {
                files.extend(file(entry)?);
            }
            next = following;
        }
        Err(HubFailure::Listing(format!("more than {PAGES} pages")))
    }

    fn api(&self, name: &HubName, what: &str, revision: &str) -> Result<Url, HubFailure> {
        let mut url = self.endpoint.clone();
        // One segment, whatever is in the revision.
        let segments = ["api", "models", name.owner(), name.name(), what, revision];
        match url.path_segments_mut() {
            Ok(mut path) => drop(path.pop_if_empty().extend(segments)),
            Err(()) => return Err(HubFailure::Listing("an endpoint that has no paths".to_owned())),
        }
        Ok(url)
    }

    /// A page, and where the next one is.
    async fn page<T: DeserializeOwned>(
        &self,
        url: Url,
        name: &HubName,
        reporter: &Reporter,
    ) -> Result<(T, Option<Url>), HubFailure> {
        let mut backoff = Backoff::default();
        loop {
            match self.answer(url.clone(), name).await {
                Ok((text, next)) => {
                    let page = serde_json::from_slice(&text);
                    return Ok((page.map_err(|e| HubFailure::Listing(format!("another text ({e})")))?, next));
                }
                // Who is not there now will not be there in a second: the cache may have it.
                Err(cause @ HubFailure::Unreachable(_)) => return Err(cause),
                Err(cause) => backoff.wait(cause, reporter).await?,
            }
        }
    }

    async fn answer(&self, url: Url, name: &HubName) -> Result<(Vec<u8>, Option<Url>), HubFailure> {
        let answer = self.get(url).await?;
        if answer.status() == 404 && header(&answer, "x-error-code") == Some("RevisionNotFound") {
            return Err(HubFailure::NoRevision(name.revision().to_owned()));
        }
        if answer.status() != 200 {
            return Err(HubFailure::of_status(answer.status().as_u16(), retry_after(&answer)));
        }
        let next = following(&answer);
        Ok((body(answer, PAGE).await?, next))
    }
}

/// Where the next page is, by `Link: <…>; rel="next"`.
fn following(answer: &Response) -> Option<Url> {
    let links = header(answer, LINK.as_str())?;
    let link = links.split(',').find(|link| link.contains("rel=\"next\""))?;
    let (_, url) = link.split_once('<')?;
    answer.url().join(url.split_once('>')?.0).ok()
}

fn file(entry: TreeEntry) -> Result<Option<(String, Entry)>, HubFailure> {
    let (path, checksum, size, digits) = match entry {
        TreeEntry::File { path, lfs: Some(lfs), .. } => (path, lfs.oid, lfs.size, 64),
        TreeEntry::File { path, lfs: None, oid, size } => (path, oid, size, 40),
        TreeEntry::Directory => return Ok(None),
    };
    if !is_hex(&checksum, digits) {
        return Err(HubFailure::Listing(format!("{path:?} with {checksum:?} where a SHA-256 or a SHA-1 should be")));
    }
    Ok(Some((path, Entry { checksum, size })))
}
