//! The proxies that the environment names: used, or refused, never passed by in silence.

use reqwest::{NoProxy, Proxy, Url};

use super::{HubError, settings::redacted};

const SCHEMES: [&str; 6] = ["http", "https", "socks4", "socks4a", "socks5", "socks5h"];
const EXPECTED: &str = "a proxy, http://host:port or socks5://host:port";

type Scope = fn(Url) -> reqwest::Result<Proxy>;

/// The first proxy that covers a URL is the one that is used.
const VARIABLES: [([&str; 2], Scope); 3] = [
    (["HTTPS_PROXY", "https_proxy"], |url| Proxy::https(url)),
    (["HTTP_PROXY", "http_proxy"], |url| Proxy::http(url)),
    (["ALL_PROXY", "all_proxy"], |url| Proxy::all(url)),
];

pub(super) fn from_vars(text: &dyn Fn(&str) -> Option<String>) -> Result<Vec<Proxy>, HubError> {
    let exceptions = text("NO_PROXY").or_else(|| text("no_proxy")).unwrap_or_default();
    // Of addresses reqwest has no such wildcard.
    if exceptions.split(',').any(|part| part.trim() == "*") {
        return Ok(Vec::new());
    }
    let mut proxies = Vec::new();
    for (names, scope) in VARIABLES {
        let Some((variable, value)) = names.into_iter().find_map(|name| Some((name, text(name)?))) else { continue };
        let refused = || {
            // Without a scheme there may be a password all the same.
            let found = value.rsplit_once('@').map_or_else(|| redacted(&value), |(_, host)| format!("…@{host}"));
            HubError::Setting { variable, expected: EXPECTED, found }
        };
        let url = if value.contains("://") { value.clone() } else { format!("http://{value}") };
        let url = Url::parse(&url).map_err(|_| refused())?;
        if !SCHEMES.contains(&url.scheme()) || !url.has_host() || !["", "/"].contains(&url.path()) {
            return Err(refused());
        }
        let proxy = scope(url).map_err(|_| refused())?;
        proxies.push(proxy.no_proxy(NoProxy::from_string(&exceptions)));
    }
    Ok(proxies)
}
