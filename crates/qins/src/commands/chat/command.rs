//! What a user types: a message, or a command that begins with a slash.

use std::path::PathBuf;

pub(super) const HELP: &str = "\
/save FILE    write the conversation, to be read by /load and by `qins generate --prompts`
/load FILE    go on with a conversation from a file
/system TEXT  set the system prompt, without TEXT none
/reset        clear the conversation
/stats        show speed, memory and the remaining context
/help         show this
/exit         end, as Ctrl-D does
A message that begins with a slash is written with two: //etc/hosts. Ctrl-C stops an answer.";

/// A line of input.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    Nothing,
    Message(String),
    Save(PathBuf),
    Load(PathBuf),
    System(Option<String>),
    Reset,
    Stats,
    Help,
    Exit,
    /// It begins with a slash and is no command: the sentence that says so.
    Invalid(String),
}

impl Line {
    pub(super) fn parse(line: &str) -> Self {
        let line = line.trim();
        if let Some(message) = line.strip_prefix('/').filter(|rest| rest.starts_with('/')) {
            return Self::Message(message.to_owned());
        }
        if line.is_empty() {
            return Self::Nothing;
        }
        if !line.starts_with('/') {
            return Self::Message(line.to_owned());
        }
        let (name, argument) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let argument = argument.trim_start();
        match (name, argument) {
            ("/save" | "/load", "") => Self::Invalid(format!("expected `{name} FILE`, found no file")),
            ("/save", file) => Self::Save(file.into()),
            ("/load", file) => Self::Load(file.into()),
            ("/system", text) => Self::System(Some(text.to_owned()).filter(|text| !text.is_empty())),
            ("/reset", "") => Self::Reset,
            ("/stats", "") => Self::Stats,
            ("/help", "") => Self::Help,
            ("/exit", "") => Self::Exit,
            ("/reset" | "/stats" | "/help" | "/exit", more) => {
                Self::Invalid(format!("expected nothing after {name}, found `{more}`"))
            }
            (name, _) => Self::Invalid(format!(
                "expected a command, found `{name}`: /help lists them, and a message that begins with a slash is written with two"
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_messages_unless_they_begin_with_one_slash() {
        let message = |text: &str| Line::Message(text.to_owned());
        for (line, expected) in [
            (" \t", Line::Nothing),
            (" a / b\r", message("a / b")),
            ("one\ntwo", message("one\ntwo")),
            ("//etc/hosts is", message("/etc/hosts is")),
            ("/save my chat.json ", Line::Save("my chat.json".into())),
            ("/load\tx", Line::Load("x".into())),
            ("/system Be brief.\nAnd kind.", Line::System(Some("Be brief.\nAnd kind.".to_owned()))),
            ("/system", Line::System(None)),
            ("/exit", Line::Exit),
        ] {
            assert_eq!(Line::parse(line), expected, "{line}");
        }
        for (line, part) in [
            ("/etc/hosts is", "found `/etc/hosts`"),
            ("/", "found `/`"),
            ("/Exit", "found `/Exit`"),
            ("/save", "`/save FILE`"),
            ("/reset now", "found `now`"),
        ] {
            assert!(matches!(Line::parse(line), Line::Invalid(text) if text.contains(part)), "{line}");
        }
    }

    #[test]
    fn every_command_of_the_help_is_one() {
        for line in HELP.lines().filter(|line| line.starts_with('/')) {
            let name = line.split_whitespace().next().unwrap();
            assert!(!matches!(Line::parse(&format!("{name} x")), Line::Invalid(text) if text.contains("a command")));
        }
    }
}
