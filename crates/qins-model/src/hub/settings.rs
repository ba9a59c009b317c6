//! Which hub, which cache, and how they are used.

use std::{
    env,
    ffi::OsString,
    fmt, fs,
    path::{Path, PathBuf},
    time::Duration,
};

use reqwest::{Proxy, Url, header::HeaderValue};

use super::{Hub, HubError, proxy};

const ENDPOINT: &str = "https://huggingface.co";
const TIMEOUT: Duration = Duration::from_secs(30);

const TIMEOUT_VARIABLE: &str = "HF_HUB_DOWNLOAD_TIMEOUT";

/// The settings of a [`Hub`].
#[derive(Clone)]
pub struct HubBuilder {
    endpoint: String,
    cache: PathBuf,
    token: Option<String>,
    proxies: Vec<Proxy>,
    timeout: Duration,
    is_offline: bool,
    is_forced: bool,
}

impl Hub {
    /// The hub at `https://huggingface.co` and a cache in a folder, with no token, no proxy and nothing from the environment.
    pub fn builder(cache: impl Into<PathBuf>) -> HubBuilder {
        HubBuilder {
            endpoint: ENDPOINT.to_owned(),
            cache: cache.into(),
            token: None,
            proxies: Vec::new(),
            timeout: TIMEOUT,
            is_offline: false,
            is_forced: false,
        }
    }
}

impl HubBuilder {
    /// What the environment says, in the variables of the hub's own programs: `HF_ENDPOINT`; `HF_HUB_CACHE`, or `HF_HOME`,
    /// or `XDG_CACHE_HOME`, or the home directory for the cache; `HF_TOKEN` or the file `HF_TOKEN_PATH`, by default
    /// `$HF_HOME/token`, unless `HF_HUB_DISABLE_IMPLICIT_TOKEN`; `HF_HUB_OFFLINE`; `HF_HUB_DOWNLOAD_TIMEOUT` in seconds; and
    /// `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY` in either case.
    ///
    /// # Errors
    /// [`HubError::Setting`] where a proxy or a time is none, [`HubError::NoHome`] where none says where the cache is.
    pub fn from_env() -> Result<Self, HubError> {
        Self::from_vars(|name| env::var_os(name))
    }

    /// What variables say that `var` looks up, as [`HubBuilder::from_env`] does in the environment.
    ///
    /// # Errors
    /// Those of [`HubBuilder::from_env`].
    pub fn from_vars(var: impl Fn(&str) -> Option<OsString>) -> Result<Self, HubError> {
        let path = |name: &str| var(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let text = |name: &str| {
            let value = var(name)?.into_string().ok()?.trim().to_owned();
            (!value.is_empty()).then_some(value)
        };
        let is_true = |name: &str| {
            text(name).is_some_and(|value| ["1", "on", "yes", "true"].contains(&value.to_ascii_lowercase().as_str()))
        };
        let home = path("HF_HOME")
            .or_else(|| Some(path("XDG_CACHE_HOME")?.join("huggingface")))
            .or_else(|| Some(env::home_dir()?.join(".cache/huggingface")))
            .ok_or(HubError::NoHome)?;
        let token_file = path("HF_TOKEN_PATH").unwrap_or_else(|| home.join("token"));
        let token = text("HF_TOKEN").or_else(|| Some(fs::read_to_string(token_file).ok()?.trim().to_owned()));
        let seconds = |found: String| match found.parse::<u32>() {
            Ok(seconds) if seconds > 0 => Ok(Duration::from_secs(seconds.into())),
            _ => Err(HubError::Setting { variable: TIMEOUT_VARIABLE, expected: "a number of seconds above 0", found }),
        };
        Ok(Self {
            endpoint: text("HF_ENDPOINT").unwrap_or_else(|| ENDPOINT.to_owned()),
            token: token.filter(|token| !token.is_empty() && !is_true("HF_HUB_DISABLE_IMPLICIT_TOKEN")),
            proxies: proxy::from_vars(&text)?,
            timeout: text(TIMEOUT_VARIABLE).map_or(Ok(TIMEOUT), seconds)?,
            is_offline: is_true("HF_HUB_OFFLINE"),
            ..Hub::builder(path("HF_HUB_CACHE").unwrap_or_else(|| home.join("hub")))
        })
    }

    /// Another hub: the URL that its pages begin with.
    pub fn endpoint(mut self, url: impl Into<String>) -> Self {
        self.endpoint = url.into();
        self
    }

    /// What tells the hub who asks. It is sent to the scheme, host and port of the endpoint alone.
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.token = Some(token.into());
        self
    }

    /// The longest time to wait for a connection, for the next byte of an answer, or for an answer to begin: by default 30 s.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Whether the cache is all that is asked.
    pub fn offline(mut self, is_offline: bool) -> Self {
        self.is_offline = is_offline;
        self
    }

    /// Whether to fetch files again that the cache has. Offline there are none.
    pub fn force_download(mut self, is_forced: bool) -> Self {
        self.is_forced = is_forced;
        self
    }

    /// A hub of these settings.
    ///
    /// # Errors
    /// [`HubError::Setting`] where the endpoint is no URL, the token cannot be sent, or files are to be fetched again offline.
    pub fn build(mut self) -> Result<Hub, HubError> {
        if self.is_offline && self.is_forced {
            let expected = "a hub to download files from again";
            return Err(HubError::Setting { variable: "HF_HUB_OFFLINE", expected, found: "none".to_owned() });
        }
        self.endpoint.truncate(self.endpoint.trim_end_matches('/').len());
        let is_endpoint = |url: &Url| {
            ["http", "https"].contains(&url.scheme())
                && url.has_host()
                && url.query().is_none()
                && url.fragment().is_none()
        };
        if !Url::parse(&self.endpoint).is_ok_and(|url| is_endpoint(&url)) {
            let (expected, found) = ("the URL of a hub, http:// or https://", redacted(&self.endpoint));
            return Err(HubError::Setting { variable: "HF_ENDPOINT", expected, found });
        }
        if self.token.as_ref().is_some_and(|token| HeaderValue::from_str(token).is_err()) {
            // The token is nobody's business.
            let (expected, found) = ("a token of visible characters", "others".to_owned());
            return Err(HubError::Setting { variable: "HF_TOKEN", expected, found });
        }
        Ok(Hub { settings: self })
    }

    pub(super) fn endpoint_url(&self) -> &str {
        &self.endpoint
    }

    /// The endpoint as it may be shown.
    pub(super) fn shown_endpoint(&self) -> String {
        redacted(&self.endpoint)
    }

    pub(super) fn cache(&self) -> &Path {
        &self.cache
    }

    pub(super) fn token_text(&self) -> Option<&str> {
        self.token.as_deref()
    }

    pub(super) fn proxies(&self) -> &[Proxy] {
        &self.proxies
    }

    pub(super) fn longest_wait(&self) -> Duration {
        self.timeout
    }

    pub(super) fn is_offline(&self) -> bool {
        self.is_offline
    }

    pub(super) fn is_forced(&self) -> bool {
        self.is_forced
    }
}

impl fmt::Debug for HubBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HubBuilder")
            .field("endpoint", &self.shown_endpoint())
            .field("cache", &self.cache)
            .field("has_token", &self.token.is_some())
            .field("proxies", &self.proxies.len())
            .field("timeout", &self.timeout)
            .field("is_offline", &self.is_offline)
            .field("is_forced", &self.is_forced)
            .finish()
    }
}

/// A URL without the user and password it may have. Where it is malformed, rather too little is shown than too much.
pub(super) fn redacted(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").map_or(("", url), |(scheme, rest)| (scheme, rest));
    match rest.rsplit_once('@') {
        Some((_, rest)) if !scheme.is_empty() => format!("{scheme}://…@{rest}"),
        Some(_) | None => url.to_owned(),
    }
}
