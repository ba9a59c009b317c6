//! Several programs and one cache.

use std::{
    env,
    process::{Child, Command, Stdio},
};

use qins_model::hub::Hub;

use crate::{
    case::{Case, fetch, whole},
    repository::{NAME, NEEDED, SHARDS},
};

/// Set where this binary runs as one of several programs, to `environment` or to the endpoint that it is to be told.
const CHILD: &str = "QINS_TEST_HUB_CHILD";

fn spawn(case: &Case, settings: &str) -> Child {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", "processes::a_program_fetches_as_its_environment_says"]).stdout(Stdio::piped());
    for name in ["HF_HUB_CACHE", "HF_HUB_OFFLINE", "HF_TOKEN_PATH", "HF_HUB_DOWNLOAD_TIMEOUT"] {
        command.env_remove(name);
    }
    let home = case.home.path().join("hf");
    command.env("HF_HOME", home).env("HF_ENDPOINT", &case.server.url).env("HF_TOKEN", "mine");
    command.env("NO_PROXY", "*").env(CHILD, settings).spawn().unwrap()
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
