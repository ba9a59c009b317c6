//! SmolLM2-135M-Instruct in both layouts. The checkpoint is 2 × 257 MiB and made from a 93 MB package, so these tests
//! run if `QINS_SMOLLM2` names the folder that `tools/smollm2/make_smollm2.py` wrote, and print that they are skipped otherwise.

use std::path::PathBuf;

use qins_burn::load;
use qins_model::{Policy, Targets};
use qins_quant::{Scheme, checkpoint::Checkpoint, checkpoint::Files};

use crate::{
    common::device,
    goldens::{Continued, goldens},
};

fn checkpoint(layout: &str) -> Option<Checkpoint> {
    let Some(dir) = std::env::var_os("QINS_SMOLLM2") else {
        eprintln!("skipped: set QINS_SMOLLM2 to the folder that tools/smollm2/make_smollm2.py wrote");
        return None;
    };
    Some(Checkpoint::open(Files::Directory(PathBuf::from(dir).join(layout))).unwrap())
}

fn greedy_ids_equal_transformers(layout: &str, scheme: Option<Scheme>) {
    let Some(checkpoint) = checkpoint(layout) else { return };
    let policy = scheme.map(|scheme| Policy::new(Targets::Full, scheme));
    let model = load(&checkpoint, policy.as_ref(), &device(), |_, _| {}).unwrap().model;
    let stops = model.config().eos_token_ids.clone();
    let mut all = Continued::default();
    for golden in goldens("smollm2/goldens.json") {
        golden.expect_continued(&model, &stops, layout, &mut all);
    }
    assert!(all.steps > 0);
}

#[test]
fn fused_layout_equals_transformers() {
    greedy_ids_equal_transformers("phi3", None);
}

#[test]
fn unfused_layout_equals_transformers() {
    greedy_ids_equal_transformers("llama", None);
}

#[test]
fn exact_schemes_equal_transformers() {
    greedy_ids_equal_transformers("phi3", Some(Scheme::CompandedF32));
}
