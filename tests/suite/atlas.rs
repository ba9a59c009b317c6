//! The embedded model, against goldens from Transformers.

use std::{collections::BTreeMap, fs, ops::ControlFlow, path::PathBuf};

use qins_burn::{Generator, decoder::Logits, load};
use qins_model::{Policy, Targets, Tokenizer, stop_ids};
use qins_quant::{Scheme, checkpoint::Checkpoint, checkpoint::Files};
use safetensors::SafeTensors;
use serde::Deserialize;

use crate::common::{cases, device, floats, max_abs_diff, values};

#[derive(Deserialize)]
struct Goldens {
    goldens: Vec<Golden>,
}

#[derive(Deserialize)]
struct Golden {
    id: String,
    prompt: String,
    input_ids: Vec<u32>,
    generated_ids: Vec<u32>,
    text: String,
    margin: Vec<f32>,
    max_new_tokens: usize,
}

/// Two FP32 implementations may disagree if the logit margin of the first choice is within their rounding.
const NEAR_TIE: f32 = 1e-4;

fn dir() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../crates/qins/assets/atlas")
}

fn goldens() -> Vec<Golden> {
    let goldens: Goldens = serde_json::from_slice(&fs::read(dir().join("goldens.json")).unwrap()).unwrap();
    assert!(goldens.goldens.len() >= 24);
    goldens.goldens
}

/// Asserts that greedy texts of goldens under `scheme` are theirs, to the end or to a near-tie.
fn assert_matching(scheme: Option<Scheme>, targets: Targets) {
    let checkpoint = Checkpoint::open(Files::Directory(dir())).unwrap();
    let policy = scheme.map(|scheme| Policy::new(targets, scheme));
    let model = load(&checkpoint, policy.as_ref(), &device(), |_, _| {}).unwrap().model;
    let stop_ids = stop_ids(checkpoint.files(), model.config()).unwrap();
    for golden in cases(goldens(), 4) {
        let greedy = Generator::greedy(golden.max_new_tokens, &stop_ids);
        let ids = greedy.generate(&model, &golden.input_ids, |_| ControlFlow::Continue(())).unwrap().ids;
        let departs = (0..golden.generated_ids.len()).find(|&i| ids.get(i) != golden.generated_ids.get(i));
        let same = departs.map_or(ids.len() == golden.generated_ids.len(), |i| golden.margin[i] < NEAR_TIE);
        assert!(same, "{}: {ids:?}, not {:?}", golden.id, golden.generated_ids);
    }
}

#[test]
fn greedy_texts_of_exact_schemes_equal_transformers() {
    assert_matching(None, Targets::Safe);
    assert_matching(Some(Scheme::CompandedF32), Targets::Full);
}

#[test]
fn prefill_logits_equal_transformers() {
    let checkpoint = Checkpoint::open(Files::Directory(dir())).unwrap();
    let model = load(&checkpoint, None, &device(), |_, _| {}).unwrap().model;
    let data = fs::read(dir().join("goldens.safetensors")).unwrap();
    let data = SafeTensors::deserialize(&data).unwrap();
    let prompts: BTreeMap<String, Vec<u32>> = goldens().into_iter().map(|g| (g.id, g.input_ids)).collect();
    for name in data.names() {
        let ids = &prompts[name.strip_suffix(".logits").unwrap()];
        let logits = values(qins_burn::Session::new(&model, ids.len()).extend(ids, Logits::All).unwrap());
        let diff = max_abs_diff(&logits, &floats(&data, name));
        assert!(diff <= 1e-3, "{name}: {diff}");
    }
    assert!(data.len() >= 4);
}

#[test]
fn tokenizer_equals_transformers() {
    let tokenizer = Tokenizer::open(&Files::Directory(dir())).unwrap();
    for golden in goldens() {
        assert_eq!(tokenizer.encode(&golden.prompt, true).unwrap(), golden.input_ids, "{}", golden.id);
        assert_eq!(tokenizer.decode(&golden.generated_ids, false).unwrap(), golden.text, "{}", golden.id);
    }
}

#[test]
fn example_continues_its_prompt() {
    let mut text = String::new();
    let dir = dir();
    crate::example::continue_text(dir.to_str().unwrap(), "The capital of France is", |piece| text += piece).unwrap();
    assert!(text.starts_with(" Paris"), "{text}");
}
