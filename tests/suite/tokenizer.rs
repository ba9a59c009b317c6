//! Phi-3.5's tokenizer and chat template, against Transformers on the same texts.

use std::fs;

use qins_model::{ChatTemplate, Message, ModelConfig, Tokenizer, stop_ids};
use qins_quant::checkpoint::Files;
use serde::Deserialize;

use crate::common::fixture;

#[derive(Deserialize)]
struct Golden {
    text: String,
    ids: Vec<u32>,
    decoded: String,
    decoded_special: String,
}

fn goldens() -> Vec<Golden> {
    serde_json::from_slice(&fs::read(fixture("phi3-tokenizer/goldens.json")).unwrap()).unwrap()
}

fn files() -> Files {
    Files::Directory(fixture("phi3-tokenizer"))
}

#[test]
fn encode_and_decode_equal_transformers() {
    let tokenizer = Tokenizer::open(&files()).unwrap();
    let goldens = goldens();
    assert_eq!(goldens.len(), 11);
    for Golden { text, ids, decoded, decoded_special } in goldens {
        assert_eq!(tokenizer.encode(&text, true).unwrap(), ids, "{text:?}");
        assert_eq!(tokenizer.decode(&ids, false).unwrap(), decoded, "{text:?}");
        assert_eq!(tokenizer.decode(&ids, true).unwrap(), decoded_special, "{text:?}");
        assert_eq!(tokenizer.continuation(&[], &ids, false).unwrap(), decoded, "{text:?}, id by id");
    }
}

#[test]
fn chat_template_renders_as_transformers() {
    let template = ChatTemplate::open(&files()).unwrap().unwrap();
    let message = |role: &str, content: &str| Message { role: role.to_owned(), content: content.to_owned() };
    let conversations =
        [vec![message("user", "What is gravity?")], vec![message("system", "You are helpful."), message("user", "Hi")]];
    for (messages, golden) in conversations.iter().zip(goldens()) {
        assert_eq!(template.render(messages).unwrap(), golden.text);
    }
    let turns = [message("user", "a"), message("assistant", "b"), message("user", "c")];
    let expected = "<|user|>\na<|end|>\n<|assistant|>\nb<|end|>\n<|user|>\nc<|end|>\n<|assistant|>\n";
    assert_eq!(template.render(&turns).unwrap(), expected);
}

#[test]
fn stop_ids_include_all_end_of_turn_tokens() {
    let files = Files::Directory(fixture("phi35"));
    let config = ModelConfig::parse(&files.read_json("config.json").unwrap(), &fixture("phi35/config.json")).unwrap();
    let ids = stop_ids(&files, &config).unwrap();
    assert_eq!(ids, [32007, 32001, 32000]);
    let tokenizer = Tokenizer::open(&Files::Directory(fixture("phi3-tokenizer"))).unwrap();
    assert_eq!(tokenizer.decode(&ids, true).unwrap(), "<|end|><|assistant|><|endoftext|>");
}
