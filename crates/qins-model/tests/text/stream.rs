//! Decoding id by id.

use proptest::prelude::*;
use qins_model::Tokenizer;

use crate::tokenizers::{ATLAS, PHI3, all, directory};

/// Streams `ids` after `prompt`; at every length the text must be that of the decoder.
fn expect_same_as_decode(name: &str, tokenizer: &Tokenizer, prompt: &[u32], ids: &[u32], special: bool) {
    let mut stream = tokenizer.stream(prompt, special).unwrap();
    let before = tokenizer.decode(prompt, special).unwrap();
    let mut text = before.strip_suffix(stream.held()).expect("held text is at the end").to_owned();
    for n in 0..=ids.len() {
        let whole = tokenizer.decode(&[prompt, &ids[..n]].concat(), special).unwrap();
        let streamed = text.clone() + &stream.clone().finish();
        assert_eq!(streamed, whole, "{name}, {prompt:?} and {:?}, special tokens: {special}", &ids[..n]);
        if let Some(id) = ids.get(n) {
            text += &stream.push(*id).unwrap();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn stream_equals_decode_at_every_length(
        ids in proptest::collection::vec(any::<u32>(), 0..40), at in any::<prop::sample::Index>(), special in any::<bool>(),
    ) {
        static TOKENIZERS: std::sync::LazyLock<Vec<(&str, Tokenizer, u32)>> = std::sync::LazyLock::new(all);
        for (name, tokenizer, vocabulary) in &*TOKENIZERS {
            let ids: Vec<u32> = ids.iter().map(|id| id % vocabulary).collect();
            let (prompt, rest) = ids.split_at(at.index(ids.len() + 1));
            expect_same_as_decode(name, tokenizer, prompt, rest, special);
        }
    }
}

#[test]
fn stream_keeps_the_space_before_the_first_word() {
    for (path, prompt, answer) in [(PHI3, "The capital of France is", " Paris."), (ATLAS, "The capital", " of France")]
    {
        let tokenizer = Tokenizer::open(&directory(path)).unwrap();
        let (prompt, all) = (tokenizer.encode(prompt, true).unwrap(), format!("{prompt}{answer}"));
        let all = tokenizer.encode(&all, true).unwrap();
        assert_eq!(tokenizer.continuation(&prompt, &all[prompt.len()..], false).unwrap(), answer, "{path}");
    }
}

#[test]
fn stream_after_a_stray_byte_goes_on() {
    // Byte tokens of Phi-3: a whole character, a first byte of another one, and a word.
    let tokenizer = Tokenizer::open(&directory(PHI3)).unwrap();
    let byte = |byte: u32| byte + 3;
    let word = tokenizer.encode("Paris", true).unwrap();
    let ids = [&[byte(0xc3), byte(0xa9), byte(0xe2)][..], &word].concat();
    assert_eq!(tokenizer.continuation(&[], &ids, false).unwrap(), "\u{fffd}\u{fffd}\u{fffd} Paris");
    let mut stream = tokenizer.stream(&[], false).unwrap();
    assert_eq!((stream.push(byte(0xf0)).unwrap().as_str(), stream.held()), ("", "\u{fffd}"));
    for id in [byte(0x9f), byte(0x8d), byte(0x95)] {
        assert_eq!(stream.push(id).unwrap(), "");
    }
    assert_eq!(stream.finish(), "🍕");
}

#[test]
fn stream_gives_a_character_once_it_is_whole() {
    let tokenizer = Tokenizer::open(&directory(ATLAS)).unwrap();
    let ids = tokenizer.encode("a🍕b", false).unwrap();
    let mut stream = tokenizer.stream(&[], false).unwrap();
    let pieces: Vec<String> = ids.iter().map(|id| stream.push(*id).unwrap()).collect();
    assert_eq!(pieces.iter().filter(|piece| !piece.is_empty()).collect::<Vec<_>>(), ["a", "🍕", "b"]);
    assert_eq!(stream.finish(), "");
}
