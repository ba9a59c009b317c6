//! The texts that error feedback is calibrated on.

use qins_model::{CalibrationTexts, ModelConfig, ModelSource, Policy, Sampler, Targets, TextReader, stop_ids};
use qins_quant::Scheme;

use crate::{
    Error, Progress, Prompt,
    generated::{GeneratedText, generate},
    model::{EvalLoader, GenerateOptions},
    prompts::parse_prompts,
};

/// The standard text: a name, and the text. No evaluation reads it.
const TEXT: (&str, &str) = ("the calibration text", include_str!("../assets/calibration/text.txt"));

/// The standard prompts, which the model answers itself: a name, and the content of a prompts file. No evaluation uses them.
const PROMPTS: (&str, &str) = ("the calibration prompts", include_str!("../assets/calibration/prompts.jsonl"));

/// Tokens of a sequence, at most.
const SEQUENCE: usize = 512;

/// Tokens that the model writes after a prompt, at most.
const ANSWER: usize = 40;

/// The standard calibration, which needs no file: a text in many languages and forms, and prompts with the model's own greedy
/// continuations, conversations in its own template among them.
pub struct StandardCalibration<'a> {
    /// The model, with plain weights.
    pub source: &'a ModelSource,
    /// Loads the model in `q8`, to write the continuations.
    pub loader: &'a dyn EvalLoader,
    /// More prompts that suit the model, if there are any: a name, and the content of a prompts file.
    pub own_prompts: Option<(&'a str, &'a str)>,
    /// Receives progress and notes.
    pub progress: &'a dyn Progress,
}

impl StandardCalibration<'_> {
    /// Reads the text, and lets the model write.
    ///
    /// # Errors
    /// When the model has no tokenizer or one that cannot read the text, or cannot be loaded or run.
    pub fn texts(&self) -> Result<CalibrationTexts, Error> {
        let Self { source, loader, own_prompts, progress } = *self;
        let (reader, config) = (TextReader::open(source.checkpoint.files())?, ModelConfig::of(&source.checkpoint)?);
        let mut found = texts_of(TEXT.1, TEXT.0, &reader, &config)?;
        let (mut prompts, mut rejected) = (Vec::new(), 0);
        for (name, text) in own_prompts.into_iter().chain([PROMPTS]) {
            // Some templates know no system turn.
            for line in text.lines() {
                match parse_prompts(line, name, &reader, &config) {
                    Ok(parsed) => prompts.extend(parsed),
                    Err(_) => rejected += 1,
                }
            }
        }
        if rejected > 0 {
            progress
                .note(&format!("{rejected} of the calibration prompts are left out, as the model cannot read them"));
        }
        found.texts.extend(self.written(&prompts, loader, &config)?);
        Ok(found)
    }

    /// Prompts with the model's greedy continuations. It is in `q8`, which writes what the plain model writes and takes half the
    /// memory.
    fn written(
        &self,
        prompts: &[Prompt],
        loader: &dyn EvalLoader,
        config: &ModelConfig,
    ) -> Result<Vec<Vec<u32>>, Error> {
        let model = loader.load(self.source, Some(&Policy::new(Targets::Full, Scheme::Q8))).map_err(Error::Model)?;
        let stop_ids = stop_ids(self.source.checkpoint.files(), config)?;
        let most = config.max_position_embeddings.min(SEQUENCE);
        let options = prompts.iter().map(|prompt| GenerateOptions {
            max_new_tokens: ANSWER.min(most.saturating_sub(prompt.input_ids.len())),
            stop_ids: stop_ids.clone(),
            sampler: Sampler::default(),
        });
        let answers = generate(&*model, prompts, options.collect(), "writing texts to calibrate on", self.progress)?;
        let text = |(prompt, answer): (&Prompt, GeneratedText)| {
            let mut text = [&prompt.input_ids[..], &answer.ids].concat();
            text.truncate(most);
            text
        };
        Ok(prompts.iter().zip(answers).map(text).collect())
    }
}

/// The texts to calibrate on that are in a text, which messages call `name`: sequences of up to 512 tokens, each of which begins as
/// every text does.
///
/// # Errors
/// [`Error::Input`] when the model has no tokenizer, or one that cannot read the text.
pub fn texts_of(text: &str, name: &str, reader: &TextReader, config: &ModelConfig) -> Result<CalibrationTexts, Error> {
    let tokenizer = reader.tokenizer().map_err(|e| Error::input(name, e))?;
    let encode = |text: &str| tokenizer.encode(text, false).map_err(|e| Error::input(name, e));
    let (ids, prefix) = (encode(text)?, tokenizer.prefix());
    let own = SEQUENCE.min(config.max_position_embeddings).saturating_sub(prefix.len()).max(1);
    let texts = ids.chunks(own).map(|ids| [prefix, ids].concat()).collect();
    let mut firsts = Vec::new();
    if prefix.is_empty() {
        for line in text.lines() {
            // A token or two of each line.
            let start: String = line.chars().take(24).collect();
            firsts.extend(encode(&start)?.first());
        }
    }
    Ok(CalibrationTexts { texts, firsts })
}

#[cfg(test)]
mod tests {
    use std::{collections::HashSet, fs, path::PathBuf};

    use super::*;
    use crate::eval_set;

    /// Words of a text in lower case, and all sequences of so many of them.
    fn sequences(text: &str, n: usize) -> HashSet<Vec<String>> {
        let words: Vec<String> =
            text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).map(str::to_lowercase).collect();
        words.windows(n).map(<[String]>::to_vec).collect()
    }

    /// The texts of a prompts file, one string a prompt.
    fn prompts(file: &str) -> Vec<String> {
        let texts = |line: &str| {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            match &line["messages"] {
                serde_json::Value::Array(turns) => {
                    turns.iter().map(|turn| turn["content"].as_str().unwrap()).collect::<Vec<_>>().join("\n")
                }
                _ => line["prompt"].as_str().unwrap().to_owned(),
            }
        };
        file.lines().map(texts).collect()
    }

    /// The texts that benches evaluate on.
    fn texts_of_benches() -> Vec<String> {
        let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../benches/quality/texts");
        let all = ["novel", "rust", "python", "manual", "europe", "asia"];
        all.map(|name| fs::read_to_string(dir.join(name).with_extension("txt")).unwrap()).into()
    }

    #[test]
    fn calibration_and_evaluation_share_no_text() {
        const WORDS: usize = 6;
        let [evaluated, calibrated] = [eval_set::PROMPTS.1, PROMPTS.1].map(prompts);
        assert_eq!((evaluated.len(), calibrated.len()), (56, 62));
        let own = sequences(&[TEXT.1, &calibrated.join("\n")].concat(), WORDS);
        let of_evaluation = sequences(&[eval_set::TEXT.1, &evaluated.join("\n")].concat(), WORDS);
        assert!(own.len() > 4000 && of_evaluation.len() > 10_000);
        let of_benches = texts_of_benches().into_iter().map(|text| sequences(&text, WORDS));
        for evaluated in of_benches.chain([of_evaluation.clone()]) {
            let shared: Vec<_> = own.intersection(&evaluated).collect();
            assert!(shared.is_empty(), "{shared:?}");
        }
        // Short prompts have no sequence of so many words.
        for prompt in &calibrated {
            let same = evaluated.iter().find(|other| other.starts_with(prompt) || prompt.starts_with(*other));
            assert_eq!(same, None, "{prompt}");
        }
        // Control: a sentence of the other is noticed.
        let copied = sequences(&eval_set::TEXT.1[1000..1200], WORDS);
        assert!(!copied.is_disjoint(&of_evaluation));
    }
}
