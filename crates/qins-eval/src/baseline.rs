//! The baseline: the texts that the plain model generated and its logits in `f32`, in a file, for comparison with every variant.
//! So two models are never in memory together, and a baseline that was kept can be read again.
//!
//! The file is in safetensors, with a checksum of each tensor. `run` U8 is a JSON object: the model and inputs it was computed
//! from, and the generated texts. `passage.N` F32 `[tokens, vocabulary]` are the logits that predict the tokens of passage N:
//! first the greedy texts, then the windows of the text, then the long contexts.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Instant,
};

use qins_quant::{
    checkpoint::{Dtype, Files, Shard, ShardWriter, TensorSpec},
    output::{Draft, Output},
};
use serde::{Deserialize, Serialize};

use crate::{
    Error, EvalSet, Progress,
    eval_set::Passage,
    generated::{GeneratedText, generate_texts},
    model::{EvalModel, Scoring},
    progress::Stage,
};

/// The version of the file format.
const VERSION: u32 = 1;

/// The tensor `run`.
#[derive(Debug, Serialize, Deserialize)]
struct Run {
    version: u32,
    /// The model and inputs it was computed from: see [`Evaluation`](crate::Evaluation).
    #[serde(rename = "asked")]
    inputs: BTreeMap<String, String>,
    vocabulary: usize,
    greedy: Vec<GeneratedText>,
    sampled: Vec<GeneratedText>,
    /// The ids of each passage's context and continuation, for other programs.
    #[serde(default)]
    passages: Vec<[Vec<u32>; 2]>,
}

/// The generated texts, and access to the logits.
#[derive(Debug)]
pub(crate) struct Baseline {
    pub(crate) greedy: Vec<GeneratedText>,
    pub(crate) sampled: Vec<GeneratedText>,
    /// Generation speed; `None` when the baseline was read from a file.
    pub(crate) tokens_per_second: Option<f64>,
    pub(crate) vocabulary: usize,
    logits: Shard,
    path: PathBuf,
    /// Holds the file, if the baseline is not kept.
    _scratch: Option<Draft>,
}

impl Baseline {
    /// Reads a kept baseline, and checks that it was computed from these inputs.
    pub(crate) fn read(
        path: &Path,
        inputs: &BTreeMap<String, String>,
        eval_set: &EvalSet<'_>,
        vocabulary: usize,
    ) -> Result<Self, Error> {
        let error = |message: String| Error::input(path.display(), message);
        let (folder, file) = (path.parent().unwrap_or(Path::new("")), path.file_name().unwrap_or_default());
        let (files, file) = (Files::Directory(folder.to_owned()), file.to_string_lossy());
        let names = Shard::names_in(&files, &file)?;
        if !names.iter().any(|name| name == "run") {
            let found = match &names[..] {
                names if names.iter().any(|name| name == "logits") => "the scores that `qins logits` writes".to_owned(),
                names if names.iter().any(|name| name.contains(".weight")) => "a model's weights".to_owned(),
                names => format!("a file of {} other tensors", names.len()),
            };
            return Err(error(format!("expected a baseline that `qins validate` wrote, found {found}")));
        }
        let logits = Shard::open(&files, &file)?;
        let damaged = names.into_iter().find(|tensor| logits.is_intact(tensor) != Some(true));
        if let Some(tensor) = damaged {
            return Err(error(format!("`{tensor}`: expected bytes that match their checksum, found others")));
        }
        let (.., bytes) =
            logits.get("run").ok_or_else(|| error("expected a baseline, found no tensor `run`".to_owned()))?;
        let run: Run = serde_json::from_slice(bytes).map_err(|e| error(format!("`run`: {e}")))?;
        if run.version != VERSION {
            return Err(error(format!("expected version {VERSION} of a baseline, found {}", run.version)));
        }
        let none = "none".to_owned();
        for (key, expected) in inputs {
            let found = run.inputs.get(key).unwrap_or(&none);
            if found != expected {
                return Err(error(format!("expected a baseline with {key} {expected}, found {found}")));
            }
        }
        // The counts and ids that the comparison indexes by.
        let prompts = eval_set.prompts.len();
        let expected = (vocabulary, prompts, eval_set.temperature.map_or(0, |_| prompts));
        let found = (run.vocabulary, run.greedy.len(), run.sampled.len());
        if found != expected {
            let what = "vocabulary size, greedy texts and sampled texts";
            return Err(error(format!("`run`: expected {what} of {expected:?}, found {found:?}")));
        }
        let mut ids = run.greedy.iter().chain(&run.sampled).flat_map(|text| &text.ids);
        if let Some(id) = ids.find(|id| **id as usize >= vocabulary) {
            return Err(error(format!("`run`: expected token ids below {vocabulary}, found {id}")));
        }
        let Run { greedy, sampled, .. } = run;
        let path = path.to_owned();
        Ok(Self { greedy, sampled, tokens_per_second: None, vocabulary, logits, path, _scratch: None })
    }

    /// Runs the plain model and writes the file: to `output`, complete or not at all, or else one that is not kept.
    pub(crate) fn make(
        model: &dyn EvalModel,
        eval_set: &EvalSet<'_>,
        inputs: BTreeMap<String, String>,
        output: Option<Output>,
        progress: &dyn Progress,
    ) -> Result<Self, Error> {
        let start = Instant::now();
        let greedy = generate_texts(model, eval_set, None, "plain", progress)?;
        let tokens: usize = greedy.iter().map(|text| text.ids.len()).sum();
        let speed = tokens as f64 / start.elapsed().as_secs_f64();
        let sampled = match eval_set.temperature {
            None => Vec::new(),
            temperature => generate_texts(model, eval_set, temperature, "plain, sampled", progress)?,
        };
        let vocabulary = model.config().vocab_size;
        let passages = passages(eval_set, &greedy);
        let ids = passages.iter().map(|Passage { context, continuation }| [context.clone(), continuation.clone()]);
        let run = Run { version: VERSION, inputs, vocabulary, greedy, sampled, passages: ids.collect() };
        let draft = output.as_ref().map_or_else(Draft::scratch, Output::draft)?;
        write_file(model, &run, &passages, draft.path(), progress)?;
        let read = |path: &Path| Self::read(path, &run.inputs, eval_set, vocabulary);
        let made = match output {
            Some(output) => {
                let path = output.path().to_owned();
                output.commit(draft)?;
                read(&path)?
            }
            None => {
                let made = read(draft.path())?;
                Self { _scratch: Some(draft), ..made }
            }
        };
        Ok(Self { tokens_per_second: (tokens > 0).then_some(speed), ..made })
    }

    /// The logits that predict the tokens of a passage, `[tokens, vocabulary]` row-major.
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

/// All passages whose tokens are predicted, in the order of the file.
pub(crate) fn passages(eval_set: &EvalSet<'_>, greedy: &[GeneratedText]) -> Vec<Passage> {
    let texts = eval_set.prompts.iter().zip(greedy);
    let texts =
        texts.map(|(prompt, text)| Passage { context: prompt.input_ids.clone(), continuation: text.ids.clone() });
    let contexts = eval_set.contexts.iter().flat_map(|(_, passages)| passages);
    texts.chain(eval_set.windows.iter().chain(contexts).cloned()).collect()
}

fn write_file(
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
        stage.step()?;
    }
    file.finish()?;
    Ok(())
}
