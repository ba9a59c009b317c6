//! `--model owner/name`: fetched whole, once, and checked; whatever goes wrong is one sentence.

use std::{
    collections::BTreeSet,
    fs,
    net::TcpListener,
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use crate::{
    common::{Run, fixture},
    hub_server::{Answer, Case, MAIN, REPOSITORY, Request, Sent, V1, files},
};

const SHARDS: [&str; 3] =
    ["model-00001-of-00003.safetensors", "model-00002-of-00003.safetensors", "model-00003-of-00003.safetensors"];
const NEEDED: [&str; 4] =
    ["config.json", "generation_config.json", "model.safetensors.index.json", "special_tokens_map.json"];

/// Every answer about the second shard that tells its checksum is changed.
fn announce(case: &Case, change: impl Fn(&mut Answer) + Send + Sync + 'static) {
    case.server.misbehave(move |request, answer| {
        if request.path.contains("/resolve/") && request.path.ends_with(SHARDS[1]) {
            change(answer);
        }
    });
}

#[test]
fn a_model_is_fetched_whole_and_once_and_says_what_its_directory_says() {
    let case = Case::new();
    let first = case.generate(REPOSITORY);
    assert_eq!(first.err.matches("note: ").count(), 1, "{}", first.err);
    assert!(first.err.contains(&format!("note: fetched {REPOSITORY}@{MAIN}")), "{}", first.err);
    // Just what is needed, each whole.
    let expected = NEEDED.iter().chain(&SHARDS).map(|file| ((*file).to_owned(), String::new()));
    assert_eq!(case.transfers(), expected.collect());
    for (file, content) in files(MAIN) {
        let is_needed = NEEDED.contains(&file.as_str()) || SHARDS.contains(&file.as_str());
        assert_eq!(fs::read(case.snapshot(MAIN).join(&file)).ok(), is_needed.then_some(content), "{file}");
    }
    let reference = case.folder().join("refs/main");
    assert_eq!(fs::read_to_string(reference).unwrap(), MAIN);

    let second = case.generate(REPOSITORY);
    assert!(!second.err.contains("note: "), "{}", second.err);
    let requests = case.server.requests();
    assert_eq!(requests.len(), 1, "{requests:?}");
    assert!(requests[0].path.starts_with("/api/models/"));

    let ids = |run: Run| run.lines()[0]["generated_ids"].clone();
    let expected = ids(case.generate(fixture("b_gqa/bf16").to_str().unwrap()));
    assert!(expected.as_array().is_some_and(|ids| !ids.is_empty()));
    assert_eq!((ids(first), ids(second)), (expected.clone(), expected));
}

#[test]
fn two_runs_at_once_transfer_each_file_once() {
    let case = Case::new();
    thread::scope(|scope| {
        let runs = [(); 2].map(|()| scope.spawn(|| case.generate(REPOSITORY).done()));
        runs.into_iter().for_each(|run| drop(run.join().unwrap()));
    });
    let contents = case.server.requests().into_iter().filter(|r| r.method == "GET" && r.path.starts_with("/cdn/"));
    assert_eq!(contents.count(), NEEDED.len() + SHARDS.len());
}

#[test]
fn a_revision_is_another_snapshot_of_the_same_blobs() {
    let case = Case::new();
    case.generate(REPOSITORY).done();
    case.transfers();
    let run = case.generate(&format!("{REPOSITORY}@v1"));
    assert!(run.err.contains(&format!("note: fetched {REPOSITORY}@{V1}")), "{}", run.err);
    run.done();
    assert_eq!(case.transfers(), [("config.json".to_owned(), String::new())].into());
    assert_eq!(fs::read(case.snapshot(V1).join("config.json")).unwrap(), files(V1)["config.json"]);
    assert_eq!(fs::read_to_string(case.folder().join("refs/v1")).unwrap(), V1);
    // A commit names itself.
    assert!(!case.generate(&format!("{REPOSITORY}@{V1}")).err.contains("note: "));
    assert_eq!(fs::read_dir(case.folder().join("refs")).unwrap().count(), 2);
}

#[test]
fn a_transfer_that_is_cut_off_goes_on_where_it_stopped() {
    let half = files(MAIN)[SHARDS[1]].len() / 2;
    let resumed = (SHARDS[1].to_owned(), format!("bytes={half}-"));
    // In the same run, when the connection ends and when it is silent.
    for sent in [Sent::Half, Sent::Stalled] {
        let case = Case::new();
        let count = AtomicU32::new(0);
        case.server.misbehave(move |request, answer| {
            if request.is_for(SHARDS[1]) && count.fetch_add(1, Ordering::SeqCst) == 0 {
                answer.sent = sent;
            }
        });
        let start = Instant::now();
        case.generate_with(REPOSITORY, &[("HF_HUB_DOWNLOAD_TIMEOUT", "1")]).done();
        assert!(start.elapsed() < Duration::from_secs(10));
        assert!(case.transfers().contains(&resumed));
    }
    // In the next.
    let case = Case::new();
    let count = AtomicU32::new(0);
    case.server.misbehave(move |request, answer| {
        if request.is_for(SHARDS[1]) {
            answer.sent = if count.fetch_add(1, Ordering::SeqCst) == 0 { Sent::Half } else { Sent::Nothing };
        }
    });
    case.generate(REPOSITORY).refused("cut off", &[REPOSITORY, SHARDS[1], "4 times", "run this again"]);
    assert!(!case.snapshot(MAIN).join(SHARDS[1]).is_symlink());
    case.server.behave();
    case.transfers();
    case.generate(REPOSITORY).done();
    assert_eq!(case.transfers(), [resumed, (SHARDS[2].to_owned(), String::new())].into());
    assert_eq!(fs::read(case.snapshot(MAIN).join(SHARDS[1])).unwrap(), files(MAIN)[SHARDS[1]]);
}

#[test]
fn a_part_that_the_server_does_not_continue_is_begun_anew() {
    let case = Case::new();
    // Cut off once; then all of it comes, whatever is asked for.
    let count = AtomicU32::new(0);
    case.server.misbehave(move |request, answer| {
        if request.is_for(SHARDS[1]) {
            answer.status = 200;
            answer.headers.remove("content-range");
            answer.body = files(MAIN)[SHARDS[1]].clone();
            answer.sent = if count.fetch_add(1, Ordering::SeqCst) == 0 { Sent::Half } else { Sent::All };
        }
    });
    case.generate(REPOSITORY).done();
    assert_eq!(case.transfers().iter().filter(|(file, _)| file == SHARDS[1]).count(), 2);

    // A part that is longer than the file.
    let case = Case::new();
    case.generate(REPOSITORY).done();
    let blob = fs::canonicalize(case.snapshot(MAIN).join(SHARDS[1])).unwrap();
    fs::remove_file(&blob).unwrap();
    fs::write(blob.with_extension("incomplete"), vec![0; 1 << 20]).unwrap();
    case.generate(REPOSITORY).done();
    assert_eq!(fs::read(&blob).unwrap(), files(MAIN)[SHARDS[1]]);
}

#[test]
fn what_is_not_as_announced_is_refused_and_nothing_of_it_stays() {
    let case = Case::new();
    // A byte that is another one.
    for file in ["config.json", SHARDS[1]] {
        case.server.misbehave(move |request, answer| {
            if request.is_for(file) {
                answer.body[9] ^= 1;
            }
        });
        case.refused(file, &["expected checksum", "found"]);
    }
    // More bytes, fewer bytes, bytes of another place, and none of those asked for.
    announce(&case, |answer| drop(answer.headers.insert("x-linked-size", "32183".to_owned())));
    case.refused(SHARDS[1], &["expected 32183 bytes", "found 32184"]);
    announce(&case, |answer| drop(answer.headers.insert("x-linked-size", "32185".to_owned())));
    case.refused(SHARDS[1], &["expected 32185 bytes", "found 32184"]);
    announce(&case, |answer| drop(answer.headers.insert("x-repo-commit", V1.to_owned())));
    case.refused(SHARDS[1], &["commit", MAIN, V1]);
    for etag in ["../../evil", "/tmp/evil", "\"\"", "W/\"abc\""] {
        announce(&case, move |answer| drop(answer.headers.insert("x-linked-etag", etag.to_owned())));
        case.refused(SHARDS[1], &["expected a SHA-256 or a SHA-1", "etag"]);
    }
    announce(&case, |answer| answer.becomes(302, &[]));
    case.refused(SHARDS[1], &["expected a redirection to a URL"]);
    announce(&case, |answer| {
        answer.becomes(302, &[("location", &format!("/owner/name/resolve/{MAIN}/{}", SHARDS[1]))])
    });
    case.refused(SHARDS[1], &["expected at most 5 redirections"]);
    // And then all is well.
    case.server.behave();
    case.generate(REPOSITORY).done();
}

#[test]
fn an_index_that_leads_elsewhere_is_refused() {
    for (name, says) in [
        ("../evil.safetensors", "\"../evil.safetensors\""),
        ("/tmp/evil.safetensors", "\"/tmp/evil.safetensors\""),
        ("sub/evil.safetensors", "\"sub/evil.safetensors\""),
        ("evil.bin", "\"evil.bin\""),
        ("absent.safetensors", "absent.safetensors: expected it in the repository"),
    ] {
        let case = Case::new();
        case.generate(REPOSITORY).done();
        let index = case.snapshot(MAIN).join("model.safetensors.index.json");
        fs::write(fs::canonicalize(index).unwrap(), format!("{{\"weight_map\":{{\"w\":\"{name}\"}}}}")).unwrap();
        case.transfers();
        case.generate(REPOSITORY).refused(name, &[REPOSITORY, says]);
        assert_eq!(case.server.requests().len(), 1, "{name}");
    }
}

#[test]
fn a_hub_that_does_not_give_a_model_is_quoted() {
    let case = Case::new();
    let both = "no such directory, and none from http://127.0.0.1:";
    case.generate("owner/none").refused("repository", &["owner/none", both, "404", "check the name"]);
    case.generate("owner/name@v9").refused("revision", &["owner/name@v9", both, "no `v9`"]);
    for status in [401, 403] {
        case.server.misbehave(move |_, answer| answer.becomes(status, &[]));
        let says = [both, &status.to_string(), "accept the licence", "HF_TOKEN"];
        case.generate(REPOSITORY).refused("listing", &says);
        // A gated model is listed for all.
        case.server.misbehave(move |request, answer| {
            if request.path.contains("/resolve/") {
                answer.becomes(status, &[]);
            }
        });
        case.refused("config.json", &[&status.to_string(), "accept the licence", "HF_TOKEN"]);
    }
    case.server.misbehave(|request, answer| {
        if request.path.contains("/resolve/") {
            answer.becomes(404, &[]);
        }
    });
    case.refused("config.json", &["404"]);
    let sha = |sha: &str| format!("{{\"sha\":\"{sha}\",\"siblings\":[]}}");
    for (text, says) in [
        ("<html>\nSign in</html>".to_owned(), "expected the listing of a repository, found another text"),
        ("{}".to_owned(), "missing field `sha`"),
        (sha("../../evil"), "commit \"../../evil\""),
        (sha(MAIN), "config.json: expected it in the repository, found none"),
    ] {
        case.server.misbehave(move |_, answer| answer.body = text.clone().into());
        case.generate(REPOSITORY).refused(says, &[REPOSITORY, says]);
    }
    // What can be no name is a directory.
    case.server.requests();
    for directory in
        ["a/b/c", "./owner/name", "/owner/name", "owner", "owner/../name", "owner/na me", "owner/name@../x"]
    {
        let run = case.generate(directory);
        assert!(run.code == Some(2) && !run.err.contains("127.0.0.1"), "{directory}: {}", run.err);
    }
    assert!(case.server.requests().is_empty());
}

#[test]
fn without_the_hub_the_cache_will_do() {
    let mut case = Case::new();
    let offline = |case: &Case| case.generate_with(REPOSITORY, &[("HF_HUB_OFFLINE", "1")]);
    let says =
        ["no such directory", "refs/main", "unset HF_HUB_OFFLINE", case.folder().to_str().unwrap()].map(String::from);
    offline(&case).refused("offline", &says.each_ref().map(String::as_str));
    case.generate(REPOSITORY).done();
    case.server.requests();
    assert!(!offline(&case).err.contains("note: "));
    offline(&case).done();
    assert!(case.server.requests().is_empty());

    let from_cache = format!("using {REPOSITORY}@{MAIN} from the cache");
    case.server.misbehave(|_, answer| answer.becomes(503, &[]));
    let busy = case.generate(REPOSITORY);
    assert!(busy.err.contains(&from_cache) && busy.err.contains("503"), "{}", busy.err);
    case.server.stop();
    let gone = case.generate(REPOSITORY);
    assert!(gone.err.contains(&from_cache), "{}", gone.err);
    assert_eq!(gone.err.matches("note: ").count(), 1);
    gone.done();
    case.generate("owner/other")
        .refused("neither", &["no such directory", &case.server.url, "expected an answer", "cache"]);
    // Half a snapshot is none.
    fs::remove_file(case.snapshot(MAIN).join(SHARDS[2])).unwrap();
    case.generate(REPOSITORY).refused("incomplete", &[SHARDS[2]]);
    offline(&case).refused("incomplete", &[SHARDS[2], "unset HF_HUB_OFFLINE"]);
}

#[test]
fn the_source_report_s_run_is_of_its_model_and_says_what_is_missing() {
    let case = Case::new();
    let report = |arguments: &[&str]| {
        case.qins(&[&["validate", "--preset", "report"], arguments].concat(), &[("HF_HUB_OFFLINE", "1")])
    };
    let folder = "hub/models--microsoft--Phi-3.5-mini-instruct";
    report(&[]).refused("absent", &["microsoft/Phi-3.5-mini-instruct", folder, "refs/main", "unset HF_HUB_OFFLINE"]);
    fs::create_dir_all(case.home.path(&format!("hf/{folder}/refs"))).unwrap();
    case.home.write(&format!("hf/{folder}/refs/main"), MAIN);
    report(&[]).refused("no snapshot", &["microsoft/Phi-3.5-mini-instruct", MAIN, "config.json"]);
    // Of a model that is named, that one's.
    report(&["--model", REPOSITORY]).refused("another", &[REPOSITORY, "models--owner--name"]);
}

#[test]
fn the_token_is_for_the_hub_alone_and_the_cache_where_it_is_said_to_be() {
    let case = Case::new();
    let cache = case.home.path("elsewhere");
    let elsewhere = [("HF_HUB_CACHE", cache.to_str().unwrap())];
    case.home.write("token", " from-file\n");
    let file = case.home.path("token");
    let file = [("HF_TOKEN_PATH", file.to_str().unwrap())];
    case.generate_with(REPOSITORY, &[("HF_TOKEN", "mine")]).done();
    let is_sent = |request: &Request| request.headers.get("authorization").is_some_and(|token| token == "Bearer mine");
    assert!(case.server.requests().iter().all(is_sent));
    // Another name for this host is another host.
    let port = case.server.url.rsplit(':').next().unwrap().to_owned();
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
        let _ = fs::remove_dir_all(case.home.path("hf"));
        case.generate_with(REPOSITORY, variables).done();
        let requests = case.server.requests();
        let (away, hub): (Vec<_>, Vec<_>) = requests.iter().partition(|r| r.headers["host"].starts_with("localhost"));
        assert!(!away.is_empty() && away.iter().all(|r| !r.headers.contains_key("authorization")), "{away:?}");
        let sent = hub.iter().map(|r| r.headers.get("authorization").map_or("", String::as_str));
        assert_eq!(sent.collect::<BTreeSet<_>>(), [token].into());
    }
    assert!(cache.join("models--owner--name/snapshots").join(MAIN).join(SHARDS[0]).exists());
    assert!(!case.home.path("hf").exists());
}

#[test]
fn an_https_endpoint_is_spoken_to_in_tls() {
    let case = Case::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let first = thread::spawn(move || {
        let mut byte = [0];
        std::io::Read::read_exact(&mut listener.accept().unwrap().0, &mut byte).unwrap();
        byte[0]
    });
    case.generate_with(REPOSITORY, &[("HF_ENDPOINT", &url)]).refused("no TLS there", &[&url, "expected an answer"]);
    // A handshake record.
    assert_eq!(first.join().unwrap(), 0x16);
}

/// `/dev/full` is a disk that has no space.
#[test]
#[cfg(target_os = "linux")]
fn a_full_disk_is_named_with_what_to_do() {
    let case = Case::new();
    case.generate(REPOSITORY).done();
    let blob = fs::canonicalize(case.snapshot(MAIN).join(SHARDS[0])).unwrap();
    fs::remove_file(&blob).unwrap();
    std::os::unix::fs::symlink("/dev/full", blob.with_extension("incomplete")).unwrap();
    case.generate(REPOSITORY).refused("full", &[SHARDS[0], "No space left", "HF_HUB_CACHE"]);
}
