//! A server that speaks as much of the hub's protocol as a fetch needs, and misbehaves as it is told.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use serde_json::json;

use crate::repository::{Files, MAIN, NAME, V1, files, tree};

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
        self.is_transfer() && self.path.ends_with(&format!("/{file}"))
    }

    pub(crate) fn is_transfer(&self) -> bool {
        self.method == "GET" && self.path.starts_with("/cdn/")
    }

    pub(crate) fn is_listing(&self) -> bool {
        self.path.starts_with("/api/models/")
    }

    pub(crate) fn token(&self) -> &str {
        self.headers.get("authorization").map_or("", String::as_str)
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
    fn empty() -> Self {
        Self { status: 200, headers: BTreeMap::new(), body: Vec::new(), sent: Sent::All }
    }

    /// Another answer, without a body.
    pub(crate) fn becomes(&mut self, status: u16, headers: &[(&'static str, &str)]) {
        let headers = headers.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        *self = Self { status, headers, ..Self::empty() };
    }
}

/// Changes an answer before it is sent.
type Fault = Box<dyn Fn(&Request, &mut Answer) + Send + Sync>;

struct State {
    log: Mutex<Vec<Request>>,
    fault: Mutex<Arc<Fault>>,
    repository: Mutex<BTreeMap<&'static str, Files>>,
    is_stopped: AtomicBool,
    url: String,
}

pub(crate) struct HubServer {
    pub(crate) url: String,
    state: Arc<State>,
    thread: Option<JoinHandle<()>>,
}

impl HubServer {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::new(State {
            log: Mutex::default(),
            fault: Mutex::new(Arc::new(Box::new(|_, _| {}))),
            repository: Mutex::new([MAIN, V1].map(|commit| (commit, files(commit))).into()),
            is_stopped: AtomicBool::new(false),
            url: url.clone(),
        });
        let shared = state.clone();
        let thread = thread::spawn(move || {
            for stream in listener.incoming() {
                if shared.is_stopped.load(Ordering::SeqCst) {
                    return;
                }
                let (stream, state) = (stream.unwrap(), shared.clone());
                thread::spawn(move || {
                    let Some(request) = read(&stream) else { return };
                    let mut answer = state.answer(&request);
                    state.log.lock().unwrap().push(request.clone());
                    let fault = state.fault.lock().unwrap().clone();
                    fault(&request, &mut answer);
                    // Whoever asked may have gone.
                    let _ = write(&stream, &request, &answer);
                    let _ = stream.shutdown(Shutdown::Both);
                });
            }
        });
        Self { url, state, thread: Some(thread) }
    }

    pub(crate) fn port(&self) -> u16 {
        self.url.rsplit(':').next().unwrap().parse().unwrap()
    }

    /// How to misbehave from now on.
    pub(crate) fn misbehave(&self, fault: impl Fn(&Request, &mut Answer) + Send + Sync + 'static) {
        *self.state.fault.lock().unwrap() = Arc::new(Box::new(fault));
    }

    pub(crate) fn behave(&self) {
        self.misbehave(|_, _| {});
    }

    /// Changes what the repository has.
    pub(crate) fn set_file(&self, commit: &'static str, name: &str, content: impl Into<Vec<u8>>) {
        self.state.repository.lock().unwrap().get_mut(commit).unwrap().insert(name.to_owned(), content.into());
    }

    /// What has come in since this was last asked.
    pub(crate) fn requests(&self) -> Vec<Request> {
        std::mem::take(&mut *self.state.log.lock().unwrap())
    }

    /// From now on nobody listens.
    pub(crate) fn stop(&mut self) {
        let Some(thread) = self.thread.take() else { return };
        self.state.is_stopped.store(true, Ordering::SeqCst);
        drop(TcpStream::connect(self.url.trim_start_matches("http://")));
        thread.join().unwrap();
    }
}

impl Drop for HubServer {
    fn drop(&mut self) {
        self.stop();
    }
}

impl State {
    /// The hub: a listing; small files by a redirection within it, large ones by one to where they lie.
    fn answer(&self, request: &Request) -> Answer {
        let mut answer = Answer::empty();
        let commit_of = |revision: &str| match revision {
            "main" | MAIN => Some(MAIN),
            "v1" | V1 => Some(V1),
            _ => None,
        };
        let repository = self.repository.lock().unwrap();
        let path = request.path.split('?').next().unwrap_or_default();
        let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        match parts[..] {
            ["api", "models", "owner", "name", what @ ("revision" | "tree"), revision] => match commit_of(revision) {
                Some(commit) if what == "revision" => {
                    answer.body = json!({ "id": NAME, "sha": commit }).to_string().into();
                }
                Some(commit) => answer.body = json!(tree(&repository[commit])).to_string().into(),
                None => answer.becomes(404, &[("x-error-code", "RevisionNotFound")]),
            },
            ["owner", "name", "resolve", commit, file] => {
                match repository.get(commit).and_then(|files| files.get(file)) {
                    Some(_) if file.ends_with(".safetensors") || file.ends_with(".bin") => {
                        let location = format!("{}/cdn/{commit}/{file}", self.url);
                        answer.becomes(302, &[("location", &location), ("x-repo-commit", commit)]);
                    }
                    Some(_) => answer.becomes(307, &[("location", &format!("/cdn/{commit}/{file}"))]),
                    None => answer.becomes(404, &[("x-error-code", "EntryNotFound")]),
                }
            }
            ["cdn", commit, file] => {
                answer.body = repository[commit][file].clone();
                // What may be compressed is served whole.
                let is_plain = request.headers.get("accept-encoding").is_some_and(|encoding| encoding == "identity");
                if let Some(range) = request.headers.get("range").filter(|_| is_plain) {
                    let start = range.trim_start_matches("bytes=").split('-').next().unwrap().parse().unwrap();
                    serve_from(start, &mut answer);
                }
            }
            _ => answer.becomes(404, &[("x-error-code", "RepoNotFound")]),
        }
        answer
    }
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

pub(crate) fn read(stream: &TcpStream) -> Option<Request> {
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
