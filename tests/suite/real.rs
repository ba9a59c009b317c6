//! Real models of two more families. Their checkpoints are made from packages of 0.5 and 0.25 GB, so these tests run if `QINS_REAL`
//! names the folder that `tools/real/make_real.py` wrote them to, and print that they are skipped otherwise.

use std::path::PathBuf;

use qins_burn::load;
use qins_model::{TextReader, stop_ids};
use qins_quant::{checkpoint::Checkpoint, checkpoint::Files};

use crate::{
    common::device,
    goldens::{Continued, goldens},
};

fn texts_ids_and_logits_equal_transformers(name: &str) {
    let Some(dir) = std::env::var_os("QINS_REAL") else {
        eprintln!("skipped: set QINS_REAL to the folder that tools/real/make_real.py wrote");
        return;
    };
    let checkpoint = Checkpoint::open(Files::Directory(PathBuf::from(dir).join(name))).unwrap();
    let reader = TextReader::open(checkpoint.files()).unwrap();
    let model = load(&checkpoint, None, &device(), |_, _| {}).unwrap().model;
    let stops = stop_ids(checkpoint.files(), model.config()).unwrap();
    let mut all = Continued::default();
    for golden in goldens(&format!("real/{name}.goldens.json")) {
        let ids = match (&golden.text, &golden.messages) {
            (Some(text), None) => reader.encode(text),
            (_, messages) => reader.encode_chat(messages.as_ref().unwrap()),
        };
        assert_eq!(ids.unwrap(), golden.input_ids, "{name} {}: input ids", golden.id);
        golden.expect_continued(&model, &stops, name, &mut all);
    }
    let Continued { steps, ties, largest } = all;
    eprintln!("{name}: {steps} equal steps, {ties} near-ties, largest difference of a logit {largest:.1e}");
    // Recorded logits were compared: another order of summation differs in the last bits.
    assert!(steps > 400 && largest > 0.0, "{name}: {steps} steps, {largest}");
}

#[test]
fn qwen2_5_coder_equals_transformers() {
    texts_ids_and_logits_equal_transformers("qwen2.5-coder-0.5b");
}

#[test]
fn gemma_3_equals_transformers() {
    texts_ids_and_logits_equal_transformers("gemma3-270m");
}
