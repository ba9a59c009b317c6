//! `--model owner/name`, from the command line. What a fetch does, the tests of `qins-model` say.

use std::{fs, path::PathBuf, process::Command};

use crate::{
    common::{Home, Run, fixture},
    repository::{MAIN, NAME},
    server::HubServer,
};

/// A hub that has a model, and a cache.
struct Case {
    home: Home,
    server: HubServer,
}

impl Case {
    fn new() -> Self {
        let server = HubServer::start();
        for entry in fs::read_dir(fixture("b_gqa/bf16")).unwrap() {
            let path = entry.unwrap().path();
            let file = path.file_name().unwrap().to_str().unwrap();
            if !file.starts_with("goldens") && file != "config.hub.json" {
                server.set_file(MAIN, file, fs::read(&path).unwrap());
            }
        }
        Self { home: Home::new("e_tied/f32"), server }
    }

    fn generate(&self, model: &str) -> Run {
        self.qins(&["generate", "--model", model, "--prompt-ids", "5,6", "--max-new-tokens", "4", "--json"], false)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.home.command(arguments);
        for name in ["HF_HUB_CACHE", "HF_HUB_OFFLINE", "HF_TOKEN", "HF_TOKEN_PATH", "HF_HUB_DOWNLOAD_TIMEOUT"] {
            command.env_remove(name);
        }
        command.env("NO_PROXY", "*").env("HF_HOME", self.home.path("hf")).env("HF_ENDPOINT", &self.server.url);
        command
    }

    fn qins(&self, arguments: &[&str], is_offline: bool) -> Run {
        let mut command = self.command(arguments);
        if is_offline {
            command.env("HF_HUB_OFFLINE", "1");
        }
        let output = command.output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Run { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }

    fn cache(&self) -> PathBuf {
        self.home.path("hf/hub")
    }
}

#[test]
fn only_a_model_on_the_hub_is_downloaded_again() {
    let case = Case::new();
    let generate = |model: &[&str], is_offline| {
        case.qins(&[&["generate", "--prompt-ids", "5", "--force-download"], model].concat(), is_offline)
    };
    for model in [&[][..], &["--model", "model"]] {
        generate(model, false)
            .rejected("here", &["expected a --model on the hub with --force-download, found another"]);
    }
    generate(&["--model", NAME], true)
        .rejected("offline", &["HF_HUB_OFFLINE: expected a hub to download files from again, found"]);
    let mut command = case.command(&["generate", "--model", NAME, "--prompt-ids", "5"]);
    let output = command.env("HF_HUB_DOWNLOAD_TIMEOUT", "soon").output().unwrap();
    let err = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(err.contains("HF_HUB_DOWNLOAD_TIMEOUT: expected a number of seconds above 0, found \"soon\""), "{err}");
}

#[test]
fn model_is_downloaded_once_and_generates_as_its_directory() {
    let case = Case::new();
    let first = case.generate(NAME);
    assert_eq!(first.err.matches("note: ").count(), 1, "{}", first.err);
    assert!(first.err.contains(&format!("note: fetched {NAME}@{MAIN}")), "{}", first.err);
    assert!(case.server.requests().iter().any(|request| request.is_transfer()));
    let second = case.generate(NAME);
    assert!(!second.err.contains("note: "), "{}", second.err);
    assert!(case.server.requests().iter().all(|request| request.is_listing()));

    let ids = |run: Run| run.lines()[0]["generated_ids"].clone();
    let expected = ids(case.generate(fixture("b_gqa/bf16").to_str().unwrap()));
    assert!(expected.as_array().is_some_and(|ids| !ids.is_empty()));
    assert_eq!((ids(first), ids(second)), (expected.clone(), expected));
}

#[test]
fn missing_model_is_one_line_of_error() {
    let case = Case::new();
    case.generate("owner/none").rejected("repository", &["owner/none", &case.server.url, "404", "check the name"]);
    case.server.requests();
    // A path that does not exist and is no valid name is not requested.
    for model in ["gpt2", "a/b/c", "./owner/name", "owner/../name", "owner/name@a b", "x.gguf"] {
        let both = ["no such file or directory", "`owner/name` or `owner/name@revision`"];
        case.generate(model).rejected(model, &[&[model][..], &both].concat());
    }
    assert!(case.server.requests().is_empty());
}

#[test]
fn report_preset_uses_its_model_and_names_what_is_missing() {
    let case = Case::new();
    let report = |arguments: &[&str]| case.qins(&[&["validate", "--preset", "report"], arguments].concat(), true);
    let folder = case.cache().join("models--microsoft--Phi-3.5-mini-instruct");
    let messages = ["microsoft/Phi-3.5-mini-instruct", folder.to_str().unwrap(), "refs/main", "unset HF_HUB_OFFLINE"];
    report(&[]).rejected("absent", &messages);
    fs::create_dir_all(folder.join("refs")).unwrap();
    fs::write(folder.join("refs/main"), MAIN).unwrap();
    report(&[]).rejected("no snapshot", &["microsoft/Phi-3.5-mini-instruct", MAIN, "config.json"]);
    // Of a model that is named, that one's.
    report(&["--model", NAME]).rejected("another", &[NAME, "models--owner--name"]);
}

#[test]
#[cfg(unix)]
fn interrupted_download_goes_on_where_it_stopped() {
    use std::{
        process::Stdio,
        thread,
        time::{Duration, Instant},
    };

    use crate::{
        interrupted::{MOMENTS, Random, SIGNALS, ended_by, signal, spawned},
        server::Sent,
    };

    let arguments = ["generate", "--model", NAME, "--prompt-ids", "5,6", "--max-new-tokens", "4", "--json"];
    let case = Case::new();
    let start = Instant::now();
    // The first line is the text; the second has speeds.
    let text = || case.qins(&arguments, false).lines().remove(0);
    let expected = text();
    let undisturbed = start.elapsed();
    let mut random = Random::new();
    for moment in 0..MOMENTS {
        fs::remove_dir_all(case.home.path("hf")).unwrap();
        let name = SIGNALS[moment % SIGNALS.len()];
        let status = spawned(&mut case.command(&arguments), random.moment(undisturbed), name);
        assert!(ended_by(status, name) || status.success(), "{random}, moment {moment}: {status}");
        assert_eq!(text(), expected, "{random}, moment {moment}");
    }
    // Amid a file that stalls.
    for (name, code) in [("INT", 130), ("TERM", 143)] {
        fs::remove_dir_all(case.home.path("hf")).unwrap();
        case.server.requests();
        case.server.misbehave(|request, answer| {
            if request.is_transfer() && request.path.ends_with(".safetensors") {
                answer.sent = Sent::Stalled;
            }
        });
        let mut child = case.command(&arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let is_part = |entry: &fs::DirEntry| {
            let name = entry.file_name().into_string().unwrap();
            // Half of a shard; the other files are smaller.
            name.ends_with(".incomplete") && entry.metadata().is_ok_and(|part| part.len() > 8_000)
        };
        let blobs = case.cache().join("models--owner--name/blobs");
        while !fs::read_dir(&blobs).into_iter().flatten().flatten().any(|entry| is_part(&entry)) {
            assert!(child.try_wait().unwrap().is_none());
            thread::sleep(Duration::from_millis(2));
        }
        signal(&child, name);
        assert_eq!(child.wait().unwrap().code(), Some(code), "{name}");
        assert!(fs::read_dir(&blobs).unwrap().flatten().any(|entry| is_part(&entry)), "{name}");
        case.server.behave();
        case.server.requests();
        assert_eq!(text(), expected, "{name}");
        let requests = case.server.requests();
        assert!(
            requests.iter().any(|request| request.is_transfer() && request.headers.contains_key("range")),
            "{name}"
        );
    }
}
