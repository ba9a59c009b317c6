//! What is asked of the hub, and what its answers mean.

use std::{collections::BTreeSet, env, fs, path::PathBuf, time::Duration};

use serde::Deserialize;
use ureq::{Agent, Body, RequestBuilder, config::RedirectAuthHeaders, http::Response, typestate::WithoutBody};

use super::{HubName, is_hex};

/// Why a request came to nothing.
pub(super) enum Failure {
    /// It may do better the next time.
    Passing(String),
    /// It would fail again.
    Lasting(String),
}

impl From<ureq::Error> for Failure {
    fn from(error: ureq::Error) -> Self {
        Self::Passing(format!("expected an answer, found none ({error})"))
    }
}

/// A repository at a revision.
pub(super) struct Listing {
    pub(super) commit: String,
    pub(super) files: BTreeSet<String>,
}

/// What the hub announces of a file.
pub(super) struct Announced {
    /// A SHA-256, or the SHA-1 that git gives the file.
    pub(super) checksum: String,
    pub(super) size: Option<u64>,
}

/// The hub and the cache, as the environment variables of the hub's own programs describe them.
pub(super) struct Client {
    pub(super) endpoint: String,
    pub(super) cache: PathBuf,
    pub(super) is_offline: bool,
    token: Option<String>,
    agent: Agent,
}

impl Client {
    pub(super) fn from_environment() -> Result<Self, String> {
        let path = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let text = |name| env::var(name).ok().map(|value| value.trim().to_owned()).filter(|value| !value.is_empty());
        let home = path("HF_HOME")
            .or_else(|| Some(path("XDG_CACHE_HOME")?.join("huggingface")))
            .or_else(|| Some(env::home_dir()?.join(".cache/huggingface")))
            .ok_or("expected a folder for models in HF_HOME, or a home directory, found neither")?;
        let token_file = path("HF_TOKEN_PATH").unwrap_or_else(|| home.join("token"));
        let token = text("HF_TOKEN").or_else(|| Some(fs::read_to_string(token_file).ok()?.trim().to_owned()));
        let is_true = |value: String| ["1", "on", "yes", "true"].contains(&value.to_ascii_lowercase().as_str());
        let seconds = text("HF_HUB_DOWNLOAD_TIMEOUT").and_then(|value| value.parse().ok()).unwrap_or(30);
        let timeout = Some(Duration::from_secs(seconds));
        let agent = Agent::config_builder()
            .user_agent(concat!("qins/", env!("CARGO_PKG_VERSION")))
            .http_status_as_error(false)
            .redirect_auth_headers(RedirectAuthHeaders::SameHost)
            .timeout_resolve(timeout)
            .timeout_connect(timeout)
            .timeout_per_read(timeout)
            .timeout_per_write(timeout);
        let endpoint = text("HF_ENDPOINT").unwrap_or_else(|| "https://huggingface.co".to_owned());
        Ok(Self {
            endpoint: endpoint.trim_end_matches('/').to_owned(),
            cache: path("HF_HUB_CACHE").unwrap_or_else(|| home.join("hub")),
            is_offline: text("HF_HUB_OFFLINE").is_some_and(is_true),
            token: token.filter(|token| !token.is_empty()),
            agent: agent.build().into(),
        })
    }

    /// The commit and the files of a repository.
    pub(super) fn listing(&self, name: &HubName) -> Result<Listing, Failure> {
        #[derive(Deserialize)]
        struct Repository {
            sha: String,
            siblings: Vec<Sibling>,
        }
        #[derive(Deserialize)]
        struct Sibling {
            rfilename: String,
        }
        let revision = name.revision().replace('/', "%2F");
        let url = format!("{}/api/models/{}/revision/{revision}", self.endpoint, name.repository);
        let mut answer = self.send(&url, self.agent.get(&url))?;
        if answer.status() == 404 && header(&answer, "x-error-code") == Some("RevisionNotFound") {
            return Err(Failure::Lasting(format!("expected a branch, tag or commit, found no `{}`", name.revision())));
        }
        if !answer.status().is_success() {
            return Err(refusal(answer.status().as_u16()));
        }
        let text = answer.body_mut().read_to_vec()?;
        let strange = |found| Failure::Lasting(format!("expected the listing of a repository, found {found}"));
        let Repository { sha, siblings } =
            serde_json::from_slice(&text).map_err(|e| strange(format!("another text ({e})")))?;
        if !is_hex(&sha, 40) {
            return Err(strange(format!("commit {sha:?}")));
        }
        Ok(Listing { commit: sha, files: siblings.into_iter().map(|sibling| sibling.rfilename).collect() })
    }

    /// The checksum and size of a file: of a large one the hub tells them as it redirects to where the file lies.
    pub(super) fn announced(&self, name: &HubName, commit: &str, file: &str) -> Result<Announced, Failure> {
        let strange = |expected: &str, found: &str| Failure::Lasting(format!("expected {expected}, found {found:?}"));
        let mut url = self.url(name, commit, file);
        for _ in 0..5 {
            let answer = self.send(&url, self.agent.head(&url).config().max_redirects(0).build())?;
            let (status, linked) = (answer.status(), header(&answer, "x-linked-etag"));
            if !status.is_success() && !status.is_redirection() {
                return Err(refusal(status.as_u16()));
            }
            if let Some(other) = header(&answer, "x-repo-commit").filter(|other| *other != commit) {
                return Err(strange(&format!("a file of commit {commit}"), other));
            }
            if status.is_redirection() && linked.is_none() {
                let location = header(&answer, "location").unwrap_or_default();
                url = redirected(&url, location).ok_or_else(|| strange("a redirection to a URL", location))?;
                continue;
            }
            let etag = linked.or_else(|| header(&answer, "etag")).unwrap_or_default();
            let checksum = etag.trim_start_matches("W/").trim_matches('"').to_owned();
            if !is_hex(&checksum, 64) && !is_hex(&checksum, 40) {
                return Err(strange("a SHA-256 or a SHA-1 as its etag", etag));
            }
            let length = || header(&answer, "content-length").filter(|_| status.is_success());
            let size = header(&answer, "x-linked-size").or_else(length).and_then(|text| text.parse().ok());
            return Ok(Announced { checksum, size });
        }
        Err(Failure::Lasting("expected at most 5 redirections, found more".to_owned()))
    }

    /// A file from a byte on.
    pub(super) fn bytes(
        &self,
        name: &HubName,
        commit: &str,
        file: &str,
        start: u64,
    ) -> Result<Response<Body>, Failure> {
        let url = self.url(name, commit, file);
        let request = self.agent.get(&url);
        self.send(&url, if start == 0 { request } else { request.header("Range", format!("bytes={start}-")) })
    }

    fn url(&self, name: &HubName, commit: &str, file: &str) -> String {
        format!("{}/{}/resolve/{commit}/{file}", self.endpoint, name.repository)
    }

    /// Sends a request; the token goes to the hub alone. Bytes are asked for as they are: where they may be compressed,
    /// the hub neither tells their number nor serves a part of them.
    fn send(&self, url: &str, request: RequestBuilder<WithoutBody>) -> Result<Response<Body>, Failure> {
        let request = request.header("Accept-Encoding", "identity");
        let is_ours = url.strip_prefix(&self.endpoint).is_some_and(|rest| rest.starts_with('/'));
        let request = match &self.token {
            Some(token) if is_ours => request.header("Authorization", format!("Bearer {token}")),
            _ => request,
        };
        Ok(request.call()?)
    }
}

/// What an answer without the thing that was asked for means.
pub(super) fn refusal(status: u16) -> Failure {
    match status {
        401 | 403 => Failure::Lasting(format!(
            "expected access, found status {status}: check the name, and for a gated or private model accept the licence \
             on its page and set HF_TOKEN to a token that may read it"
        )),
        404 => Failure::Lasting("expected it on the hub, found status 404: check the name".to_owned()),
        408 | 429 | 500.. => Failure::Passing(format!("expected an answer, found status {status}")),
        _ => Failure::Lasting(format!("expected status 200, found {status}")),
    }
}

pub(super) fn header<'a>(answer: &'a Response<Body>, name: &str) -> Option<&'a str> {
    answer.headers().get(name)?.to_str().ok()
}

/// Where a redirection from `url` leads.
fn redirected(url: &str, location: &str) -> Option<String> {
    if location.starts_with("https://") || location.starts_with("http://") {
        return Some(location.to_owned());
    }
    let (scheme, rest) = url.split_once("://")?;
    let host = rest.split('/').next()?;
    location.starts_with('/').then(|| format!("{scheme}://{host}{location}"))
}
