//! The files that commands write: where a path leads, and what they must not replace.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::Write,
    os::unix::fs::{FileTypeExt, PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use crate::common::{Home, NEW, json_file};

const LOGITS: &str = "logits --model model --prompt-ids 5,7";
const VALIDATE: &str =
    "validate --model model --prompts prompts.jsonl --max-new-tokens 2 --temperature 0 --kv q8 --scheme none";

fn mkfifo(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

/// Every file of a home, by its path.
fn everything(home: &Home) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut dirs = vec![home.path("")];
    while let Some(dir) = dirs.pop() {
        for path in fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                dirs.push(path);
            } else if path.is_file() {
                found.insert(path.clone(), fs::read(path).unwrap());
            }
        }
    }
    found
}

/// The tensors of a safetensors file; the order of its metadata may differ.
fn data(file: &[u8]) -> &[u8] {
    &file[8 + u64::from_le_bytes(file[..8].try_into().unwrap()) as usize..]
}

#[test]
fn logits_go_where_the_path_leads() {
    let home = Home::new("b_gqa/f32");
    home.qins(&format!("{LOGITS} --out plain")).done();
    let expected = fs::read(home.path("plain")).unwrap();
    let expected = data(&expected);
    // A link, and a file of somebody who uses the name that this once made.
    fs::create_dir(home.path("elsewhere")).unwrap();
    home.write("elsewhere/old", "old");
    fs::set_permissions(home.path("elsewhere/old"), fs::Permissions::from_mode(0o604)).unwrap();
    home.write("link.partial", "mine");
    symlink("elsewhere/old", home.path("link")).unwrap();
    home.qins(&format!("{LOGITS} --out link")).done();
    assert!(home.path("link").is_symlink() && data(&fs::read(home.path("elsewhere/old")).unwrap()) == expected);
    assert_eq!(fs::metadata(home.path("elsewhere/old")).unwrap().permissions().mode() & 0o777, 0o604);
    assert_eq!(fs::read(home.path("link.partial")).unwrap(), b"mine");
    // A device, a pipe, standard output as a pipe and as a file.
    symlink("/dev/null", home.path("null")).unwrap();
    home.qins(&format!("{LOGITS} --out null")).done();
    assert!(home.path("null").is_symlink() && fs::metadata("/dev/null").unwrap().file_type().is_char_device());
    mkfifo(&home.path("pipe"));
    let pipe = home.path("pipe");
    let reader = thread::spawn(move || fs::read(pipe).unwrap());
    home.qins(&format!("{LOGITS} --out pipe")).done();
    assert!(
        data(&reader.join().unwrap()) == expected && fs::metadata(home.path("pipe")).unwrap().file_type().is_fifo()
    );
    for out in ["/dev/stdout", "/proc/self/fd/1", "stdout"] {
        let arguments: Vec<&str> = LOGITS.split(' ').chain(["--out", out]).collect();
        let mut stdout = File::create(home.path("stdout")).unwrap();
        stdout.write_all(b"before ").unwrap();
        let status = home.command(&arguments).stdout(stdout).status().unwrap();
        let found = fs::read(home.path("stdout")).unwrap();
        assert!(status.success(), "{out}");
        assert!(found.strip_prefix(b"before ").is_some_and(|file| data(file) == expected), "{out}");
    }
    let output = home.command(&LOGITS.split(' ').chain(["--out", "/dev/stdout"]).collect::<Vec<_>>()).output().unwrap();
    assert!(data(&output.stdout) == expected);
    assert_eq!(
        home.list(),
        ["elsewhere", "link", "link.partial", "model", "null", "pipe", "plain", "prompts.jsonl", "stdout"]
    );
}

/// `-` is standard output, for a file; a directory cannot go there, nor can a file that is read again.
#[test]
fn dash_is_standard_output() {
    let home = Home::new("b_gqa/f32");
    home.qins(&format!("{LOGITS} --out plain")).done();
    let expected = fs::read(home.path("plain")).unwrap();
    fs::remove_file(home.path("plain")).unwrap();
    let output = home.command(&LOGITS.split(' ').chain(["--out", "-"]).collect::<Vec<_>>()).output().unwrap();
    assert!(output.status.success() && data(&output.stdout) == data(&expected));
    let run = home.qins(&format!("{VALIDATE} --report -"));
    let report: serde_json::Value = serde_json::from_str(&run.out).unwrap();
    assert!(matches!(run.code, Some(0 | 1)) && report["report_version"].is_u64(), "{}", run.err);
    let directory = ["expected a directory, found standard output"];
    for command in ["convert --model model --scheme q8", "synth --config phi-3.5-mini", "export model", "man"] {
        home.qins(&format!("{command} --out -")).rejected(command, &directory);
    }
    home.qins(&format!("{VALIDATE} --baseline -")).rejected("--baseline", &["-: expected a regular file"]);
    assert_eq!(home.list(), NEW);
    // A name like any other.
    home.qins(&format!("{LOGITS} --out ./-")).done();
    home.qins(&format!("{VALIDATE} --baseline -")).rejected("--baseline", &["-: expected a regular file"]);
    assert!(home.path("-").is_file());
}

#[test]
fn report_to_a_pipe_or_device_has_no_page_beside_it() {
    let home = Home::new("b_gqa/f32");
    symlink("/dev/null", home.path("null")).unwrap();
    mkfifo(&home.path("pipe"));
    let before = home.list();
    let run = home.qins(&format!("{VALIDATE} --report null"));
    assert!(matches!(run.code, Some(0 | 1)) && run.out.ends_with("report     null\n"), "{}{}", run.out, run.err);
    let pipe = home.path("pipe");
    let reader = thread::spawn(move || fs::read(pipe).unwrap());
    home.qins(&format!("{VALIDATE} --report pipe"));
    let report: serde_json::Value = serde_json::from_slice(&reader.join().unwrap()).unwrap();
    assert_eq!((&report["partial"], report["report_version"].as_u64()), (&false.into(), Some(3)));
    // Text first, then the report.
    let run = home.qins(&format!("{VALIDATE} --report /dev/stdout"));
    let (text, rest) = run.out.split_once("\nverdict ").unwrap();
    assert!(text.contains("criteria") && rest.contains("\"report_version\": 3"), "{}", run.out);
    assert_eq!(home.list(), before);
}

#[test]
fn output_that_is_an_input_or_another_output_is_rejected() {
    let home = Home::new("e_tied/f32");
    home.qins("convert --model model --scheme q8 --out q8").done();
    home.write("text.txt", "text");
    home.write("b.safetensors", "");
    home.write("model/README.md", "card");
    home.write("model/notes.html", "notes");
    fs::hard_link(home.path("prompts.jsonl"), home.path("hard.json")).unwrap();
    symlink("prompts.jsonl", home.path("soft.json")).unwrap();
    symlink("new.json", home.path("soon.md")).unwrap();
    let before = everything(&home);
    let model = "found a file of the model";
    let report = "expected a new file or an earlier report";
    let cases: [(&str, &[&str]); 19] = [
        ("logits --model model --prompt-ids 1 --out model/model.safetensors", &["model/model.safetensors", model]),
        ("logits --model model --prompt-ids 1 --out model/config.json", &["model/config.json", model]),
        ("logits --model model --text text.txt --out text.txt", &["text.txt", "found the file of --text"]),
        ("logits --model model --text text.txt --out ./model/../text.txt", &["text.txt", "found the file of --text"]),
        (
            "logits --model model --prompt-ids 1 --scheme q4 --calibrate text.txt --out text.txt",
            &["found the file of --calibrate"],
        ),
        ("validate --report prompts.jsonl", &["prompts.jsonl", "found the file of --prompts"]),
        ("validate --report hard.json", &["hard.json", "found the file of --prompts"]),
        ("validate --report soft.json", &["soft.json", "found the file of --prompts"]),
        ("validate --report text.txt --text text.txt", &["text.txt", "found the file of --text"]),
        ("validate --report text.txt --scheme q4 --calibrate text.txt", &["found the file of --calibrate"]),
        ("validate --report x --baseline x", &["x: expected a file of its own to write", "--baseline"]),
        ("validate --report x.json --baseline x.html", &["x.html", "--baseline"]),
        ("validate --report x.json --baseline ./q8/../x.md", &["x.md", "--baseline"]),
        (
            "validate --report b.safetensors --baseline b.safetensors",
            &["b.safetensors", "found the file of --baseline"],
        ),
        ("validate --report new.json --baseline soon.md", &["new.json", "found the file of --baseline"]),
        ("validate --report model/README.json", &["README.md", report]),
        ("validate --report model/notes.json", &["notes.html", report]),
        ("validate --report q8/config.json --candidate q8", &["q8/config.json", report]),
        ("sweep --report prompts.jsonl", &["prompts.jsonl", "found the file of --prompts"]),
    ];
    for (command, messages) in cases {
        let prompts = if command.starts_with("logits") { "" } else { "--model model --prompts prompts.jsonl" };
        home.qins(&format!("{command} {prompts}")).rejected(command, messages);
        assert!(everything(&home) == before, "{command}");
    }
    // An earlier report in the model's directory is no file of the model.
    for _ in 0..2 {
        let run = home.qins(&format!("{VALIDATE} --report model/report.json"));
        assert!(matches!(run.code, Some(0 | 1)), "{}", run.err);
    }
}

#[test]
fn report_is_printed_before_it_cannot_be_written() {
    let home = Home::new("b_gqa/f32");
    fs::create_dir(home.path("folder")).unwrap();
    mkfifo(&home.path("later.jsonl"));
    let command = VALIDATE.replace("prompts.jsonl", "later.jsonl") + " --report folder/report.json";
    let child =
        home.command(&command.split(' ').collect::<Vec<_>>()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    // It has opened its outputs when it opens the prompts.
    let mut pipe = File::create(home.path("later.jsonl")).unwrap();
    fs::remove_dir(home.path("folder")).unwrap();
    pipe.write_all(&fs::read(home.path("prompts.jsonl")).unwrap()).unwrap();
    drop(pipe);
    let output = child.unwrap().wait_with_output().unwrap();
    let (out, err) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert_eq!(output.status.code(), Some(2), "{out}{err}");
    assert!(out.contains("\nverdict ") && err.starts_with("error: folder/report.json: "), "{out}{err}");
}

#[test]
fn processes_with_one_baseline_all_succeed() {
    let home = Home::new("b_gqa/f32");
    let children: Vec<_> = (0..3)
        .map(|i| {
            let command = format!("{VALIDATE} --baseline b.safetensors --report r{i}.json");
            home.command(&command.split(' ').collect::<Vec<_>>())
                .stdout(Stdio::null())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap()
        })
        .collect();
    for child in children {
        let output = child.wait_with_output().unwrap();
        assert!(matches!(output.status.code(), Some(0 | 1)), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let figures = |i: usize| json_file(&home.path(&format!("r{i}.json")))["candidates"][0]["figures"].clone();
    assert!(figures(0) == figures(1) && figures(1) == figures(2));
    let files = |i: usize| ["html", "json", "md"].map(|end| format!("r{i}.{end}"));
    let expected =
        [vec!["b.safetensors".to_owned()], NEW.map(str::to_owned).to_vec(), (0..3).flat_map(files).collect()];
    assert_eq!(home.list(), expected.concat());
}

#[test]
fn empty_output_directory_may_be_anywhere_and_keeps_its_mode() {
    let home = Home::new("b_gqa/f32");
    home.qins("convert --model model --scheme q8 --out expected").done();
    let files = |dir: &Path| {
        let files = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
        files.map(|file| (file.file_name().unwrap().to_owned(), fs::read(file).unwrap())).collect::<BTreeMap<_, _>>()
    };
    let expected = files(&home.path("expected"));
    for (i, name) in ["here", "linked"].into_iter().enumerate() {
        let dir = home.path(name);
        fs::create_dir(&dir).unwrap();
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o2770)).unwrap();
        symlink(name, home.path("link")).unwrap();
        let mut command = home.command(&["convert", "--scheme", "q8", "--model"]);
        command.arg(home.path("model")).arg("--out");
        match i {
            0 => command.arg(".").current_dir(&dir),
            _ => command.arg("link"),
        };
        let output = command.output().unwrap();
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
        assert!(files(&dir) == expected, "{name}");
        assert_eq!(fs::metadata(&dir).unwrap().permissions().mode() & 0o7777, 0o2770, "{name}");
        assert!(home.path("link").is_symlink());
        home.qins(&format!("verify {name}")).done();
        fs::remove_file(home.path("link")).unwrap();
    }
    // Rejected before the work, which would fail for its own reason: the text is missing.
    home.write("taken", "mine");
    for out in ["taken", "taken/out", "model"] {
        let command = format!("convert --model model --scheme q4 --calibrate nowhere --out {out}");
        home.qins(&command).rejected(out, &[out]);
        let run = home.qins(&command);
        assert!(!run.err.contains("nowhere"), "{}", run.err);
    }
    assert_eq!(home.list(), ["expected", "here", "linked", "model", "prompts.jsonl", "taken"]);
}

#[test]
fn outputs_are_opened_before_the_work() {
    let home = Home::new("b_gqa/f32");
    let start = Instant::now();
    // The model is not even looked for.
    for command in [
        "logits --model nowhere --prompt-ids 1 --out none/out",
        "validate --model nowhere --report none/out",
        "validate --model nowhere --baseline none/out",
        "sweep --model nowhere --report none/out",
        "sweep --model nowhere --baseline none/out",
    ] {
        home.qins(command).rejected(command, &["none/out: expected a directory to write into, found none"]);
    }
    assert!(start.elapsed() < Duration::from_secs(20));
    assert_eq!(home.list(), NEW);
}
