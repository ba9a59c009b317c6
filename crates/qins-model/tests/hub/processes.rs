//! Several programs and one cache.

use std::{
    env,
    net::TcpListener,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use qins_model::hub::Hub;

use crate::{
    case::{Case, fetch, whole},
    repository::{NAME, NEEDED, SHARDS},
};

/// Set where this binary runs as one of several programs, to `environment` or to the endpoint that it is to be told.
const CHILD: &str = "QINS_TEST_HUB_CHILD";

fn spawn(case: &Case, settings: &str) -> Child {
    command(case, settings).spawn().unwrap()
}

fn command(case: &Case, settings: &str) -> Command {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", "processes::a_program_fetches_as_its_environment_says"]).stdout(Stdio::piped());
    for name in
        ["HF_HUB_CACHE", "HF_HUB_OFFLINE", "HF_TOKEN_PATH", "HF_HUB_DOWNLOAD_TIMEOUT", "HF_HUB_DISABLE_IMPLICIT_TOKEN"]
    {
        command.env_remove(name);
    }
    let home = case.home.path().join("hf");
    command.env("HF_HOME", home).env("HF_ENDPOINT", &case.server.url).env("HF_TOKEN", "mine");
    command.env("NO_PROXY", "*").env(CHILD, settings);
    command
}

#[track_caller]
fn succeeds(child: Child) {
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn a_program_fetches_as_its_environment_says() {
    match env::var(CHILD).as_deref() {
        Ok("environment") => {
            let fetched = Hub::from_env().unwrap().fetch(&NAME.parse().unwrap(), &mut drop);
            return whole(&fetched.unwrap_or_else(|error| panic!("{error}")).dir);
        }
        Ok(endpoint) => {
            let cache = tempfile::tempdir().unwrap();
            return whole(&fetch(Hub::builder(cache.path()).endpoint(endpoint), NAME).done().dir);
        }
        Err(_) => {}
    }
    let case = Case::new();
    succeeds(spawn(&case, "environment"));
    case.is_whole();
    assert!(case.server.requests().iter().all(|request| request.token() == "Bearer mine"));
    // A builder has nothing from the environment, not even through hf-hub.
    succeeds(spawn(&case, &case.server.url));
    let requests = case.server.requests();
    assert!(requests.iter().any(|request| request.is_transfer()));
    assert!(requests.iter().all(|request| !request.headers.contains_key("authorization")));
}

#[test]
fn programs_at_once_transfer_each_file_once_and_all_succeed() {
    for _ in 0..25 {
        let case = Case::new();
        [(); 3].map(|()| spawn(&case, "environment")).into_iter().for_each(succeeds);
        case.is_whole();
        let contents = case.server.requests().into_iter().filter(|request| request.is_transfer());
        assert_eq!(contents.count(), NEEDED.len() + SHARDS.len());
    }
}

/// In a program of its own: Xet keeps things in `$HF_HOME/xet`, whatever cache a builder names.
#[test]
fn a_transfer_that_hf_hub_makes_by_xet_has_the_same_bounds() {
    // Where bytes would come from nothing does.
    let store = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", store.local_addr().unwrap());
    let case = Case::new();
    case.server.misbehave(move |request, answer| {
        if request.path.contains("/xet-read-token/") {
            answer.status = 200;
            answer.headers.clear();
            let token = serde_json::json!({ "accessToken": "of the store", "exp": 4_000_000_000_u64, "casUrl": url });
            answer.body = token.to_string().into();
        }
        if request.path.starts_with("/cdn/") && request.path.ends_with(SHARDS[1]) {
            answer.headers.insert("x-xet-hash", "1".repeat(64));
        }
    });
    let start = Instant::now();
    let output = command(&case, "environment").env("HF_HUB_DOWNLOAD_TIMEOUT", "1").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let says = [SHARDS[1], "4 times", "run this again"];
    assert!(!output.status.success() && says.iter().all(|word| text.contains(word)), "{text}");
    assert!(start.elapsed() < Duration::from_secs(30));
    assert!(case.server.requests().iter().any(|request| request.path.contains("/xet-read-token/")));
    // Over HTTP it goes on.
    case.server.behave();
    case.fetch(NAME).done();
    case.is_whole();
}
