//! One baseline, and everything compared with it.

use std::{collections::BTreeMap, error::Error, ops::ControlFlow, time::Instant};

use qins_burn::{Greedy, Loaded, Policy, Tokenizer, linears, phi3::Phi3, score};
use qins_eval::{
    agreement,
    report::{self, Candidate, Role, Settings, Text, criteria, figures},
    token_match::margin,
};

use crate::{model::progress, prompts::Prompt};

/// What is the same for every model of a run.
pub(crate) struct Comparison<'a> {
    pub(crate) prompts: &'a [Prompt],
    /// Where a prompt does not say.
    pub(crate) max_new_tokens: usize,
    pub(crate) stop_ids: Vec<u32>,
    pub(crate) tokenizer: Option<&'a Tokenizer>,
}

/// The form a candidate takes.
pub(crate) struct Form {
    pub(crate) name: String,
    pub(crate) role: Role,
    /// What was asked for, for the report.
    pub(crate) settings: Settings,
    /// `None`: the plain model once more.
    pub(crate) policy: Option<Policy>,
}

/// The plain model's run, and all of it that candidates are compared with.
pub(crate) struct Baseline {
    pub(crate) summary: report::Baseline,
    /// Per prompt, the logits along its text in `f32`: `[tokens, vocabulary]`.
    logits: Vec<Vec<f32>>,
}

impl Comparison<'_> {
    pub(crate) fn baseline(&self, model: &Phi3) -> Result<Baseline, Box<dyn Error>> {
        let (texts, tokens_per_second) = self.write(model, "plain")?;
        let logits = texts.iter().map(|text| score(model, &text.input_ids, &text.generated_ids));
        let logits = logits.collect::<Result<_, _>>()?;
        let generated_tokens = texts.iter().map(|text| text.generated_ids.len()).sum();
        Ok(Baseline { summary: report::Baseline { generated_tokens, tokens_per_second, texts }, logits })
    }

    pub(crate) fn candidate(
        &self,
        form: Form,
        Loaded { model, report: weights }: Loaded,
        baseline: &Baseline,
    ) -> Result<Candidate, Box<dyn Error>> {
        let (own, tokens_per_second) = self.write(&model, &form.name)?;
        let bar = progress(own.len() as u64, format!("scoring {}", form.name));
        let (mut prompts, mut positions) = (Vec::new(), Vec::new());
        for ((text, logits), own) in baseline.summary.texts.iter().zip(&baseline.logits).zip(own) {
            let candidate = score(&model, &text.input_ids, &text.generated_ids)?;
            let compared = agreement::compare(logits, &candidate, &text.generated_ids, model.config().vocab_size);
            prompts.push(report::prompt_result(text, own, &compared));
            positions.push(compared);
            bar.inc(1);
        }
        bar.finish_and_clear();
        let mut schemes = BTreeMap::new();
        for spec in linears(model.config()) {
            let recipe = form.policy.as_ref().and_then(|policy| policy.recipe(&spec));
            let scheme = recipe.map_or("none", |recipe| recipe.scheme.name());
            *schemes.entry(scheme.to_owned()).or_insert(0) += 1;
        }
        let figures = figures(&prompts, &positions);
        let bits = weights.bits_per_weight();
        let criteria = criteria(&form.settings, bits, &figures);
        let met = criteria.iter().all(|c| c.met);
        Ok(Candidate {
            name: form.name,
            role: form.role,
            settings: form.settings,
            linears: schemes,
            weight_bytes: weights.weight_bytes() as u64,
            encoded_weights: weights.encoded_weights as u64,
            bits_per_weight: bits,
            tokens_per_second,
            figures,
            criteria,
            passed: form.role.is_satisfied(met),
            prompts,
        })
    }

    /// What a model writes on its own, and how fast.
    fn write(&self, model: &Phi3, name: &str) -> Result<(Vec<Text>, f64), Box<dyn Error>> {
        let bar = progress(self.prompts.len() as u64, format!("generating {name}"));
        let start = Instant::now();
        let texts = self.prompts.iter().inspect(|_| bar.inc(1)).map(|prompt| self.text(model, prompt));
        let texts = texts.collect::<Result<Vec<_>, _>>()?;
        bar.finish_and_clear();
        let tokens: usize = texts.iter().map(|text| text.generated_ids.len()).sum();
        Ok((texts, tokens as f64 / start.elapsed().as_secs_f64()))
    }

    fn text(&self, model: &Phi3, prompt: &Prompt) -> Result<Text, Box<dyn Error>> {
        let max_new_tokens = prompt.max_new_tokens.unwrap_or(self.max_new_tokens);
        let greedy = Greedy { max_new_tokens, stop_ids: self.stop_ids.clone() };
        let mut margins = Vec::new();
        let generation = greedy
            .generate(model, &prompt.input_ids, |step| {
                margins.push(margin(step.logits));
                ControlFlow::Continue(())
            })
            .map_err(|e| format!("prompt `{}`: {e}", prompt.id))?;
        let decode = |ids: &[u32]| self.tokenizer.map(|t| t.decode(ids, true)).transpose();
        Ok(Text {
            id: prompt.id.clone(),
            prompt: decode(&prompt.input_ids)?,
            input_ids: prompt.input_ids.clone(),
            text: decode(&generation.ids)?,
            generated_ids: generation.ids,
            margins,
        })
    }
}
