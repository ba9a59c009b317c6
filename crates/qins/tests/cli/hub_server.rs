//! A server that speaks as much of the hub's protocol as a fetch needs, and misbehaves as it is told; and a cache beside it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{BufRead, BufReader, Write},
    net::{Shutdown, TcpListener, TcpStream},
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use serde_json::json;
use sha1::Sha1;
use sha2::{Digest, Sha256};

use crate::common::{Home, Run, fixture};

pub(crate) const REPOSITORY: &str = "owner/name";
/// The commit of `main`, and that of `v1`, whose `config.json` is another.
pub(crate) const MAIN: &str = "1111111111111111111111111111111111111111";
pub(crate) const V1: &str = "2222222222222222222222222222222222222222";

pub(crate) type Files = BTreeMap<String, Vec<u8>>;

/// What came in.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) headers: BTreeMap<String, String>,
}

impl Request {
    /// Whether a file's content is asked for.
    pub(crate) fn is_for(&self, file: &str) -> bool {
        self.method == "GET" && self.path.starts_with("/cdn/") && self.path.ends_with(&format!("/{file}"))
    }
}

/// How much of an answer is sent before the connection ends.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Sent {
    All,
    Half,
    /// Half, and then nothing for a while.
    Stalled,
    Nothing,
}

/// What goes out.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: BTreeMap<&'static str, String>,
    pub(crate) body: Vec<u8>,
    pub(crate) sent: Sent,
}

impl Answer {
    /// Another answer, without a body.
    pub(crate) fn becomes(&mut self, status: u16, headers: &[(&'static str, &str)]) {
        let headers = headers.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        *self = Self { status, headers, body: Vec::new(), sent: Sent::All };
    }
}

/// Changes an answer before it is sent.
type Fault = Box<dyn Fn(&Request, &mut Answer) + Send + Sync>;

pub(crate) struct HubServer {
    pub(crate) url: String,
    log: Arc<Mutex<Vec<Request>>>,
    fault: Arc<Mutex<Fault>>,
    is_stopped: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl HubServer {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let log = Arc::new(Mutex::new(Vec::new()));
        let fault: Arc<Mutex<Fault>> = Arc::new(Mutex::new(Box::new(|_, _| {})));
        let is_stopped = Arc::new(AtomicBool::new(false));
        let (shared_log, shared_fault, stopped, base) = (log.clone(), fault.clone(), is_stopped.clone(), url.clone());
        let thread = thread::spawn(move || {
            for stream in listener.incoming() {
                if stopped.load(Ordering::SeqCst) {
                    return;
                }
                let (stream, log, fault, base) =
                    (stream.unwrap(), shared_log.clone(), shared_fault.clone(), base.clone());
                thread::spawn(move || {
                    let Some(request) = read(&stream) else { return };
                    let mut answer = answer(&request, &base);
                    log.lock().unwrap().push(request.clone());
                    fault.lock().unwrap()(&request, &mut answer);
                    // Whoever asked may have gone.
                    let _ = write(&stream, &request, &answer);
                    let _ = stream.shutdown(Shutdown::Both);
                });
            }
        });
        Self { url, log, fault, is_stopped, thread: Some(thread) }
    }

    /// How to misbehave from now on.
    pub(crate) fn misbehave(&self, fault: impl Fn(&Request, &mut Answer) + Send + Sync + 'static) {
        *self.fault.lock().unwrap() = Box::new(fault);
    }

    pub(crate) fn behave(&self) {
        self.misbehave(|_, _| {});
    }

    /// What has come in since this was last asked.
    pub(crate) fn requests(&self) -> Vec<Request> {
        std::mem::take(&mut *self.log.lock().unwrap())
    }

    /// From now on nobody listens.
    pub(crate) fn stop(&mut self) {
        let Some(thread) = self.thread.take() else { return };
        self.is_stopped.store(true, Ordering::SeqCst);
        drop(TcpStream::connect(self.url.trim_start_matches("http://")));
        thread.join().unwrap();
    }
}

impl Drop for HubServer {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A hub of one's own, and a cache.
pub(crate) struct Case {
    pub(crate) home: Home,
    pub(crate) server: HubServer,
}

impl Case {
    pub(crate) fn new() -> Self {
        Self { home: Home::new("e_tied/f32"), server: HubServer::start() }
    }

    pub(crate) fn generate(&self, model: &str) -> Run {
        self.generate_with(model, &[])
    }

    pub(crate) fn generate_with(&self, model: &str, variables: &[(&str, &str)]) -> Run {
        self.qins(&["generate", "--model", model, "--prompt-ids", "5,6", "--max-new-tokens", "4", "--json"], variables)
    }

    /// The program, whose hub is the server.
    pub(crate) fn qins(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Run {
        let mut command = self.home.command(arguments);
        for name in ["HF_HUB_CACHE", "HF_HUB_OFFLINE", "HF_TOKEN", "HF_TOKEN_PATH", "HF_HUB_DOWNLOAD_TIMEOUT"] {
            command.env_remove(name);
        }
        command.env("NO_PROXY", "*").env("HF_HOME", self.home.path("hf")).env("HF_ENDPOINT", &self.server.url);
        let output = command.envs(variables.iter().copied()).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Run { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }

    pub(crate) fn folder(&self) -> PathBuf {
        self.home.path("hf/hub/models--owner--name")
    }

    pub(crate) fn snapshot(&self, commit: &str) -> PathBuf {
        self.folder().join("snapshots").join(commit)
    }

    /// The files whose content was asked for since this was last asked, each with the byte it was asked from.
    pub(crate) fn transfers(&self) -> BTreeSet<(String, String)> {
        let requests = self.server.requests().into_iter().filter(|r| r.method == "GET" && r.path.starts_with("/cdn/"));
        let range = |request: &Request| request.headers.get("range").cloned().unwrap_or_default();
        requests.map(|r| (r.path.rsplit('/').next().unwrap().to_owned(), range(&r))).collect()
    }

    /// Fails for this, says this, and leaves no blob of the file.
    #[track_caller]
    pub(crate) fn refused(&self, file: &str, says: &[&str]) {
        self.generate(REPOSITORY).refused(file, &[&[REPOSITORY, file], says].concat());
        assert!(!self.snapshot(MAIN).join(file).is_symlink(), "{file}");
        let blobs = fs::read_dir(self.folder().join("blobs")).map_or(0, Iterator::count);
        let whole = fs::read_dir(self.snapshot(MAIN)).map_or(0, Iterator::count);
        assert_eq!(blobs, whole, "{file}");
        assert!(!self.folder().join("refs").exists());
    }
}

/// The repository's files at a commit: a fixture's, one that is small, and three that no fetch needs.
pub(crate) fn files(commit: &str) -> Files {
    let entries = fs::read_dir(fixture("b_gqa/bf16")).unwrap().map(|entry| entry.unwrap());
    let mut files: Files =
        entries.map(|e| (e.file_name().into_string().unwrap(), fs::read(e.path()).unwrap())).collect();
    files.retain(|name, _| !name.starts_with("goldens") && name != "config.hub.json");
    for (name, content) in [
        ("README.md", "# A model"),
        ("pytorch_model.bin", "pickled"),
        ("special_tokens_map.json", "{}"),
        ("stray.safetensors", "other weights"),
    ] {
        files.insert(name.to_owned(), content.into());
    }
    if commit == V1 {
        files.get_mut("config.json").unwrap().push(b'\n');
    }
    files
}

fn hex(bytes: impl AsRef<[u8]>) -> String {
    bytes.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The hub: a listing; small files by a redirection within it, large ones by one that tells their checksum and size.
fn answer(request: &Request, base: &str) -> Answer {
    let mut answer = Answer { status: 200, headers: BTreeMap::new(), body: Vec::new(), sent: Sent::All };
    let commit_of = |revision: &str| match revision {
        "main" | MAIN => Some(MAIN),
        "v1" | V1 => Some(V1),
        _ => None,
    };
    let parts: Vec<&str> = request.path.trim_start_matches('/').split('/').collect();
    match parts[..] {
        ["api", "models", "owner", "name", "revision", revision] => match commit_of(revision) {
            Some(commit) => {
                let siblings: Vec<_> = files(commit).into_keys().map(|name| json!({ "rfilename": name })).collect();
                answer.body = json!({ "id": REPOSITORY, "sha": commit, "siblings": siblings }).to_string().into();
            }
            None => answer.becomes(404, &[("x-error-code", "RevisionNotFound")]),
        },
        ["owner", "name", "resolve", commit, file] => match files(commit).remove(file) {
            Some(content) if file.ends_with(".safetensors") || file.ends_with(".bin") => answer.becomes(
                302,
                &[
                    ("location", &format!("{base}/cdn/{commit}/{file}")),
                    ("etag", "\"of the pointer\""),
                    ("x-linked-etag", &format!("\"{}\"", hex(Sha256::digest(&content)))),
                    ("x-linked-size", &content.len().to_string()),
                    ("x-repo-commit", commit),
                ],
            ),
            Some(_) => {
                answer.becomes(307, &[("location", &format!("/cdn/{commit}/{file}")), ("x-repo-commit", commit)])
            }
            None => answer.becomes(404, &[("x-error-code", "EntryNotFound")]),
        },
        ["cdn", commit, file] => {
            let content = files(commit).remove(file).unwrap();
            let git = Sha1::new_with_prefix(format!("blob {}\0", content.len())).chain_update(&content).finalize();
            answer.headers.insert("etag", format!("\"{}\"", hex(git)));
            answer.body = content;
            // What may be compressed is served whole.
            let is_plain = request.headers.get("accept-encoding").is_some_and(|encoding| encoding == "identity");
            if let Some(range) = request.headers.get("range").filter(|_| is_plain) {
                let start = range.trim_start_matches("bytes=").trim_end_matches('-').parse().unwrap();
                serve_from(start, &mut answer);
            }
        }
        _ => answer.becomes(404, &[("x-error-code", "RepoNotFound")]),
    }
    answer
}

fn serve_from(start: usize, answer: &mut Answer) {
    let length = answer.body.len();
    if start >= length {
        return answer.becomes(416, &[("content-range", &format!("bytes */{length}"))]);
    }
    answer.status = 206;
    answer.body.drain(..start);
    answer.headers.insert("content-range", format!("bytes {start}-{}/{length}", length - 1));
}

fn read(stream: &TcpStream) -> Option<Request> {
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok).take_while(|line| !line.is_empty());
    let first = lines.next()?;
    let mut words = first.split(' ').map(str::to_owned);
    let (method, path) = (words.next()?, words.next()?);
    let headers = lines.filter_map(|line| {
        Some(line.split_once(": ")?).map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
    });
    Some(Request { method, path, headers: headers.collect() })
}

fn write(mut stream: &TcpStream, request: &Request, answer: &Answer) -> std::io::Result<()> {
    if answer.sent == Sent::Nothing {
        return Ok(());
    }
    let Answer { status, headers, body, sent } = answer;
    let mut head = format!("HTTP/1.1 {status} as told\r\nconnection: close\r\ncontent-length: {}\r\n", body.len());
    headers.iter().for_each(|(name, value)| head += &format!("{name}: {value}\r\n"));
    stream.write_all(format!("{head}\r\n").as_bytes())?;
    if request.method != "HEAD" {
        stream.write_all(if *sent == Sent::All { body } else { &body[..body.len() / 2] })?;
    }
    if *sent == Sent::Stalled {
        thread::sleep(Duration::from_secs(20));
    }
    stream.flush()
}
