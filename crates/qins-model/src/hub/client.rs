//! How the hub is spoken to: through hf-hub, and through the client that hf-hub is given.

use std::time::Duration;

use hf_hub::{HFClient, HFError, HFRepository, RepoTypeModel};
use reqwest::{
    Response, Url,
    header::{ACCEPT_ENCODING, AUTHORIZATION, HeaderMap, HeaderValue, RETRY_AFTER},
    redirect::{Attempt, Policy},
};

use super::{HubBuilder, HubFailure, HubName};

/// The most redirections that are followed.
pub(super) const REDIRECTIONS: usize = 5;

/// The hub.
pub(super) struct Client {
    http: reqwest::Client,
    hub: HFClient,
    pub(super) endpoint: Url,
    pub(super) shown_endpoint: String,
    authorization: Option<HeaderValue>,
    pub(super) longest_wait: Duration,
}

impl Client {
    pub(super) fn new(settings: &HubBuilder) -> Result<Self, HubFailure> {
        let wait = settings.longest_wait();
        // Bytes are asked for as they are: where they may be compressed, the hub neither tells their number nor serves a part
        // of them.
        let headers = HeaderMap::from_iter([(ACCEPT_ENCODING, HeaderValue::from_static("identity"))]);
        // Across a change of scheme, host or port reqwest leaves the token behind.
        let http = reqwest::Client::builder()
            .user_agent(concat!("qins/", env!("CARGO_PKG_VERSION")))
            .default_headers(headers)
            .redirect(Policy::custom(follow))
            .referer(false)
            .connect_timeout(wait)
            .read_timeout(wait)
            .no_proxy();
        let http = settings.proxies().iter().cloned().fold(http, reqwest::ClientBuilder::proxy);
        let http = http.build().map_err(|e| HubFailure::Client(e.into()))?;
        let hub = HFClient::builder()
            .client(http.clone())
            .endpoint(settings.endpoint_url())
            // Without one hf-hub 1.0 looks for one in the environment; what no header can hold it does not send.
            .token(settings.token_text().unwrap_or("\n"))
            .cache_dir(settings.cache())
            .cache_enabled(false)
            .retry_max_attempts(0);
        Ok(Self {
            http,
            hub: hub.build().map_err(|e| HubFailure::Client(e.into()))?,
            endpoint: settings.endpoint_url().parse().map_err(|e| HubFailure::Client(Box::new(e)))?,
            shown_endpoint: settings.shown_endpoint(),
            authorization: settings.token_text().and_then(|t| HeaderValue::from_str(&format!("Bearer {t}")).ok()),
            longest_wait: wait,
        })
    }

    /// hf-hub's view of a repository.
    pub(super) fn repository(&self, name: &HubName) -> HFRepository<RepoTypeModel> {
        self.hub.model(name.owner(), name.name())
    }

    /// Asks for a URL; the token goes to the endpoint's own scheme, host and port alone.
    pub(super) async fn get(&self, url: Url) -> Result<Response, HubFailure> {
        let authorization = self.authorization.as_ref().filter(|_| url.origin() == self.endpoint.origin());
        let mut request = self.http.get(url);
        if let Some(value) = authorization {
            request = request.header(AUTHORIZATION, value);
        }
        request.send().await.map_err(HubFailure::of_request)
    }
}

fn follow(attempt: Attempt<'_>) -> reqwest::redirect::Action {
    if attempt.previous().len() > REDIRECTIONS { attempt.error("found more") } else { attempt.follow() }
}

/// The seconds that an answer asks to wait. The other form, a date, is left to the common wait.
pub(super) fn retry_after(answer: &Response) -> Option<Duration> {
    header(answer, RETRY_AFTER.as_str())?.trim().parse().ok().map(Duration::from_secs)
}

pub(super) fn header<'a>(answer: &'a Response, name: &str) -> Option<&'a str> {
    answer.headers().get(name)?.to_str().ok()
}

/// A whole answer of a limited size.
pub(super) async fn body(mut answer: Response, limit: usize) -> Result<Vec<u8>, HubFailure> {
    let mut text = Vec::new();
    while let Some(piece) = answer.chunk().await.map_err(HubFailure::of_request)? {
        if text.len() + piece.len() > limit {
            return Err(HubFailure::Listing(format!("more than {limit} bytes")));
        }
        text.extend_from_slice(&piece);
    }
    Ok(text)
}

impl From<HFError> for HubFailure {
    fn from(error: HFError) -> Self {
        match error {
            HFError::Http { context } | HFError::AuthRequired { context } | HFError::Forbidden { context } => {
                Self::of_status(context.status.as_u16(), None)
            }
            HFError::RateLimited { retry_after, context } => Self::of_status(context.status.as_u16(), retry_after),
            HFError::RepoNotFound { .. } | HFError::RevisionNotFound { .. } | HFError::EntryNotFound { .. } => {
                Self::NotFound
            }
            HFError::Request { source, .. } => Self::of_request(source),
            other => Self::Unreachable(other.into()),
        }
    }
}
