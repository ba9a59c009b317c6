//! Several programs and one cache.

use std::{
    env,
    process::{Child, Command, Stdio},
};

use qins_model::hub::Hub;

use crate::{
    case::{Case, whole},
    repository::{NAME, NEEDED, SHARDS},
};

/// Set where this binary runs as one of several programs.
const CHILD: &str = "QINS_TEST_HUB_CHILD";

fn spawn(case: &Case, token: &str) -> Child {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", "processes::a_program_fetches_as_its_environment_says"]).stdout(Stdio::piped());
    for name in ["HF_HUB_CACHE", "HF_HUB_OFFLINE", "HF_TOKEN_PATH", "HF_HUB_DOWNLOAD_TIMEOUT"] {
        command.env_remove(name);
    }
    let home = case.home.path().join("hf");
    command.env("HF_HOME", home).env("HF_ENDPOINT", &case.server.url).env("HF_TOKEN", token);
    command.env("NO_PROXY", "*").env(CHILD, "1").spawn().unwrap()
}

#[track_caller]
fn succeeds(child: Child) {
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn a_program_fetches_as_its_environment_says() {
    if env::var_os(CHILD).is_some() {
        let fetched = Hub::from_env().unwrap().fetch(&NAME.parse().unwrap(), &mut drop);
        return whole(&fetched.unwrap_or_else(|error| panic!("{error}")).dir);
    }
    let case = Case::new();
    succeeds(spawn(&case, "mine"));
    case.is_whole();
    assert!(case.server.requests().iter().all(|request| request.token() == "Bearer mine"));
}

#[test]
fn programs_at_once_transfer_each_file_once_and_all_succeed() {
    for _ in 0..25 {
        let case = Case::new();
        [(); 3].map(|()| spawn(&case, "mine")).into_iter().for_each(succeeds);
        case.is_whole();
        let contents = case.server.requests().into_iter().filter(|request| request.is_transfer());
        assert_eq!(contents.count(), NEEDED.len() + SHARDS.len());
    }
}
