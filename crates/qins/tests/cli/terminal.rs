//! The program at a terminal: a pseudo-terminal, of which this is the other side.

use std::{
    fs::File,
    io::{Read, Write},
    os::fd::OwnedFd,
    process::{Child, Command},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    thread,
    time::{Duration, Instant},
};

use nix::{
    pty::{Winsize, openpty},
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};

use crate::common::{Home, edit_json, repository};

/// How long the program may be silent.
const LIMIT: Duration = Duration::from_secs(120);

struct Terminal {
    child: Child,
    keys: File,
    screen: Receiver<Vec<u8>>,
    seen: Vec<u8>,
}

impl Terminal {
    fn start(mut command: Command, columns: u16) -> Self {
        let size = Winsize { ws_row: 24, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        let pty = openpty(Some(&size), None).unwrap();
        // Copies, which other tests' programs do not inherit.
        let copy = |fd: &OwnedFd| fd.try_clone().unwrap();
        let (master, slave) = (copy(&pty.master), copy(&pty.slave));
        drop(pty);
        command.env("TERM", "xterm").stdin(copy(&slave)).stdout(copy(&slave)).stderr(copy(&slave));
        let child = command.spawn().unwrap();
        // Only the child's side stays open, so that reading ends with it.
        drop((command, slave));
        let keys = File::from(master);
        let mut output = keys.try_clone().unwrap();
        let (sender, screen) = channel();
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(n @ 1..) = output.read(&mut buffer) {
                if sender.send(buffer[..n].to_vec()).is_err() {
                    return;
                }
            }
        });
        Self { child, keys, screen, seen: Vec::new() }
    }

    fn press(&mut self, keys: impl AsRef<[u8]>) {
        self.keys.write_all(keys.as_ref()).unwrap();
    }

    /// Waits until the screen shows this after what was waited for before.
    #[track_caller]
    fn wait_for(&mut self, text: &str) {
        let deadline = Instant::now() + LIMIT;
        loop {
            if let Some(at) = self.seen.windows(text.len()).position(|window| window == text.as_bytes()) {
                self.seen.drain(..at + text.len());
                return;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            match self.screen.recv_timeout(left) {
                Ok(bytes) => self.seen.extend(bytes),
                Err(_) => panic!("no {text:?} in {:?}", String::from_utf8_lossy(&self.seen)),
            }
        }
    }

    /// The rest of the output, and the exit code.
    fn end(mut self) -> (String, Option<i32>) {
        loop {
            match self.screen.recv_timeout(LIMIT) {
                Ok(bytes) => self.seen.extend(bytes),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => panic!("no end after {:?}", String::from_utf8_lossy(&self.seen)),
            }
        }
        (String::from_utf8_lossy(&self.seen).into_owned(), self.child.wait().unwrap().code())
    }

    fn interrupt(&self) {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), Signal::SIGINT).unwrap();
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // A failed test leaves no program behind; one that has ended cannot be killed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A chat with the embedded model, copied into `endless` with a long context and no token that ends an answer.
fn endless(home: &Home, arguments: &[&str]) -> Terminal {
    let dir = home.path("endless");
    std::fs::create_dir(&dir).unwrap();
    for file in
        ["config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]
    {
        std::fs::copy(repository("crates/qins/assets/atlas").join(file), dir.join(file)).unwrap();
    }
    edit_json(&dir.join("config.json"), |c| {
        (c["max_position_embeddings"], c["original_max_position_embeddings"]) = (json!(1 << 20), json!(1 << 20));
    });
    edit_json(&dir.join("generation_config.json"), |c| c["eos_token_id"] = json!([]));
    let command = home.command(&[&["chat", "--model", "endless", "--temperature", "0"], arguments].concat());
    let mut terminal = Terminal::start(command, 80);
    terminal.wait_for("/help lists the commands");
    terminal.wait_for("> ");
    terminal
}

fn saved(home: &Home, name: &str) -> Vec<(String, String)> {
    let text = std::fs::read_to_string(home.path(name)).unwrap();
    let saved: Value = serde_json::from_str(&text).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    saved["messages"].as_array().unwrap().iter().map(|m| (text(&m["role"]), text(&m["content"]))).collect()
}

#[test]
fn interrupt_stops_the_answer_and_keeps_the_conversation() {
    let home = Home::new("e_tied/f32");
    let mut chat = endless(&home, &["--max-new-tokens", "1000000"]);
    chat.press("What is the capital of France?\r");
    chat.wait_for("The capital of France is Paris.");
    chat.interrupt();
    chat.wait_for("stopped; the answer so far is part of the conversation");
    chat.wait_for("> ");
    // At the prompt it clears the line.
    chat.press("half a mess\x03");
    chat.wait_for("Ctrl-D or /exit ends");
    chat.wait_for("> ");
    chat.press("And of Spain?\r");
    chat.wait_for("\n");
    // Of the answer.
    chat.wait_for(" ");
    chat.interrupt();
    chat.wait_for("> ");
    chat.press("/save talk.json\r");
    chat.wait_for("4 messages");
    chat.wait_for("> ");
    // A message that takes long to read is taken back.
    chat.press(format!("\x1b[200~{}\x1b[201~\r", "word ".repeat(10_000)));
    // The line editor has ended, and many seconds of reading begin.
    chat.wait_for("\x1b[?2004l");
    thread::sleep(Duration::from_millis(300));
    chat.interrupt();
    chat.wait_for("the message was taken back");
    chat.wait_for("> ");
    chat.press("/save again.json\r");
    chat.wait_for("4 messages");
    chat.wait_for("> ");
    // Ctrl-D.
    chat.press("\x04");
    assert_eq!(chat.end().1, Some(0));
    let messages = saved(&home, "talk.json");
    let roles: Vec<&str> = messages.iter().map(|(role, _)| &**role).collect();
    assert_eq!(roles, ["user", "assistant", "user", "assistant"]);
    assert_eq!((&*messages[0].1, &*messages[2].1), ("What is the capital of France?", "And of Spain?"));
    assert!(messages[1].1.starts_with("The capital of France is Paris."), "{messages:?}");
    assert!(!messages[3].1.is_empty());
}

#[test]
fn keys_edit_the_line_and_a_paste_of_any_length_is_one_message() {
    let home = Home::new("e_tied/f32");
    let mut chat = endless(&home, &["--max-new-tokens", "1"]);
    let say = |chat: &mut Terminal, keys: &str| {
        chat.press(keys);
        chat.wait_for("--max-new-tokens 1");
        chat.wait_for("> ");
    };
    // Left, twice; the line before, and its end without the last character.
    say(&mut chat, "ad\x1b[Dc\x1b[Db\r");
    say(&mut chat, "\x1b[A\x7fD\r");
    let pasted = format!("{}end", "fn main() {\n\tprintln!(\"\u{fc}\");\n}\n".repeat(6000 / 30));
    assert_eq!(pasted.chars().count(), 6003);
    say(&mut chat, &format!("\x1b[200~{pasted}\x1b[201~\r"));
    let typed = "lorem ipsum ".repeat(500) + "end";
    assert_eq!(typed.len(), 6003);
    say(&mut chat, &format!("{typed}\r"));
    chat.press(b"a\xff\xfeb");
    chat.wait_for("expected UTF-8, found other bytes");
    chat.wait_for("> ");
    chat.press("\x03");
    chat.wait_for("> ");
    chat.press("/save talk.json\r");
    chat.wait_for("8 messages");
    chat.wait_for("> ");
    chat.press("/exit\r");
    assert_eq!(chat.end().1, Some(0));
    let messages = saved(&home, "talk.json");
    let said: Vec<&str> = messages.iter().filter(|(role, _)| role == "user").map(|(_, text)| &**text).collect();
    assert_eq!(said, ["abcd", "abcD", &pasted, &typed]);
}

/// Every line on the screen: without the sequences that move the cursor or set colours.
fn lines(screen: &str) -> Vec<String> {
    let mut text = String::new();
    let mut characters = screen.chars();
    while let Some(c) = characters.next() {
        if c == '\x1b' {
            let _ = characters.find(|c| c.is_ascii_alphabetic());
        } else {
            text.push(c);
        }
    }
    text.split(['\r', '\n']).map(str::to_owned).collect()
}

#[test]
fn progress_fits_the_terminal() {
    for columns in [80, 40] {
        let home = Home::new("e_tied/f32");
        let arguments = "validate --model model --prompts prompts.jsonl --max-new-tokens 4 --json";
        let command = home.command(&arguments.split(' ').collect::<Vec<_>>());
        let (screen, _) = Terminal::start(command, columns).end();
        let lines = lines(&screen);
        let bars: Vec<&String> = lines.iter().filter(|line| line.contains(['█', '░'])).collect();
        assert!(bars.len() > 3, "{screen}");
        for bar in bars {
            assert!(bar.chars().count() <= columns.into(), "{columns}: {bar}");
        }
    }
}
