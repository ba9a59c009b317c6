//! SIGINT, SIGTERM and SIGKILL at random moments: nothing of anybody else's is touched, nothing incomplete is accepted, what was
//! measured is kept and marked as partial, and the next run is as if nothing had been.

use std::{
    env, fmt, fs,
    os::unix::{fs::symlink, process::ExitStatusExt},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use crate::{
    common::{Home, json_file},
    killed::{content, large_model},
};

pub(crate) const MOMENTS: usize = 20;
pub(crate) const SIGNALS: [&str; 3] = ["INT", "TERM", "KILL"];

/// Random moments, other ones in every run; `QINS_SEED` repeats them.
pub(crate) struct Random {
    seed: u64,
    state: u64,
}

impl Random {
    pub(crate) fn new() -> Self {
        let clock = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().subsec_nanos().into();
        let seed = env::var("QINS_SEED").map_or_else(|_| clock(), |seed| seed.parse().unwrap());
        Self { seed, state: seed }
    }

    /// A moment of a run that takes this long.
    pub(crate) fn moment(&mut self, duration: Duration) -> Duration {
        self.state = self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        duration.mul_f64((self.state >> 40) as f64 / f64::from(1 << 24))
    }
}

/// For messages.
impl fmt::Display for Random {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "QINS_SEED={}", self.seed)
    }
}

pub(crate) fn signal(child: &Child, name: &str) {
    // The process may have ended.
    let _ = Command::new("kill").args([format!("-{name}"), child.id().to_string()]).stderr(Stdio::null()).status();
}

/// Runs a command, and sends a signal after a while.
pub(crate) fn spawned(command: &mut Command, after: Duration, name: &str) -> ExitStatus {
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    thread::sleep(after);
    signal(&child, name);
    child.wait().unwrap()
}

/// Whether a process ended because of a signal: by itself, or, where it had only just begun, by the system.
pub(crate) fn ended_by(status: ExitStatus, name: &str) -> bool {
    let (number, code) = match name {
        "INT" => (2, Some(130)),
        "TERM" => (15, Some(143)),
        _ => (9, None),
    };
    status.signal() == Some(number) || code.is_some() && status.code() == code
}

/// What somebody else has beside the outputs, under names like those of this program.
const THEIRS: [&str; 6] =
    [".qins-build-aaaaaaaaaaaa", ".qins-build-bbbbbbbbbbbb", ".qins-mine", "out.partial", "report.json.partial", "tmp"];

fn add_theirs(home: &Home) {
    for dir in [".qins-mine", ".qins-build-aaaaaaaaaaaa/content", "tmp"] {
        fs::create_dir_all(home.path(dir)).unwrap();
    }
    for file in [".qins-mine/lock", ".qins-build-aaaaaaaaaaaa/lock", ".qins-build-aaaaaaaaaaaa/content/file"] {
        home.write(file, "mine");
    }
    symlink(".qins-mine", home.path(".qins-build-bbbbbbbbbbbb")).unwrap();
    home.write("out.partial", "mine");
    home.write("report.json.partial", "mine");
}

#[track_caller]
fn expect_theirs(home: &Home, what: &str) {
    for file in [
        ".qins-mine/lock",
        ".qins-build-aaaaaaaaaaaa/lock",
        ".qins-build-aaaaaaaaaaaa/content/file",
        "out.partial",
        "report.json.partial",
    ] {
        assert_eq!(fs::read(home.path(file)).unwrap(), b"mine", "{what}: {file}");
    }
    assert!(home.path(".qins-build-bbbbbbbbbbbb").is_symlink(), "{what}");
}

/// Everything in a home but the model, the prompts and what is somebody else's.
fn others(home: &Home) -> Vec<String> {
    let mut found = home.list();
    found.retain(|name| !THEIRS.contains(&&**name) && !["model", "prompts.jsonl", "q8"].contains(&&**name));
    found
}

fn command(home: &Home, arguments: &str) -> Command {
    let mut command = home.command(&arguments.split(' ').collect::<Vec<_>>());
    command.env("TMPDIR", home.path("tmp"));
    command
}

/// Runs a command undisturbed, and gives its duration; an exit code of 1 is a verdict.
#[track_caller]
fn undisturbed(home: &Home, arguments: &str) -> Duration {
    let start = Instant::now();
    let output = command(home, arguments).output().unwrap();
    assert!(matches!(output.status.code(), Some(0 | 1)), "{arguments}: {}", String::from_utf8_lossy(&output.stderr));
    start.elapsed()
}

/// A directory is there whole, or not at all.
fn directory_is_whole_or_absent(arguments: &str) {
    let home = Home::new("e_tied/bf16");
    large_model(&home);
    home.qins("convert --model model --scheme q8 --targets full --out q8").done();
    add_theirs(&home);
    let mut duration = undisturbed(&home, arguments);
    let whole = content(&home.path("out"));
    let mut random = Random::new();
    let mut interrupted = 0;
    for moment in 0..MOMENTS {
        let _ = fs::remove_dir_all(home.path("out"));
        // Every other one into a directory that exists.
        if moment % 2 == 1 {
            fs::create_dir(home.path("out")).unwrap();
        }
        let name = SIGNALS[moment % SIGNALS.len()];
        let status = spawned(&mut command(&home, arguments), random.moment(duration), name);
        let what = format!("{random}, moment {moment} of {duration:?}, {name}: {status}");
        assert!(ended_by(status, name) || status.success(), "{what}");
        // Killed when every file was in its place, the program did not remove the folder it built them in.
        for entry in fs::read_dir(home.path("out")).into_iter().flatten().flatten() {
            if name == "KILL" && entry.file_name().to_string_lossy().starts_with(".qins-build-") {
                fs::remove_dir_all(entry.path()).unwrap();
            }
        }
        let is_whole = home.path("out/config.json").exists();
        assert!(is_whole || !status.success(), "{what}");
        if is_whole {
            assert!(content(&home.path("out")) == whole, "{what}");
        }
        expect_theirs(&home, &what);
        if name == "KILL" {
            if !is_whole && others(&home).contains(&"out".to_owned()) && moment % 2 == 0 {
                panic!("{what}: incomplete");
            }
            let _ = fs::remove_dir_all(home.path("out"));
            duration = duration.min(undisturbed(&home, arguments));
            assert!(content(&home.path("out")) == whole, "{what}");
        } else if !is_whole {
            let left = fs::read_dir(home.path("out")).map_or(0, Iterator::count);
            assert_eq!(left, 0, "{what}");
            interrupted += 1;
        }
        let left = others(&home);
        assert!(left.is_empty() || left == ["out"], "{what}: {left:?}");
        assert_eq!(fs::read_dir(home.path("tmp")).unwrap().count(), 0, "{what}");
    }
    assert!(interrupted >= 2, "{random}: {interrupted}");
}

#[test]
fn conversion_is_whole_or_absent() {
    directory_is_whole_or_absent("convert --model model --scheme q8 --targets full --entropy --out out");
}

#[test]
fn export_is_whole_or_absent() {
    directory_is_whole_or_absent("export q8 --out out");
}

/// The report of an interrupted run is marked in each of its files.
#[track_caller]
fn expect_partial(home: &Home, what: &str) {
    let report = json_file(&home.path("report.json"));
    assert_eq!((&report["partial"], &report["passed"]), (&true.into(), &false.into()), "{what}");
    assert!(!report["missing"].as_array().unwrap().is_empty(), "{what}");
    let [page, summary] = ["html", "md"].map(|end| fs::read_to_string(home.path(&format!("report.{end}"))).unwrap());
    assert!(page.contains(">PARTIAL<") && page.contains("was interrupted"), "{what}");
    assert!(summary.starts_with("## PARTIAL\n") && !summary.contains("PASS"), "{what}");
}

fn report_is_whole_or_partial_or_absent(arguments: &str) {
    let home = Home::new("b_gqa/f32");
    add_theirs(&home);
    let kept = format!("{arguments} --baseline b.safetensors");
    let mut duration = undisturbed(&home, &kept);
    let baseline = fs::metadata(home.path("b.safetensors")).unwrap().len();
    let mut random = Random::new();
    for moment in 0..MOMENTS {
        for file in others(&home) {
            fs::remove_file(home.path(&file)).unwrap();
        }
        let arguments = if moment % 2 == 0 { arguments } else { &*kept };
        let name = SIGNALS[moment % SIGNALS.len()];
        let status = spawned(&mut command(&home, arguments), random.moment(duration), name);
        let what = format!("{random}, moment {moment} of {duration:?}, {name}: {status}");
        let is_done = matches!(status.code(), Some(0 | 1));
        assert!(ended_by(status, name) || is_done, "{what}");
        if home.path("report.json").exists() {
            let report = json_file(&home.path("report.json"));
            match status.code() {
                Some(130 | 143) if report["partial"] == true => expect_partial(&home, &what),
                _ => assert_eq!(report["partial"], false, "{what}"),
            }
        } else {
            assert!(!is_done, "{what}");
        }
        expect_theirs(&home, &what);
        if home.path("b.safetensors").exists() {
            assert_eq!(fs::metadata(home.path("b.safetensors")).unwrap().len(), baseline, "{what}");
        }
        if name == "KILL" {
            // What it left is removed, and the baseline, if there is one, is read.
            duration = duration.min(undisturbed(&home, arguments));
            assert_eq!(json_file(&home.path("report.json"))["partial"], false, "{what}");
        }
        let expected = ["b.safetensors", "report.html", "report.json", "report.md"];
        assert!(others(&home).iter().all(|name| expected.contains(&&**name)), "{what}: {:?}", others(&home));
        assert_eq!(fs::read_dir(home.path("tmp")).unwrap().count(), 0, "{what}");
    }
}

#[test]
fn validation_is_whole_or_partial_or_absent() {
    report_is_whole_or_partial_or_absent(
        "validate --model model --prompts prompts.jsonl --max-new-tokens 24 --scheme q8,q4 --targets all",
    );
}

#[test]
fn sweep_is_whole_or_partial_or_absent() {
    report_is_whole_or_partial_or_absent(
        "sweep --model model --prompts prompts.jsonl --max-new-tokens 8 --schemes q8,q4",
    );
}

#[test]
fn what_was_measured_is_kept_when_interrupted() {
    for (command_line, name, code) in [
        ("validate --scheme companded-f32,q8,q6,q5,q4,q3,lossless", "INT", 130),
        ("validate --json --scheme companded-f32,q8,q6,q5,q4,q3,lossless", "TERM", 143),
        ("sweep", "INT", 130),
    ] {
        let home = Home::new("b_gqa/f32");
        add_theirs(&home);
        let common = "--model model --prompts prompts.jsonl --max-new-tokens 100 --baseline b.safetensors";
        let mut command = command(&home, &format!("{command_line} {common}"));
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let start = Instant::now();
        while !home.path("b.safetensors").exists() {
            assert!(start.elapsed() < Duration::from_secs(120));
            thread::sleep(Duration::from_millis(1));
        }
        signal(&child, name);
        let output = child.wait_with_output().unwrap();
        let (out, err) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
        assert_eq!(output.status.code(), Some(code), "{command_line}: {out}{err}");
        expect_partial(&home, command_line);
        assert!(err.contains("note: interrupted: what has been measured is written"), "{command_line}: {err}");
        if command_line.contains("--json") {
            assert_eq!(serde_json::from_str::<serde_json::Value>(&out).unwrap(), json_file(&home.path("report.json")));
        } else {
            assert!(out.contains("\nverdict    PARTIAL. ") && !out.contains("PASS"), "{command_line}: {out}");
        }
        assert_eq!(others(&home), ["b.safetensors", "report.html", "report.json", "report.md"], "{command_line}");
        expect_theirs(&home, command_line);
    }
}

#[test]
fn second_signal_ends_at_once_and_tidies() {
    let home = Home::new("b_gqa/f32");
    add_theirs(&home);
    let arguments = "validate --model model --prompts prompts.jsonl --max-new-tokens 200 --scheme q8,q6,q5,q4,q3";
    let mut child = command(&home, arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    // Its scratch file has been begun.
    while fs::read_dir(home.path("tmp")).unwrap().count() == 0 {
        assert!(child.try_wait().unwrap().is_none());
        thread::sleep(Duration::from_millis(1));
    }
    signal(&child, "INT");
    signal(&child, "INT");
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let left = others(&home);
    assert!(left.iter().all(|name| name.starts_with("report.")), "{left:?}");
    assert_eq!(fs::read_dir(home.path("tmp")).unwrap().count(), 0);
    expect_theirs(&home, "second signal");
}
