//! Special tokens that are written in messages.
//!
//! Tokenizers recognise special tokens in any text, so that a user could end a turn and begin another one. Here the template writes control
//! tokens and messages do not: while a conversation is rendered, a character of a private-use area stands for each special token written in
//! a message; then other such characters take the place of the special tokens that the template wrote, and the tokenizer knows those by them.

use tokenizers::AddedToken;

use crate::{Error, Message, Tokenizer};

/// The special tokens written in the messages of a conversation.
pub(crate) struct Written<'t> {
    tokenizer: &'t Tokenizer,
    tokens: Vec<Special>,
}

struct Special {
    id: u32,
    token: AddedToken,
    in_messages: bool,
    /// Stands for the token where it is written in a message.
    mark: char,
    /// Stands for the token where the template wrote it.
    name: char,
}

impl<'t> Written<'t> {
    /// `None` when there are none.
    pub(crate) fn new(tokenizer: &'t Tokenizer, messages: &[Message], rendered: &str) -> Option<Self> {
        let is_written = |token: &AddedToken| messages.iter().any(|m| m.content.contains(&token.content));
        let special = tokenizer.special_tokens();
        if !special.iter().any(|(_, token)| is_written(token)) {
            return None;
        }
        let is_used = |c: &char| rendered.contains(*c) || messages.iter().any(|m| m.content.contains(*c));
        let mut free = ('\u{100000}'..='\u{10FFFD}').filter(|c| !is_used(c));
        let tokens = special
            .into_iter()
            .map(|(id, token)| (id, is_written(&token), token))
            .filter(|(_, in_messages, token)| *in_messages || rendered.contains(&token.content))
            .map_while(|(id, in_messages, token)| {
                Some(Special { id, token, in_messages, mark: free.next()?, name: free.next()? })
            })
            .collect();
        Some(Self { tokenizer, tokens })
    }

    /// The messages with a character for each special token.
    pub(crate) fn marked(&self, messages: &[Message]) -> Vec<Message> {
        let content = |m: &Message| self.replaced(&m.content, |s| (s.token.content.clone(), s.mark.to_string()));
        messages.iter().map(|m| Message { role: m.role.clone(), content: content(m) }).collect()
    }

    /// The token ids of a conversation, from the text of the marked messages and that of the messages as they are.
    pub(crate) fn encode(&self, marked: &str, rendered: &str, added: bool) -> Result<Vec<u32>, Error> {
        let unmarked = |text: &str| self.replaced(text, |s| (s.mark.to_string(), s.token.content.clone()));
        if unmarked(marked) != rendered {
            let found: Vec<_> = self.tokens.iter().filter(|s| s.in_messages).map(|s| &*s.token.content).collect();
            return Err(self.tokenizer.invalid(format!(
                "chat_template: expected messages without special tokens that the template itself reads, found `{}`",
                found.join("`, `")
            )));
        }
        let named = self.replaced(marked, |s| (s.token.content.clone(), s.name.to_string()));
        let names: Vec<_> = self.tokens.iter().map(|s| (s.name.to_string(), s.id, s.token.clone())).collect();
        self.tokenizer.renamed(&names).encode(&unmarked(&named), added)
    }

    fn replaced(&self, text: &str, pair: impl Fn(&Special) -> (String, String)) -> String {
        self.tokens.iter().map(pair).fold(text.to_owned(), |text, (from, to)| text.replace(&from, &to))
    }
}
