//! Real models of two more families. Their checkpoints are made from packages of 0.5 and 0.25 GB, so these tests run if `QINS_REAL`
//! names the folder that `tools/real/make_real.py` wrote them to, and print that they are skipped otherwise.

use std::{fs, ops::ControlFlow, path::PathBuf};

use qins_burn::{Generator, load};
use qins_model::{Message, TextReader, stop_ids};
use qins_quant::{checkpoint::Checkpoint, checkpoint::Files};
use serde::Deserialize;

use crate::common::{device, fixture};

#[derive(Deserialize)]
struct Goldens {
    prompts: Vec<Golden>,
}

#[derive(Deserialize)]
struct Golden {
    id: String,
    text: Option<String>,
    messages: Option<Vec<Message>>,
    input_ids: Vec<u32>,
    max_new_tokens: usize,
    generated_ids: Vec<u32>,
    margin: Vec<f32>,
    /// The five most probable tokens of each step, with their logits.
    top5: Vec<Vec<(u32, f32)>>,
}

/// Steps with a smaller logit margin are near-ties, which the rounding of another summation order may decide.
const NEAR_TIE: f32 = 0.01;

/// The tolerance of a logit.
const LOGIT_TOLERANCE: f32 = 2e-3;

fn texts_ids_and_logits_equal_transformers(name: &str) {
    let Some(dir) = std::env::var_os("QINS_REAL") else {
        eprintln!("skipped: set QINS_REAL to the folder that tools/real/make_real.py wrote");
        return;
    };
    let checkpoint = Checkpoint::open(Files::Directory(PathBuf::from(dir).join(name))).unwrap();
    let reader = TextReader::open(checkpoint.files()).unwrap();
    let model = load(&checkpoint, None, &device(), |_, _| {}).unwrap().model;
    let stops = stop_ids(checkpoint.files(), model.config()).unwrap();
    let goldens = fs::read(fixture("real").join(format!("{name}.goldens.json"))).unwrap();
    let goldens: Goldens = serde_json::from_slice(&goldens).unwrap();
    let (mut steps, mut ties, mut largest) = (0, 0, 0.0_f32);
    for golden in goldens.prompts {
        let what = format!("{name} {}", golden.id);
        let ids = match (&golden.text, &golden.messages) {
            (Some(text), None) => reader.encode(text),
            (_, messages) => reader.encode_chat(messages.as_ref().unwrap()),
        };
        assert_eq!(ids.unwrap(), golden.input_ids, "{what}: input ids");
        // As long as the ids are the same, the logits are those of the same text.
        let mut step = 0;
        let mut departed = None;
        let greedy = Generator::greedy(golden.max_new_tokens, &stops);
        let generation = greedy.generate(&model, &golden.input_ids, |token| {
            for (id, logit) in &golden.top5[step] {
                let off = (token.logits[*id as usize] - logit).abs();
                largest = largest.max(off);
                assert!(off <= LOGIT_TOLERANCE, "{what}, step {step}: the logit of {id} differs by {off}");
            }
            if golden.generated_ids[step] != token.id {
                departed = Some(step);
                return ControlFlow::Break(());
            }
            step += 1;
            ControlFlow::Continue(())
        });
        let ids = generation.unwrap().ids;
        steps += ids.len();
        match departed {
            None => assert_eq!(ids, golden.generated_ids, "{what}"),
            Some(step) => {
                ties += 1;
                assert!(golden.margin[step] < NEAR_TIE, "{what}: diverges at {step}, by {}", golden.margin[step]);
            }
        }
    }
    eprintln!("{name}: {steps} steps, {ties} near-ties, largest difference of a logit {largest:.1e}");
    assert!(steps > 400, "{name}: {steps}");
}

#[test]
fn qwen2_5_coder_equals_transformers() {
    texts_ids_and_logits_equal_transformers("qwen2.5-coder-0.5b");
}

#[test]
fn gemma_3_equals_transformers() {
    texts_ids_and_logits_equal_transformers("gemma3-270m");
}
