//! Where lines come from: a line editor at a terminal, else standard input, line by line.

use std::{
    error::Error,
    io::{self, BufRead, IsTerminal, StdinLock},
};

use rustyline::{Behavior, Config, DefaultEditor, error::ReadlineError};

/// What came next.
pub(super) enum Next {
    Line(String),
    /// Ctrl-C at the prompt.
    Interrupted,
    /// Bytes that are no text: the sentence that says so.
    Invalid(String),
    End,
}

/// The source of lines.
pub(super) enum Input {
    Terminal(Box<DefaultEditor>),
    /// With the number of lines read.
    Lines(StdinLock<'static>, usize),
}

impl Input {
    /// At a terminal an editor: arrows, a history in memory, and a paste of several lines is one message.
    pub(super) fn open() -> Result<Self, Box<dyn Error>> {
        if qins_eval::stdin_is_read() {
            return Err("standard input: expected it for the conversation, found an option `-` that reads it".into());
        }
        if !io::stdin().is_terminal() {
            return Ok(Self::Lines(io::stdin().lock(), 0));
        }
        // The editor writes to standard output, or to the terminal itself where that is a file.
        let behavior = if io::stdout().is_terminal() { Behavior::Stdio } else { Behavior::PreferTerm };
        let config = Config::builder().auto_add_history(true).behavior(behavior).build();
        let editor = DefaultEditor::with_config(config).map_err(|e| format!("the terminal: {e}"))?;
        Ok(Self::Terminal(Box::new(editor)))
    }

    pub(super) fn is_terminal(&self) -> bool {
        matches!(self, Self::Terminal(_))
    }

    pub(super) fn next(&mut self) -> Result<Next, Box<dyn Error>> {
        match self {
            Self::Terminal(editor) => loop {
                return match editor.readline("> ") {
                    Ok(line) => Ok(Next::Line(line)),
                    Err(ReadlineError::Eof) => Ok(Next::End),
                    Err(ReadlineError::Interrupted) => Ok(Next::Interrupted),
                    // The window has another size: it is drawn anew.
                    Err(ReadlineError::Signal(_)) => continue,
                    Err(ReadlineError::Io(e)) if e.kind() == io::ErrorKind::InvalidData => {
                        Ok(Next::Invalid("expected UTF-8, found other bytes: nothing was sent".to_owned()))
                    }
                    Err(e) => Err(format!("the terminal: {e}").into()),
                };
            },
            Self::Lines(input, number) => {
                let mut line = Vec::new();
                let read = input.read_until(b'\n', &mut line).map_err(|e| format!("standard input: {e}"))?;
                *number += 1;
                Ok(match String::from_utf8(line) {
                    _ if read == 0 => Next::End,
                    Ok(line) => Next::Line(line),
                    Err(e) => {
                        let found = e.as_bytes()[e.utf8_error().valid_up_to()];
                        Next::Invalid(format!(
                            "standard input:{number}: expected UTF-8, found the byte 0x{found:02x}: the line was not sent"
                        ))
                    }
                })
            }
        }
    }
}
