//! Where requests go, with which token, and through which proxy.

use std::{
    collections::BTreeSet,
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
};

use qins_model::hub::{Hub, HubBuilder};

use crate::{
    case::{Case, fetch},
    repository::{MAIN, NAME, SHARDS},
    server::{HubServer, read},
};

#[test]
fn the_token_is_for_the_hub_alone_and_the_cache_where_it_is_said_to_be() {
    let case = Case::new();
    let cache = case.home.path().join("elsewhere");
    let elsewhere = [("HF_HUB_CACHE", cache.to_str().unwrap())];
    let file = case.home.path().join("token");
    fs::write(&file, " from-file\n").unwrap();
    let file = [("HF_TOKEN_PATH", file.to_str().unwrap())];
    case.fetch_with(NAME, &[("HF_TOKEN", "mine")]).done();
    assert!(case.server.requests().iter().all(|request| request.token() == "Bearer mine"));
    // Another name for this host is another host.
    let port = case.server.port();
    case.server.misbehave(move |_, answer| {
        if let Some(location) = answer.headers.get_mut("location") {
            *location = location.replace("http://127.0.0.1", "http://localhost");
            if location.starts_with('/') {
                *location = format!("http://localhost:{port}{location}");
            }
        }
    });
    for (variables, token) in [(&file, "Bearer from-file"), (&[("HF_TOKEN", "mine")], "Bearer mine"), (&elsewhere, "")]
    {
        let _ = fs::remove_dir_all(case.home.path().join("hf"));
        case.fetch_with(NAME, variables).done();
        let requests = case.server.requests();
        let (away, hub): (Vec<_>, Vec<_>) = requests.iter().partition(|r| r.headers["host"].starts_with("localhost"));
        assert!(!away.is_empty() && away.iter().all(|r| r.token().is_empty()), "{away:?}");
        assert_eq!(hub.iter().map(|r| r.token()).collect::<BTreeSet<_>>(), [token].into());
    }
    assert!(cache.join("models--owner--name/snapshots").join(MAIN).join(SHARDS[0]).exists());
    assert!(!case.home.path().join("hf").exists());
}

#[test]
fn a_token_does_not_go_to_another_port_of_the_same_host() {
    let (case, other) = (Case::new(), HubServer::start());
    let url = other.url.clone();
    // Both the content of files and the second page of the listing are there.
    case.server.misbehave(move |request, answer| {
        if request.path.contains("/resolve/") {
            let path = request.path.replace("/owner/name/resolve/", "/cdn/");
            answer.becomes(302, &[("location", &format!("{url}{path}"))]);
        }
        if request.path.contains("/tree/") {
            answer.headers.insert("link", format!("<{url}{}>; rel=\"next\"", request.path));
        }
    });
    fetch(case.hub().token("mine"), NAME).done();
    let requests = case.server.requests();
    assert!(!requests.is_empty() && requests.iter().all(|request| request.token() == "Bearer mine"));
    let requests = other.requests();
    assert!(requests.iter().any(|r| r.is_transfer()) && requests.iter().any(|r| r.is_listing()));
    assert!(requests.iter().all(|request| request.token().is_empty()), "{requests:?}");
}

#[test]
fn redirections_are_resolved_as_urls_are() {
    type Location = fn(u16, &str) -> String;
    let forms: [Location; 4] = [
        |port, file| format!("//localhost:{port}/cdn/{MAIN}/{file}"),
        |_, file| format!("../../../../cdn/{MAIN}/{file}"),
        |_, file| format!("./../../../../cdn/{MAIN}/./{file}?signature=a/b"),
        |_, file| format!("/cdn/{MAIN}/{file}#part"),
    ];
    for form in forms {
        let case = Case::new();
        let port = case.server.port();
        case.server.misbehave(move |request, answer| {
            if let (true, Some(file)) = (request.path.contains("/resolve/"), request.path.rsplit('/').next()) {
                answer.becomes(302, &[("location", &form(port, file))]);
            }
        });
        fetch(case.hub().token("mine"), NAME).done();
        case.is_whole();
        let away = case.server.requests().into_iter().filter(|r| r.headers["host"].starts_with("localhost"));
        assert!(away.into_iter().all(|request| request.token().is_empty()));
    }
}

#[test]
fn an_https_endpoint_is_spoken_to_in_tls() {
    let case = Case::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let first = thread::spawn(move || {
        let mut byte = [0];
        listener.accept().unwrap().0.read_exact(&mut byte).unwrap();
        byte[0]
    });
    case.fetch_with(NAME, &[("HF_ENDPOINT", &url)]).refused("no TLS there", &[&url, "expected an answer"]);
    // A handshake record.
    assert_eq!(first.join().unwrap(), 0x16);
}

#[test]
fn a_password_is_sent_to_the_endpoint_and_shown_to_nobody() {
    let mut case = Case::new();
    let url = case.server.url.replace("http://", "http://user:secret@");
    let hub = || Hub::builder(case.cache()).endpoint(&url);
    fetch(hub(), NAME).done();
    let requests = case.server.requests();
    assert!(requests.iter().all(|request| request.token() == "Basic dXNlcjpzZWNyZXQ="), "{requests:?}");
    assert!(!format!("{:?}", hub().build().unwrap()).contains("secret"));
    let shown = |run: crate::case::Run| {
        let error = run.result.as_ref().err().map_or(String::new(), |error| format!("{error} {error:?}"));
        let text = format!("{error} {:?}", run.notes);
        assert!(text.contains("…@127.0.0.1") && !text.contains("secret"), "{text}");
    };
    shown(fetch(hub(), "owner/none"));
    case.server.misbehave(|request, answer| {
        if request.is_transfer() {
            answer.becomes(403, &[]);
        }
    });
    shown(fetch(hub().force_download(true), NAME));
    case.server.stop();
    let hub = || Hub::builder(case.cache()).endpoint(&url);
    // From the cache, and not at all.
    shown(fetch(hub(), NAME));
    shown(fetch(hub(), "owner/other"));
}

/// A proxy that answers nothing; gives what it is sent first.
fn proxy() -> (String, Arc<Mutex<Vec<u8>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, seen) = (listener.local_addr().unwrap().to_string(), Arc::new(Mutex::new(Vec::new())));
    let shared = seen.clone();
    thread::spawn(move || {
        for stream in listener.incoming() {
            // Open until what came is written down: its end is what the other side waits for.
            let (mut stream, mut bytes) = (stream.unwrap(), [0; 3]);
            let _ = stream.read_exact(&mut bytes);
            *shared.lock().unwrap() = bytes.into();
        }
    });
    (address, seen)
}

#[test]
fn a_proxy_is_used_and_never_passed_by() {
    // SOCKS 5 and 4 greet with their version.
    for (scheme, greeting) in [("socks5", 5), ("socks5h", 5), ("socks4", 4), ("http", b'G'), ("", b'G')] {
        for variable in ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"] {
            let (case, (address, seen)) = (Case::new(), proxy());
            let value = if scheme.is_empty() { address } else { format!("{scheme}://{address}") };
            case.fetch_with(NAME, &[(variable, &value)]).refused(&value, &[NAME, "expected an answer"]);
            assert_eq!(seen.lock().unwrap().first(), Some(&greeting), "{variable}={value}");
            assert!(case.server.requests().is_empty(), "{variable}={value}");
        }
    }
    // Where there is to be none, there is none.
    for exceptions in ["*", "example.com, 127.0.0.1"] {
        let (case, (address, seen)) = (Case::new(), proxy());
        case.fetch_with(NAME, &[("ALL_PROXY", &address), ("NO_PROXY", exceptions)]).done();
        assert!(seen.lock().unwrap().is_empty());
    }
}

#[test]
fn an_http_proxy_hands_on_what_it_is_asked_for() {
    let case = Case::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let target = case.server.url.clone();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, target) = (stream.unwrap(), target.clone());
            thread::spawn(move || {
                let Some(request) = read(&stream) else { return };
                let path = request.path.strip_prefix(&target).expect("a whole URL");
                let mut onward = TcpStream::connect(target.trim_start_matches("http://")).unwrap();
                let mut head = format!("{} {path} HTTP/1.1\r\n", request.method);
                request.headers.iter().for_each(|(name, value)| head += &format!("{name}: {value}\r\n"));
                onward.write_all(format!("{head}\r\n").as_bytes()).unwrap();
                let _ = std::io::copy(&mut onward, &mut stream);
            });
        }
    });
    case.fetch_with(NAME, &[("HTTP_PROXY", &address)]).done();
    case.is_whole();
}

#[test]
fn what_is_no_proxy_is_refused_without_its_password() {
    let case = Case::new();
    for value in [
        "http://user:secret@",
        "ftp://user:secret@proxy:1",
        "socks://user:secret@proxy:1",
        "http://user:secret@proxy:port",
        "user:secret@proxy:port",
        "http://user:secret@proxy/path",
        "http://user:sec/secret@proxy",
        "://user:secret@x",
    ] {
        for variable in ["HTTPS_PROXY", "HTTP_PROXY", "all_proxy"] {
            let variables = [(variable, value)];
            let error = HubBuilder::from_vars(case.vars(&variables)).unwrap_err().to_string();
            let says = [variable, "expected a proxy, http://host:port or socks5://host:port, found"];
            assert!(says.iter().all(|word| error.contains(word)) && !error.contains("secret"), "{value}: {error}");
        }
    }
    assert!(case.server.requests().is_empty());
}
