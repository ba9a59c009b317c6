//! Answers that may be better the next time.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use crate::{
    case::Case,
    repository::NAME,
    server::{Answer, Request},
};

/// The first `times` such requests are answered in another way.
fn first(
    times: u32,
    which: impl Fn(&Request) -> bool + Send + Sync + 'static,
    answer_as: impl Fn(&mut Answer) + Send + Sync + 'static,
) -> impl Fn(&Request, &mut Answer) + Send + Sync {
    let count = AtomicU32::new(0);
    move |request, answer| {
        if which(request) && count.fetch_add(1, Ordering::SeqCst) < times {
            answer_as(answer);
        }
    }
}

#[test]
fn a_busy_listing_is_asked_for_again() {
    for status in [408, 429, 500, 503] {
        for part in ["/revision/", "/tree/"] {
            let case = Case::new();
            let which = move |request: &Request| request.path.contains(part);
            case.server.misbehave(first(2, which, move |answer| answer.becomes(status, &[])));
            case.fetch(NAME).done();
            let asked = case.server.requests().iter().filter(|request| request.path.contains(part)).count();
            assert_eq!(asked, 3, "{status} {part}");
        }
    }
    // But not for ever, and not where that cannot help.
    for (status, attempts) in [(503, 4), (401, 1), (404, 1), (418, 1)] {
        let case = Case::new();
        case.server.misbehave(move |_, answer| answer.becomes(status, &[]));
        case.fetch(NAME).refused("always", &[NAME, &status.to_string()]);
        assert_eq!(case.server.requests().len(), attempts, "{status}");
    }
}

#[test]
fn a_wait_that_the_hub_asks_for_is_heeded() {
    for (status, part) in [(429, "/revision/"), (503, "/tree/"), (429, "/resolve/")] {
        let case = Case::new();
        let which = move |request: &Request| request.path.contains(part);
        case.server.misbehave(first(1, which, move |answer| answer.becomes(status, &[("retry-after", "2")])));
        let start = Instant::now();
        let run = case.fetch(NAME);
        assert!(start.elapsed() >= Duration::from_secs(2), "{part}");
        assert!(run.notes[0].contains("trying again in 2.0 s"), "{:?}", run.notes);
        run.done();
    }
}

#[test]
fn a_wait_of_an_hour_is_left_to_whoever_asked() {
    let case = Case::new();
    case.server.misbehave(|_, answer| answer.becomes(429, &[("retry-after", "3600")]));
    let start = Instant::now();
    case.fetch(NAME).refused("an hour", &["status 429", "3600 s"]);
    assert!(start.elapsed() < Duration::from_secs(2));
    assert_eq!(case.server.requests().len(), 1);
}

#[test]
fn a_silent_listing_is_given_up() {
    let case = Case::new();
    case.server.misbehave(|_, answer| answer.sent = crate::server::Sent::Stalled);
    let start = Instant::now();
    case.fetch_with(NAME, &[("HF_HUB_DOWNLOAD_TIMEOUT", "1")]).refused("silent", &["expected an answer"]);
    assert!(start.elapsed() < Duration::from_secs(5));
}
