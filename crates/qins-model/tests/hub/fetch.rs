//! What is fetched, how often, and where it comes to lie.

use std::{fs, thread};

use crate::{
    case::{Case, whole},
    repository::{MAIN, NAME, NEEDED, SHARDS, V1, checksum, files},
};

#[test]
fn a_model_is_fetched_whole_and_once() {
    let case = Case::new();
    let first = case.fetch(NAME);
    let expected: Vec<_> = SHARDS.map(|shard| (shard.to_owned(), files(MAIN)[shard].len() as u64)).into();
    let reported = first.bytes.iter().filter(|(file, done, total)| done == total && SHARDS.contains(&file.as_str()));
    assert_eq!(reported.map(|(file, done, _)| (file.clone(), *done)).collect::<Vec<_>>(), expected);
    let first = first.done();
    assert_eq!((&first.dir, first.commit.as_str(), first.transferred), (&case.snapshot(MAIN), MAIN, 7));
    // Just what is needed, each whole.
    let expected = NEEDED.iter().chain(&SHARDS).map(|file| ((*file).to_owned(), String::new()));
    assert_eq!(case.transfers(), expected.collect());
    case.is_whole();
    // As the hub's own programs lay it out.
    assert_eq!(fs::read_to_string(case.folder().join("refs/main")).unwrap(), MAIN);
    for file in ["config.json", SHARDS[0]] {
        let target = format!("../../blobs/{}", checksum(file, &files(MAIN)[file]));
        assert_eq!(fs::read_link(case.snapshot(MAIN).join(file)).unwrap().to_str(), Some(target.as_str()));
    }
    let names = |path: &str| {
        let entries = fs::read_dir(case.cache().join(path)).unwrap().map(|e| e.unwrap().file_name());
        let mut names: Vec<_> = entries.map(|name| name.into_string().unwrap()).collect();
        names.sort();
        names
    };
    assert_eq!(names(""), [".locks", "models--owner--name"]);
    assert_eq!(names("models--owner--name"), ["blobs", "refs", "snapshots"]);
    assert_eq!(names(".locks/models--owner--name").len(), names("models--owner--name/blobs").len());

    let second = case.fetch(NAME).done();
    assert_eq!((second.dir, second.transferred), (first.dir, 0));
    let requests = case.server.requests();
    assert!(requests.len() == 2 && requests.iter().all(|r| r.is_listing()), "{requests:?}");
}

#[test]
fn threads_at_once_transfer_each_file_once_and_none_sees_a_file_go() {
    for _ in 0..25 {
        let case = Case::new();
        thread::scope(|scope| {
            let fetch = || whole(&case.fetch(NAME).done().dir);
            let runs = [(); 3].map(|()| scope.spawn(fetch));
            runs.into_iter().for_each(|run| run.join().unwrap());
        });
        let contents = case.server.requests().into_iter().filter(|r| r.is_transfer());
        assert_eq!(contents.count(), NEEDED.len() + SHARDS.len());
    }
}

#[test]
#[cfg(unix)]
fn a_fetch_leaves_pointers_that_are_right_alone() {
    let case = Case::new();
    case.fetch(NAME).done();
    let changed = |file: &str| {
        let metadata = case.snapshot(MAIN).join(file).symlink_metadata().unwrap();
        std::os::unix::fs::MetadataExt::ino(&metadata)
    };
    let before = SHARDS.map(changed);
    // Fetched again, blobs are new; what leads to them is not.
    crate::case::fetch(case.hub().force_download(true), NAME).done();
    assert_eq!(SHARDS.map(changed), before);
}

#[test]
fn a_revision_is_another_snapshot_of_the_same_blobs() {
    let case = Case::new();
    case.fetch(NAME).done();
    case.transfers();
    let run = case.fetch(&format!("{NAME}@v1")).done();
    assert_eq!((run.commit.as_str(), run.transferred), (V1, 1));
    assert_eq!(case.transfers(), [("config.json".to_owned(), String::new())].into());
    assert_eq!(fs::read(case.snapshot(V1).join("config.json")).unwrap(), files(V1)["config.json"]);
    assert_eq!(fs::read_to_string(case.folder().join("refs/v1")).unwrap(), V1);
    // A commit names itself.
    assert_eq!(case.fetch(&format!("{NAME}@{V1}")).done().transferred, 0);
    assert_eq!(fs::read_dir(case.folder().join("refs")).unwrap().count(), 2);
}

#[test]
fn a_listing_of_several_pages_is_read_to_its_end() {
    let case = Case::new();
    let url = case.server.url.clone();
    case.server.misbehave(move |request, answer| {
        if !request.path.contains("/tree/") {
            return;
        }
        let entries: Vec<serde_json::Value> = serde_json::from_slice(&answer.body).unwrap();
        let half = entries.len() / 2;
        let is_second = request.path.ends_with("?cursor=2");
        let page = if is_second { &entries[half..] } else { &entries[..half] };
        answer.body = serde_json::to_vec(page).unwrap();
        if !is_second {
            let next = format!("<{url}{}?cursor=2>; rel=\"next\"", request.path);
            answer.headers.insert("link", next);
        }
    });
    case.fetch(NAME).done();
    case.is_whole();
    // Pages without an end.
    case.server.misbehave(|request, answer| {
        if request.path.contains("/tree/") {
            answer.headers.insert("link", format!("<{}>; rel=\"next\"", request.path));
        }
    });
    case.fetch(NAME).refused("endless", &["expected the listing of a repository, found more than 64 pages"]);
    // A page without an end.
    case.server.misbehave(|request, answer| {
        if request.path.contains("/tree/") {
            answer.body = vec![b' '; 9 << 20];
        }
    });
    case.fetch(NAME).refused("large", &["more than 8388608 bytes"]);
}

#[test]
fn a_fetch_works_within_an_async_runtime() {
    let case = Case::new();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async { case.fetch(NAME).done() });
    case.is_whole();
}
