//! Bytes as a `tokenizer.json`.

use qins_model::TextReader;

use crate::text::{TOKENIZER, files};

const TEXT: &str = "The capital <s> of\u{e9} \u{1f642}\n is</s>";

/// If it is a tokenizer, a stream of its tokens gives the text that they have together, at every length.
///
/// # Panics
/// When it does not.
pub fn run(bytes: &[u8]) -> bool {
    let Ok(reader) = TextReader::open(&files(&[("tokenizer.json", bytes)])) else { return false };
    let (Ok(tokenizer), Ok(ids)) = (reader.tokenizer(), reader.encode(TEXT)) else { return true };
    for n in 0..ids.len() {
        let (prompt, rest) = ids.split_at(n);
        let (Ok(mut stream), Ok(whole)) = (tokenizer.stream(prompt, true), tokenizer.continuation(prompt, rest, true))
        else {
            return true;
        };
        let mut text = String::new();
        for id in rest {
            match stream.push(*id) {
                Ok(piece) => text += &piece,
                Err(_) => return true,
            }
        }
        text += &stream.finish();
        assert_eq!(text, whole, "after {n} tokens");
    }
    true
}

/// A small tokenizer.
pub fn seeds() -> Vec<(String, Vec<u8>)> {
    vec![("bytes".to_owned(), TOKENIZER.as_bytes().to_vec())]
}
