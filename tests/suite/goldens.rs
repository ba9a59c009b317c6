//! Greedy continuations of real models by Transformers.

use std::{fs, ops::ControlFlow};

use qins_burn::{Generator, decoder::Decoder};
use qins_model::Message;
use serde::Deserialize;

use crate::common::fixture;

#[derive(Deserialize)]
struct Goldens {
    prompts: Vec<Golden>,
}

/// A prompt and what Transformers makes of it, FP32 and eager.
#[derive(Deserialize)]
pub(crate) struct Golden {
    pub(crate) id: String,
    pub(crate) text: Option<String>,
    pub(crate) messages: Option<Vec<Message>>,
    pub(crate) input_ids: Vec<u32>,
    max_new_tokens: usize,
    generated_ids: Vec<u32>,
    margin: Vec<f32>,
    /// The five most probable tokens of each step, with their logits, if they are recorded.
    #[serde(default)]
    top5: Vec<Vec<(u32, f32)>>,
}

/// The goldens of a file under `tests/fixtures`.
pub(crate) fn goldens(file: &str) -> Vec<Golden> {
    serde_json::from_slice::<Goldens>(&fs::read(fixture(file)).unwrap()).unwrap().prompts
}

/// Steps with a smaller logit margin are near-ties, which the rounding of another summation order may decide.
const NEAR_TIE: f32 = 0.01;

/// The tolerance of a logit.
const LOGIT_TOLERANCE: f32 = 2e-3;

/// What a continuation had in common with its golden.
#[derive(Default)]
pub(crate) struct Continued {
    /// Steps whose token is the golden's.
    pub(crate) steps: usize,
    /// Texts that went another way at a near-tie.
    pub(crate) ties: usize,
    /// The largest difference of a recorded logit.
    pub(crate) largest: f32,
}

impl Golden {
    /// Continues the prompt. As long as the ids are the golden's, so must be the recorded logits, which are those of the same text.
    pub(crate) fn expect_continued(&self, model: &Decoder, stops: &[u32], what: &str, all: &mut Continued) {
        let what = format!("{what} {}", self.id);
        let mut departed = None;
        let mut step = 0;
        let greedy = Generator::greedy(self.max_new_tokens, stops);
        let generation = greedy.generate(model, &self.input_ids, |token| {
            for (id, logit) in self.top5.get(step).into_iter().flatten() {
                let off = (token.logits[*id as usize] - logit).abs();
                all.largest = all.largest.max(off);
                assert!(off <= LOGIT_TOLERANCE, "{what}, step {step}: the logit of {id} differs by {off}");
            }
            if self.generated_ids.get(step) != Some(&token.id) {
                departed = Some(step);
                return ControlFlow::Break(());
            }
            step += 1;
            ControlFlow::Continue(())
        });
        let ids = generation.unwrap().ids;
        all.steps += step;
        match departed {
            None => assert_eq!(ids, self.generated_ids, "{what}"),
            Some(step) => {
                all.ties += 1;
                let margin = self.margin.get(step).copied().unwrap_or(f32::INFINITY);
                assert!(margin < NEAR_TIE, "{what}: diverges at {step}, by {margin}");
                eprintln!("{what}: diverges at {step}, a near-tie ({margin})");
            }
        }
    }
}
