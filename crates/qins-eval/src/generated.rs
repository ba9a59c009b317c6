//! Texts that a model writes after prompts.

use std::ops::ControlFlow;

use serde::{Deserialize, Serialize};

use crate::{
    Error, EvalSet, Progress, Prompt,
    model::{EvalModel, GenerateOptions},
    progress::Stage,
    token_match::margin,
};

/// A generated text, without its prompt.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct GeneratedText {
    pub(crate) ids: Vec<u32>,
    /// The logit margin at each token: see [`margin`].
    pub(crate) margins: Vec<f32>,
}

/// Generates a continuation of every prompt of an evaluation: greedily, or sampled at `temperature`.
pub(crate) fn generate_texts(
    model: &dyn EvalModel,
    eval_set: &EvalSet<'_>,
    temperature: Option<f32>,
    name: &str,
    progress: &dyn Progress,
) -> Result<Vec<GeneratedText>, Error> {
    let options = (0..eval_set.prompts.len()).map(|i| eval_set.options(i, temperature)).collect();
    generate(model, &eval_set.prompts, options, &format!("generating {name}"), progress)
}

/// Generates a continuation of every prompt, each with its options, in a stage of this name.
pub(crate) fn generate(
    model: &dyn EvalModel,
    prompts: &[Prompt],
    options: Vec<GenerateOptions>,
    stage: &str,
    progress: &dyn Progress,
) -> Result<Vec<GeneratedText>, Error> {
    let stage = Stage::begin(progress, stage, prompts.len());
    let with_options: Vec<(&[u32], GenerateOptions)> =
        prompts.iter().map(|prompt| &prompt.input_ids[..]).zip(options).collect();
    let mut texts = vec![GeneratedText::default(); prompts.len()];
    let on_token = &mut |i: usize, id: u32, logits: &[f32]| {
        let (text, options) = (&mut texts[i], &with_options[i].1);
        text.margins.push(margin(logits));
        text.ids.push(id);
        let is_last = text.ids.len() == options.max_new_tokens || options.stop_ids.contains(&id);
        let is_cancelled = if is_last { stage.step().is_err() } else { progress.is_cancelled() };
        if is_cancelled { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let of_prompt = |(i, source): (usize, _)| Error::Prompt { id: prompts[i].id.clone(), source };
    model.generate(&with_options, on_token).map_err(of_prompt)?;
    // Texts that were cut off are not used.
    if progress.is_cancelled() { Err(Error::Interrupted) } else { Ok(texts) }
}
