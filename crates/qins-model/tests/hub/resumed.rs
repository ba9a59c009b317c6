//! Transfers that break off.

use std::{
    fs,
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use crate::{
    case::{Case, fetch},
    repository::{MAIN, NAME, SHARDS, files},
    server::Sent,
};

#[test]
fn a_transfer_that_is_cut_off_goes_on_where_it_stopped() {
    let size = files(MAIN)[SHARDS[1]].len();
    let half = size / 2;
    let resumed = (SHARDS[1].to_owned(), format!("bytes={half}-{}", size - 1));
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
        case.fetch_with(NAME, &[("HF_HUB_DOWNLOAD_TIMEOUT", "1")]).done();
        assert!(start.elapsed() < Duration::from_secs(10));
        assert!(case.transfers().contains(&resumed));
        case.is_whole();
    }
    // In the next.
    let case = Case::new();
    let count = AtomicU32::new(0);
    case.server.misbehave(move |request, answer| {
        if request.is_for(SHARDS[1]) {
            answer.sent = if count.fetch_add(1, Ordering::SeqCst) == 0 { Sent::Half } else { Sent::Nothing };
        }
    });
    case.fetch(NAME).refused("cut off", &[NAME, SHARDS[1], "4 times", "run this again"]);
    assert!(!case.snapshot(MAIN).join(SHARDS[1]).is_symlink());
    case.server.behave();
    case.transfers();
    case.fetch(NAME).done();
    assert_eq!(case.transfers(), [resumed, (SHARDS[2].to_owned(), String::new())].into());
    case.is_whole();
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
    case.fetch(NAME).done();
    assert_eq!(case.transfers().iter().filter(|(file, _)| file == SHARDS[1]).count(), 2);
    case.is_whole();

    // A server that says of a part how long the whole is.
    let case = Case::new();
    let count = AtomicU32::new(0);
    case.server.misbehave(move |request, answer| {
        if request.is_for(SHARDS[1]) {
            answer.headers.insert("x-linked-size", files(MAIN)[SHARDS[1]].len().to_string());
            answer.sent = if count.fetch_add(1, Ordering::SeqCst) == 0 { Sent::Half } else { Sent::All };
        }
    });
    case.fetch(NAME).done();
    case.is_whole();

    // A part that is longer than the file, and one that is as long but another.
    for length in [1 << 20, files(MAIN)[SHARDS[1]].len()] {
        let case = Case::new();
        case.fetch(NAME).done();
        let blob = case.blob(SHARDS[1]);
        fs::remove_file(&blob).unwrap();
        fs::write(blob.with_extension("incomplete"), vec![0; length]).unwrap();
        if length < 1 << 20 {
            case.fetch(NAME).refused("another", &[SHARDS[1], "expected checksum"]);
        }
        case.fetch(NAME).done();
        case.is_whole();
    }
}

/// `/dev/full` is a disk that has no space.
#[test]
#[cfg(target_os = "linux")]
fn a_full_disk_is_named_with_what_to_do() {
    let case = Case::new();
    case.fetch(NAME).done();
    let blob = case.blob(SHARDS[0]);
    fs::remove_file(&blob).unwrap();
    std::os::unix::fs::symlink("/dev/full", blob.with_extension("incomplete")).unwrap();
    case.fetch(NAME).refused("full", &[SHARDS[0], "No space left", "HF_HUB_CACHE"]);
}

#[test]
fn a_forced_download_fetches_what_is_there_again() {
    let case = Case::new();
    case.fetch(NAME).done();
    // Of the same size: no listing tells.
    let blob = case.blob(SHARDS[0]);
    fs::write(&blob, vec![1; files(MAIN)[SHARDS[0]].len()]).unwrap();
    assert_eq!(case.fetch(NAME).done().transferred, 0);
    assert_eq!(fetch(case.hub().force_download(true), NAME).done().transferred, 7);
    case.is_whole();
}
