//! SmolLM2-135M-Instruct in both layouts. The checkpoint is 2 × 257 MiB and made from a 93 MB package, so these tests
//! run if `QINS_SMOLLM2` names the folder that `tools/smollm2/make_smollm2.py` wrote, and print that they are skipped otherwise.

use std::{fs, ops::ControlFlow, path::PathBuf};

use qins_burn::{Generator, load};
use qins_model::{Policy, Targets};
use qins_quant::{Scheme, checkpoint::Checkpoint, checkpoint::Files};
use serde::Deserialize;

use crate::common::{device, fixture};

#[derive(Deserialize)]
struct Goldens {
    prompts: Vec<Golden>,
}

#[derive(Deserialize)]
struct Golden {
    id: String,
    input_ids: Vec<u32>,
    generated_ids: Vec<u32>,
    max_new_tokens: usize,
    margin: Vec<f32>,
}

/// Steps with a smaller logit margin are near-ties, which the rounding of another summation order may decide.
const NEAR_TIE: f32 = 0.01;

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
    let goldens: Goldens = serde_json::from_slice(&fs::read(fixture("smollm2/goldens.json")).unwrap()).unwrap();
    for golden in goldens.prompts {
        let greedy = Generator::greedy(golden.max_new_tokens, &model.config().eos_token_ids);
        let ids = greedy.generate(&model, &golden.input_ids, |_| ControlFlow::Continue(())).unwrap().ids;
        let departs = (0..golden.generated_ids.len()).find(|&i| ids.get(i) != golden.generated_ids.get(i));
        assert!(departs.is_some() || ids.len() == golden.generated_ids.len(), "{layout} {}: other length", golden.id);
        if let Some(i) = departs {
            assert!(golden.margin[i] < NEAR_TIE, "{layout} {}: diverges at {i}, by {}", golden.id, golden.margin[i]);
            eprintln!("{layout} {}: diverges at {i}, a near-tie ({})", golden.id, golden.margin[i]);
        }
    }
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
