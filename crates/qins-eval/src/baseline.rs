//! The plain model's run, kept in a file: what it wrote, and its logits in `f32`, by which every form is compared with it.
//! So no two models need to be in memory together, and a run that was kept need not be made again.
//!
//! The file is in safetensors, with a checksum of each tensor: `run` U8, a JSON object that says what was asked of which
//! model and what was written; and `passage.N` F32 `[tokens, vocabulary]`, the logits by which the tokens of passage N are
//! predicted: first of the greedy texts, then of the text's windows, then after its long contexts.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

use qins_quant::checkpoint::{Dtype, Files, Shard, ShardWriter, TensorSpec};
use serde::{Deserialize, Serialize};

use crate::{
    Error, EvalSet, Progress,
    eval_set::Passage,
    model::{EvalModel, Scoring},
    progress::Stage,
    token_match::margin,
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
    /// Reads a run that was kept, and checks that it is the answer to these eval_set.
    pub(crate) fn read(
        path: &Path,
        asked: &BTreeMap<String, String>,
        eval_set: &EvalSet<'_>,
        vocabulary: usize,
    ) -> Result<Self, Error> {
        let error = |message: String| Error::input(path.display(), message);
        let (folder, file) = (path.parent().unwrap_or(Path::new("")), path.file_name().unwrap_or_default());
        let logits = Shard::open(&Files::Directory(folder.to_owned()), &file.to_string_lossy())?;
        let damaged = logits.names().into_iter().find(|tensor| logits.is_intact(tensor) != Some(true));
        if let Some(tensor) = damaged {
            return Err(error(format!("`{tensor}`: expected the bytes that its checksum was made of")));
        }
        let (.., bytes) =
            logits.get("run").ok_or_else(|| error("expected a baseline, found no tensor `run`".to_owned()))?;
        let run: Run = serde_json::from_slice(bytes).map_err(|e| error(format!("`run`: {e}")))?;
        if run.version != VERSION {
            return Err(error(format!("expected version {VERSION} of a baseline, found {}", run.version)));
        }
        let none = "nothing".to_owned();
        for (key, expected) in asked {
            let found = run.asked.get(key).unwrap_or(&none);
            if found != expected {
                return Err(error(format!("expected a baseline with {key} {expected}, found {found}")));
            }
        }
        // What else is taken for granted where a run is used.
        let prompts = eval_set.prompts.len();
        let expected = (vocabulary, prompts, eval_set.temperature.map_or(0, |_| prompts));
        let found = (run.vocabulary, run.greedy.len(), run.sampled.len());
        if found != expected {
            let what = "a vocabulary, texts and drawn texts";
            return Err(error(format!("`run`: expected {what} of {expected:?}, found {found:?}")));
        }
        let mut ids = run.greedy.iter().chain(&run.sampled).flat_map(|text| &text.ids);
        if let Some(id) = ids.find(|id| **id as usize >= vocabulary) {
            return Err(error(format!("`run`: expected token ids below {vocabulary}, found {id}")));
        }
        let Run { greedy, sampled, .. } = run;
        Ok(Self { greedy, sampled, tokens_per_second: None, vocabulary, logits, path: path.to_owned() })
    }

    /// Runs the plain model, and keeps its run in a file that is there whole or not at all.
    pub(crate) fn make(
        model: &dyn EvalModel,
        eval_set: &EvalSet<'_>,
        asked: BTreeMap<String, String>,
        path: &Path,
        progress: &dyn Progress,
    ) -> Result<Self, Error> {
        let start = Instant::now();
        let greedy = write(model, eval_set, None, "plain", progress)?;
        let tokens: usize = greedy.iter().map(|text| text.ids.len()).sum();
        let speed = tokens as f64 / start.elapsed().as_secs_f64();
        let sampled = match eval_set.temperature {
            None => Vec::new(),
            temperature => write(model, eval_set, temperature, "plain, drawn", progress)?,
        };
        let vocabulary = model.config().vocab_size;
        let run = Run { version: VERSION, asked, vocabulary, greedy, sampled };
        let mut partial = path.as_os_str().to_owned();
        partial.push(".partial");
        let partial = PathBuf::from(partial);
        keep(model, &run, &passages(eval_set, &run.greedy), &partial, progress)
            .and_then(|()| fs::rename(&partial, path).map_err(|source| Error::Io { path: path.to_owned(), source }))
            .inspect_err(|_| {
                // The first error is the one to report.
                let _ = fs::remove_file(&partial);
            })?;
        let kept = Self::read(path, &run.asked, eval_set, vocabulary)?;
        Ok(Self { tokens_per_second: (tokens > 0).then_some(speed), ..kept })
    }

    /// The logits by which a passage was predicted, `[tokens, vocabulary]`.
    pub(crate) fn logits(&self, passage: usize, tokens: usize) -> Result<Vec<f32>, Error> {
        let name = format!("passage.{passage}");
        match self.logits.get(&name) {
            Some((Dtype::F32, shape, bytes)) if *shape == [tokens, self.vocabulary] => {
                Ok(bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect())
            }
            found => {
                let found = found.map(|(dtype, shape, _)| format!("{dtype:?} {shape:?}"));
                let expected = format!("F32 [{tokens}, {}]", self.vocabulary);
                let found = found.unwrap_or("none".to_owned());
                Err(Error::input(self.path.display(), format!("`{name}`: expected {expected}, found {found}")))
            }
        }
    }
}

/// What a model writes on its own.
pub(crate) fn write(
    model: &dyn EvalModel,
    eval_set: &EvalSet<'_>,
    temperature: Option<f32>,
    name: &str,
    progress: &dyn Progress,
) -> Result<Vec<Written>, Error> {
    let stage = Stage::begin(progress, &format!("generating {name}"), eval_set.prompts.len());
    let texts = eval_set.prompts.iter().enumerate().map(|(i, prompt)| {
        let mut margins = Vec::new();
        let ids = model
            .generate(&prompt.input_ids, &eval_set.options(i, temperature), &mut |_, logits| {
                margins.push(margin(logits))
            })
            .map_err(|source| Error::Prompt { id: prompt.id.clone(), source })?;
        stage.step();
        Ok(Written { ids, margins })
    });
    texts.collect()
}

/// All that is predicted, in the order of the file.
pub(crate) fn passages(eval_set: &EvalSet<'_>, greedy: &[Written]) -> Vec<Passage> {
    let texts = eval_set.prompts.iter().zip(greedy);
    let texts =
        texts.map(|(prompt, text)| Passage { context: prompt.input_ids.clone(), continuation: text.ids.clone() });
    let contexts = eval_set.contexts.iter().flat_map(|(_, passages)| passages);
    texts.chain(eval_set.windows.iter().chain(contexts).cloned()).collect()
}

fn keep(
    model: &dyn EvalModel,
    run: &Run,
    passages: &[Passage],
    partial: &Path,
    progress: &dyn Progress,
) -> Result<(), Error> {
    let json = serde_json::to_vec(run).map_err(|e| Error::input(partial.display(), e))?;
    let mut tensors = vec![TensorSpec { name: "run".to_owned(), dtype: Dtype::U8, shape: vec![json.len()] }];
    for (i, passage) in passages.iter().enumerate() {
        let shape = vec![passage.continuation.len(), run.vocabulary];
        tensors.push(TensorSpec { name: format!("passage.{i}"), dtype: Dtype::F32, shape });
    }
    let mut file = ShardWriter::create(partial, partial.to_owned(), tensors, Vec::new())?;
    file.write("run", &json)?;
    let stage = Stage::begin(progress, "scoring plain", passages.len());
    for (i, passage) in passages.iter().enumerate() {
        let logits = model.score(&passage.context, &passage.continuation, Scoring::Batched).map_err(Error::Model)?;
        let bytes: Vec<u8> = logits.iter().flat_map(|logit| logit.to_le_bytes()).collect();
        file.write(&format!("passage.{i}"), &bytes)?;
        stage.step();
    }
    file.finish()?;
    Ok(())
}
