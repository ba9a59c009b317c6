//! Strings that end a generated text.

use std::ops::ControlFlow;

/// Cuts a text, which comes in pieces, before the first of some strings that is complete in it. What may be the beginning of one
/// is held back until it is known.
#[derive(Debug)]
pub(crate) struct StopStrings<'a> {
    strings: &'a [String],
    held: String,
}

impl<'a> StopStrings<'a> {
    pub(crate) fn new(strings: &'a [String]) -> Self {
        Self { strings, held: String::new() }
    }

    /// Takes a piece; returns the text that is certain: `Break` with the last of it when a string is complete.
    pub(crate) fn push(&mut self, piece: &str) -> ControlFlow<String, String> {
        // By character, so that the result does not depend on how tokens divide the text.
        for c in piece.chars() {
            self.held.push(c);
            let complete = self.strings.iter().filter(|string| self.held.ends_with(*string));
            if let Some(length) = complete.map(String::len).max() {
                self.held.truncate(self.held.len() - length);
                return ControlFlow::Break(std::mem::take(&mut self.held));
            }
        }
        let mut starts = self.held.char_indices().map(|(start, _)| start);
        let begins = |start: &usize| self.strings.iter().any(|string| string.starts_with(&self.held[*start..]));
        let certain = starts.find(begins).unwrap_or(self.held.len());
        ControlFlow::Continue(self.held.drain(..certain).collect())
    }

    /// The text that was held back, once no more comes.
    pub(crate) fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The text up to the stop, and whether there was one; after every piece, nothing of a stop may be out.
    fn cut(strings: &[&str], pieces: &[&str]) -> (String, bool) {
        let strings: Vec<String> = strings.iter().map(|s| (*s).to_owned()).collect();
        let (mut stops, mut text) = (StopStrings::new(&strings), String::new());
        for piece in pieces {
            match stops.push(piece) {
                ControlFlow::Continue(certain) => text += &certain,
                ControlFlow::Break(last) => return (text + &last, true),
            }
        }
        (text + &stops.finish(), false)
    }

    #[test]
    fn text_is_cut_before_the_first_complete_string_however_it_is_divided() {
        let text = "eins, zwei\n\nUser: drei";
        for (strings, expected) in [
            (&["\n\nUser:"][..], "eins, zwei"),
            (&["User", "\n\nUser:"], "eins, zwei\n\n"),
            (&["zwei", "i"], "e"),
            (&["ei\n", "zwei\n"], "eins, "),
            (&["e"], ""),
        ] {
            assert_eq!(cut(strings, &[text]), (expected.to_owned(), true));
            for at in 1..text.len() {
                assert_eq!(cut(strings, &[&text[..at], &text[at..]]), (expected.to_owned(), true), "{at}");
            }
            let single: Vec<String> = text.chars().map(String::from).collect();
            assert_eq!(cut(strings, &single.iter().map(String::as_str).collect::<Vec<_>>()).0, expected);
        }
    }

    #[test]
    fn beginning_of_a_string_is_held_back_and_not_lost() {
        let strings = ["\u{fc}ber alles".to_owned(), "aab".to_owned()];
        let mut stops = StopStrings::new(&strings);
        assert_eq!(stops.push("x \u{fc}ber"), ControlFlow::Continue("x ".to_owned()));
        assert_eq!(stops.push(" all"), ControlFlow::Continue(String::new()));
        assert_eq!(stops.push(" aaa"), ControlFlow::Continue("\u{fc}ber all a".to_owned()));
        assert_eq!(stops.push("b"), ControlFlow::Break(String::new()));
        assert_eq!(cut(&["end"], &["the e", "n"]), ("the en".to_owned(), false));
        assert_eq!(cut(&[], &["the e", "n"]), ("the en".to_owned(), false));
    }
}
