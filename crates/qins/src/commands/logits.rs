//! `qins logits`.

use std::{collections::HashMap, error::Error, path::PathBuf, process::ExitCode};

use clap::Args;
use qins_burn::scores;
use qins_eval::read_text;
use qins_model::TextReader;
use safetensors::{Dtype, tensor::TensorView};
use serde_json::json;

use crate::{
    Outcome,
    args::{VariantArgs, prompt_text},
    output::Outputs,
};

/// Write a model's logits after each token of a text, so that metrics can be recomputed with other tools.
///
/// The file is in safetensors: `input_ids` I64 `[n]`, and `logits` F32 `[n, vocabulary]`; row i has the logits of the token after
/// tokens 0 to i. All tokens are computed in one forward pass. A text gets the special tokens that the model's tokenizer puts around
/// texts, such as `<s>`, unless --no-special-tokens is given. The metadata entry `qins_logits` names the
/// model and its variant, in JSON.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  qins logits --prompt \"The capital of France is Paris.\" --out plain.safetensors
  qins logits --text FILE --scheme q4 --targets all --out q4.safetensors
  python3 -c 'from safetensors.numpy import load_file; print(load_file(\"q4.safetensors\")[\"logits\"].shape)'")]
pub(crate) struct WriteLogits {
    #[command(flatten)]
    variant: VariantArgs,
    #[command(flatten)]
    input: Input,
    /// Add no special token to the text; those written in it are still recognised
    #[arg(long, conflicts_with = "prompt_ids")]
    no_special_tokens: bool,
    /// Use only the first N tokens
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    tokens: Option<u32>,
    /// The file to write; `-` is standard output
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Input {
    /// The text, `-` for standard input; special tokens may be written out
    #[arg(long, value_name = "TEXT")]
    prompt: Option<String>,
    /// The token ids, separated by commas
    #[arg(long, value_name = "IDS", value_delimiter = ',')]
    prompt_ids: Option<Vec<u32>>,
    /// A text file, `-` for standard input
    #[arg(long, value_name = "FILE")]
    text: Option<PathBuf>,
}

impl Input {
    fn read(self, reader: &TextReader, added: bool) -> Result<Vec<u32>, Box<dyn Error>> {
        match self {
            Self { prompt: Some(text), .. } => Ok(reader.tokenizer()?.encode(&prompt_text(text)?, added)?),
            Self { prompt_ids: Some(ids), .. } => Ok(ids),
            Self { text: Some(path), .. } => {
                let (_, text) = read_text(&path)?;
                Ok(reader.tokenizer()?.encode(&text, added)?)
            }
            _ => Err("expected a text".into()),
        }
    }
}

impl WriteLogits {
    pub(crate) fn run(self) -> Outcome {
        let mut outputs = Outputs::default()
            .reads("--text", self.input.text.as_deref())
            .reads("--calibrate", self.variant.calibrate());
        let out = outputs.open("--out", &self.out)?;
        let (source, recipe) = self.variant.open()?;
        outputs.expect_apart(&source)?;
        let variant = self.variant.name(recipe.as_ref());
        let mut ids = self.input.read(&TextReader::open(source.checkpoint.files())?, !self.no_special_tokens)?;
        ids.truncate(self.tokens.map_or(usize::MAX, |n| n as usize));
        let model = self.variant.load(&source, recipe)?.model;
        let logits = scores(&model, &ids)?;

        let shape = [ids.len(), model.config().vocab_size];
        let ids: Vec<u8> = ids.iter().flat_map(|id| i64::from(*id).to_le_bytes()).collect();
        let logits: Vec<u8> = logits.iter().flat_map(|logit| logit.to_le_bytes()).collect();
        let tensors = [
            ("input_ids", TensorView::new(Dtype::I64, vec![shape[0]], &ids)?),
            ("logits", TensorView::new(Dtype::F32, shape.to_vec(), &logits)?),
        ];
        // One entry: of several, the order in the file would be another in each run.
        let made = json!({ "qins": env!("CARGO_PKG_VERSION"), "model": source.name, "variant": variant });
        let metadata = HashMap::from([("qins_logits".to_owned(), made.to_string())]);
        let file = safetensors::serialize(tensors, Some(metadata))?;
        out.write(&file)?;
        Ok(ExitCode::SUCCESS)
    }
}
