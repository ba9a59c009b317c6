//! Running the program in a directory of its own, and editing what lies there.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::{Value, json};
use tempfile::TempDir;

/// A file or folder of the repository.
pub(crate) fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

/// The directory of a fixture, `b_gqa/f32`.
pub(crate) fn fixture(name: &str) -> PathBuf {
    repository("tests/fixtures/phi3").join(name)
}

/// What a fixture's prompt is, and what Transformers makes of it.
pub(crate) struct Golden {
    pub(crate) input_ids: Vec<u32>,
    pub(crate) generated: Vec<u32>,
}

pub(crate) fn goldens(name: &str) -> Vec<Golden> {
    let goldens = json_file(&fixture(name).join("goldens.json"));
    let golden = |g: &Value| Golden { input_ids: ids(&g["input_ids"]), generated: ids(&g["generated"]) };
    goldens["prompts"].as_array().unwrap().iter().map(golden).collect()
}

pub(crate) fn ids(value: &Value) -> Vec<u32> {
    serde_json::from_value(value.clone()).unwrap()
}

pub(crate) fn json_file(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// The program's end.
pub(crate) struct Run {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Run {
    /// What was printed, where nothing went wrong.
    #[track_caller]
    pub(crate) fn done(self) -> String {
        assert_eq!(self.code, Some(0), "{}{}", self.out, self.err);
        self.out
    }

    /// The lines printed, each a JSON value.
    #[track_caller]
    pub(crate) fn lines(self) -> Vec<Value> {
        self.done().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Asserts exit code 2 and an error of one line that contains all of `messages`; an error of the command line may be followed by
    /// its usage.
    #[track_caller]
    pub(crate) fn rejected(&self, what: &str, messages: &[&str]) {
        let Self { code, out, err } = self;
        assert_eq!(*code, Some(2), "{what}: {out}{err}");
        assert_eq!(out, "", "{what}");
        let is_usage = err.trim_end().ends_with("try '--help'.");
        assert!(err.starts_with("error: ") && err.ends_with('\n'), "{what}: {err:?}");
        assert!(is_usage || err.lines().count() == 1, "{what}: {err}");
        for word in ["panicked", "RUST_BACKTRACE", "thread '", "unwrap"] {
            assert!(!err.contains(word), "{what}: {err}");
        }
        for part in messages {
            assert!(err.contains(part), "{what}: no {part:?} in {err:?}");
        }
    }
}

/// A directory to run the program in, with a copy of a fixture in `model` and two of its prompts in `prompts.jsonl`.
pub(crate) struct Home(TempDir);

/// What lies in a new home.
pub(crate) const NEW: [&str; 2] = ["model", "prompts.jsonl"];

impl Home {
    pub(crate) fn new(name: &str) -> Self {
        let home = Self(TempDir::new().unwrap());
        fs::create_dir(home.path("model")).unwrap();
        for entry in fs::read_dir(fixture(name)).unwrap() {
            let path = entry.unwrap().path();
            let file = path.file_name().unwrap().to_str().unwrap();
            if !file.starts_with("goldens") && file != "config.hub.json" {
                fs::copy(&path, home.path("model").join(file)).unwrap();
            }
        }
        let line = |(id, golden): (&str, Golden)| format!("{}\n", json!({ "id": id, "input_ids": golden.input_ids }));
        home.write("prompts.jsonl", ["a", "b"].into_iter().zip(goldens(name)).map(line).collect::<String>());
        home
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::write(self.path(name), content).unwrap();
    }

    /// Everything that lies here, hidden things too.
    pub(crate) fn list(&self) -> Vec<String> {
        let names = fs::read_dir(self.0.path()).unwrap();
        let mut names: Vec<String> = names.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// The program, to be run here.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_qins"));
        command.args(arguments).current_dir(self.0.path()).stdin(Stdio::null());
        // A mistyped directory is no reason to ask the hub.
        command.env("HF_HUB_OFFLINE", "1");
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Run {
        let output = self.command(arguments).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Run { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }

    /// Runs the program with arguments that have no spaces in them.
    pub(crate) fn qins(&self, arguments: &str) -> Run {
        self.run(&arguments.split_whitespace().collect::<Vec<_>>())
    }
}

pub(crate) fn edit_json(path: &Path, edit: impl FnOnce(&mut Value)) {
    let mut value = json_file(path);
    edit(&mut value);
    fs::write(path, value.to_string()).unwrap();
}

/// A stored tensor; its type is one of safetensors' names.
pub(crate) struct Tensor {
    pub(crate) dtype: String,
    pub(crate) shape: Vec<usize>,
    pub(crate) bytes: Vec<u8>,
}

impl Tensor {
    /// Sets one element of an `f32` tensor.
    pub(crate) fn set(&mut self, index: usize, value: f32) {
        assert_eq!(self.dtype, "F32");
        self.bytes[4 * index..4 * index + 4].copy_from_slice(&value.to_le_bytes());
    }
}

pub(crate) fn read_tensors(path: &Path) -> BTreeMap<String, Tensor> {
    let file = fs::read(path).unwrap();
    let (header, data) = file[8..].split_at(u64::from_le_bytes(file[..8].try_into().unwrap()) as usize);
    let header: BTreeMap<String, Value> = serde_json::from_slice(header).unwrap();
    let tensor = |info: Value| {
        let [from, to]: [usize; 2] = serde_json::from_value(info["data_offsets"].clone()).unwrap();
        let shape = serde_json::from_value(info["shape"].clone()).unwrap();
        Tensor { dtype: info["dtype"].as_str().unwrap().to_owned(), shape, bytes: data[from..to].to_vec() }
    };
    header.into_iter().filter(|(name, _)| name != "__metadata__").map(|(name, info)| (name, tensor(info))).collect()
}

/// Bytes of all tensors of a model directory.
pub(crate) fn tensor_bytes(dir: &Path) -> usize {
    let files = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let shards = files.filter(|path| path.extension().is_some_and(|e| e == "safetensors"));
    shards.flat_map(|path| read_tensors(&path).into_values()).map(|tensor| tensor.bytes.len()).sum()
}

/// Rewrites a safetensors file with other tensors.
pub(crate) fn edit_tensors(path: &Path, edit: impl FnOnce(&mut BTreeMap<String, Tensor>)) {
    let mut tensors = read_tensors(path);
    edit(&mut tensors);
    let (mut header, mut data) = (serde_json::Map::new(), Vec::new());
    for (name, Tensor { dtype, shape, bytes }) in tensors {
        let offsets = [data.len(), data.len() + bytes.len()];
        header.insert(name, json!({ "dtype": dtype, "shape": shape, "data_offsets": offsets }));
        data.extend(bytes);
    }
    let header = Value::Object(header).to_string();
    let length = (header.len() as u64).to_le_bytes();
    fs::write(path, [&length, header.as_bytes(), &data].concat()).unwrap();
}

/// The commands that read a model, by a letter each.
const COMMANDS: [(char, &str); 5] = [
    ('g', "generate --model model --prompt-ids 5,7 --max-new-tokens 2"),
    ('q', "generate --model model --prompt-ids 5,7 --max-new-tokens 2 --scheme q8"),
    ('v', "validate --model model --prompts prompts.jsonl --max-new-tokens 2 --report report.json"),
    ('c', "convert --model model --scheme q8 --out new/out"),
    ('i', "inspect model"),
];

/// Runs every command: those in `rejecting` must report an error and leave no file behind, the others must succeed.
#[track_caller]
pub(crate) fn expect_rejections(home: &Home, what: &str, rejecting: &str, messages: &[&str]) {
    for (letter, command) in COMMANDS {
        let run = home.qins(command);
        let what = format!("{what}: {command}");
        if rejecting.contains(letter) {
            run.rejected(&what, messages);
            assert_eq!(home.list(), NEW, "{what}");
        } else {
            // What a tiny random model loses in 8 bits may well be too much for `validate`.
            assert!(matches!((run.code, letter), (Some(0), _) | (Some(1), 'v')), "{what}: {}", run.err);
            ["json", "html", "md"].iter().for_each(|end| drop(fs::remove_file(home.path(&format!("report.{end}")))));
            let _ = fs::remove_dir_all(home.path("new"));
        }
    }
}
