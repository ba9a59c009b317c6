//! The plain model's run, kept in a file: what it wrote, and its logits in `f32`, by which every form is compared with it.
//! So no two models need to be in memory together, and a run that was kept need not be made again.
//!
//! The file is in safetensors, with a checksum of each tensor: `run` U8, a JSON object that says what was asked of which
//! model and what was written; and `passage.N` F32 `[tokens, vocabulary]`, the logits by which the tokens of passage N are
//! predicted: first of the greedy texts, then of the text's windows, then after its long contexts.

use std::{
    collections::BTreeMap,
    error::Error,
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

use qins_burn::{Files, phi3::Phi3, score};
use qins_quant::checkpoint::{Dtype, Shard, ShardWriter, TensorSpec};
use serde::{Deserialize, Serialize};

use crate::{
    model::stage,
    questions::{Passage, Questions},
};

/// The version of the file.
const VERSION: u32 = 1;

/// A text, without its prompt.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Written {
    pub(crate) ids: Vec<u32>,
    /// The lead of each token's logit over the next.
    pub(crate) margins: Vec<f32>,
}

/// The tensor `run`.
#[derive(Debug, Serialize, Deserialize)]
struct Run {
    version: u32,
    /// What was asked of which model.
    asked: BTreeMap<String, String>,
    vocabulary: usize,
    greedy: Vec<Written>,
    sampled: Vec<Written>,
}

/// The run, and where its logits are.
#[derive(Debug)]
pub(crate) struct Baseline {
    pub(crate) greedy: Vec<Written>,
    pub(crate) sampled: Vec<Written>,
    /// None where it was read from a file.
    pub(crate) tokens_per_second: Option<f64>,
    pub(crate) vocabulary: usize,
    logits: Shard,
    path: PathBuf,
}

impl Baseline {
    /// Reads a run that was kept, and checks that it is the answer to these questions.
    pub(crate) fn read(
        path: &Path,
        asked: &BTreeMap<String, String>,
        questions: &Questions<'_>,
        vocabulary: usize,
    ) -> Result<Self, Box<dyn Error>> {
        let name = path.display();
        let (folder, file) = (path.parent().unwrap_or(Path::new("")), path.file_name().unwrap_or_default());
        let logits = Shard::open(&Files::Directory(folder.to_owned()), &file.to_string_lossy())?;
        let damaged = logits.names().into_iter().find(|tensor| logits.is_intact(tensor) != Some(true));
        if let Some(tensor) = damaged {
            return Err(format!("{name}: `{tensor}`: expected the bytes that its checksum was made of").into());
        }
        let (.., bytes) = logits.get("run").ok_or(format!("{name}: expected a baseline, found no tensor `run`"))?;
        let run: Run = serde_json::from_slice(bytes).map_err(|e| format!("{name}: `run`: {e}"))?;
        if run.version != VERSION {
            return Err(format!("{name}: expected version {VERSION} of a baseline, found {}", run.version).into());
        }
        let none = "nothing".to_owned();
        for (key, expected) in asked {
            let found = run.asked.get(key).unwrap_or(&none);
            if found != expected {
                return Err(format!("{name}: expected a baseline with {key} {expected}, found {found}").into());
            }
        }
        // What else is taken for granted where a run is used.
        let prompts = questions.prompts.len();
        let expected = (vocabulary, prompts, questions.temperature.map_or(0, |_| prompts));
        let found = (run.vocabulary, run.greedy.len(), run.sampled.len());
        if found != expected {
            let what = "a vocabulary, texts and drawn texts";
            return Err(format!("{name}: `run`: expected {what} of {expected:?}, found {found:?}").into());
        }
        let mut ids = run.greedy.iter().chain(&run.sampled).flat_map(|text| &text.ids);
        if let Some(id) = ids.find(|id| **id as usize >= vocabulary) {
            return Err(format!("{name}: `run`: expected token ids below {vocabulary}, found {id}").into());
        }
        let Run { greedy, sampled, .. } = run;
        Ok(Self { greedy, sampled, tokens_per_second: None, vocabulary, logits, path: path.to_owned() })
    }

    /// Runs the plain model, and keeps its run in a file that is there whole or not at all.
    pub(crate) fn make(
        model: &Phi3,
        questions: &Questions<'_>,
        asked: BTreeMap<String, String>,
        path: &Path,
    ) -> Result<Self, Box<dyn Error>> {
        let start = Instant::now();
        let greedy = write(model, questions, None, "plain")?;
        let tokens: usize = greedy.iter().map(|text| text.ids.len()).sum();
        let speed = tokens as f64 / start.elapsed().as_secs_f64();
        let sampled = match questions.temperature {
            None => Vec::new(),
            temperature => write(model, questions, temperature, "plain, drawn")?,
        };
        let vocabulary = model.config().vocab_size;
        let run = Run { version: VERSION, asked, vocabulary, greedy, sampled };
        let mut partial = path.as_os_str().to_owned();
        partial.push(".partial");
        let partial = PathBuf::from(partial);
        keep(model, &run, &passages(questions, &run.greedy), &partial)
            .and_then(|()| Ok(fs::rename(&partial, path)?))
            .inspect_err(|_| {
                // The first error is the one to tell.
                let _ = fs::remove_file(&partial);
            })
            .map_err(|e| format!("{}: {e}", path.display()))?;
        let kept = Self::read(path, &run.asked, questions, vocabulary)?;
        Ok(Self { tokens_per_second: (tokens > 0).then_some(speed), ..kept })
    }

    /// The logits by which a passage was predicted, `[tokens, vocabulary]`.
    pub(crate) fn logits(&self, passage: usize, tokens: usize) -> Result<Vec<f32>, Box<dyn Error>> {
        let name = format!("passage.{passage}");
        match self.logits.get(&name) {
            Some((Dtype::F32, shape, bytes)) if *shape == [tokens, self.vocabulary] => {
                Ok(bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect())
            }
            found => {
                let found = found.map(|(dtype, shape, _)| format!("{dtype:?} {shape:?}"));
                let expected = format!("F32 [{tokens}, {}]", self.vocabulary);
                let found = found.unwrap_or("none".to_owned());
                Err(format!("{}: `{name}`: expected {expected}, found {found}", self.path.display()).into())
            }
        }
    }
}

/// What a model writes on its own.
pub(crate) fn write(
    model: &Phi3,
    questions: &Questions<'_>,
    temperature: Option<f32>,
    name: &str,
) -> Result<Vec<Written>, Box<dyn Error>> {
    let bar = stage(questions.prompts.len() as u64, format!("generating {name}"));
    let texts = questions.prompts.iter().enumerate().map(|(i, prompt)| {
        let mut margins = Vec::new();
        let generation = questions
            .generator(i, temperature)
            .generate(model, &prompt.input_ids, |step| {
                margins.push(qins_eval::token_match::margin(step.logits));
                std::ops::ControlFlow::Continue(())
            })
            .map_err(|e| format!("prompt `{}`: {e}", prompt.id))?;
        bar.inc(1);
        Ok(Written { ids: generation.ids, margins })
    });
    let texts = texts.collect();
    bar.finish_and_clear();
    texts
}

/// All that is predicted, in the order of the file.
pub(crate) fn passages(questions: &Questions<'_>, greedy: &[Written]) -> Vec<Passage> {
    let texts = questions.prompts.iter().zip(greedy);
    let texts = texts.map(|(prompt, text)| Passage { read: prompt.input_ids.clone(), following: text.ids.clone() });
    let contexts = questions.contexts.iter().flat_map(|(_, passages)| passages);
    texts.chain(questions.windows.iter().chain(contexts).cloned()).collect()
}

fn keep(model: &Phi3, run: &Run, passages: &[Passage], partial: &Path) -> Result<(), Box<dyn Error>> {
    let json = serde_json::to_vec(run)?;
    let mut tensors = vec![TensorSpec { name: "run".to_owned(), dtype: Dtype::U8, shape: vec![json.len()] }];
    for (i, passage) in passages.iter().enumerate() {
        let shape = vec![passage.following.len(), run.vocabulary];
        tensors.push(TensorSpec { name: format!("passage.{i}"), dtype: Dtype::F32, shape });
    }
    let mut file = ShardWriter::create(partial, partial.to_owned(), tensors, Vec::new())?;
    file.write("run", &json)?;
    let bar = stage(passages.len() as u64, "scoring plain".to_owned());
    for (i, passage) in passages.iter().enumerate() {
        let logits = score(model, &passage.read, &passage.following)?;
        let bytes: Vec<u8> = logits.iter().flat_map(|logit| logit.to_le_bytes()).collect();
        file.write(&format!("passage.{i}"), &bytes)?;
        bar.inc(1);
    }
    bar.finish_and_clear();
    file.finish()?;
    Ok(())
}
