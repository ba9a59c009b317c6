//! A model with its tokenizer.

use std::sync::OnceLock;

use burn::tensor::Device;
use qins_model::{
    Message, ModelConfig, ModelSource, Policy, Sampler, Targets, TextReader, check, check_plain, stop_ids,
};
use qins_quant::Recipe;

use crate::{Backend, Error, Session, Tokens, decoder::Decoder, load};

/// A language model with its tokenizer: open it, encode it, generate text.
///
/// Weights are loaded on first use, one matrix at a time: an encoded model is never in memory as plain weights.
///
/// ```
/// use qins_burn::{Model, Scheme};
///
/// # let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/../qins/assets/atlas");
/// let model = Model::open(directory)?.encode(Scheme::Q8)?;
/// let mut text = String::new();
/// for piece in model.stream("The capital of France is")? {
///     text += &piece?;
/// }
/// assert!(text.contains("Paris"), "{text}");
/// # Ok::<(), qins_burn::Error>(())
/// ```
#[derive(Debug)]
pub struct Model {
    source: ModelSource,
    config: ModelConfig,
    reader: TextReader,
    device: Device,
    options: TextOptions,
    decoder: OnceLock<Decoder>,
}

/// How a text is continued.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct TextOptions {
    /// Maximum number of tokens.
    pub max_new_tokens: usize,
    /// Stop tokens; by default those of the model's files.
    pub stop_ids: Vec<u32>,
    /// How each token is chosen; by default greedily.
    pub sampler: Sampler,
}

impl Model {
    /// Opens a model on the default device: a directory in the Hugging Face layout, plain or encoded, or with the feature `hub` a name
    /// on the hub, `owner/name[@revision]`, fetched into its cache once.
    ///
    /// # Errors
    /// When the model does not exist, is not supported, or lacks a tensor or a tokenizer.
    pub fn open(model: impl AsRef<str>) -> Result<Self, Error> {
        Self::from_source(ModelSource::open(model.as_ref())?, &Backend::default().device()?)
    }

    /// As [`open`](Self::open), from open files, on a given device.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn from_source(source: ModelSource, device: &Device) -> Result<Self, Error> {
        let config = ModelConfig::of(&source.checkpoint)?;
        check(&source.checkpoint, &config)?;
        let files = source.checkpoint.files();
        let (reader, stop_ids) = (TextReader::open(files)?, stop_ids(files, &config)?);
        let options = TextOptions { max_new_tokens: 256, stop_ids, sampler: Sampler::default() };
        Ok(Self { source, config, reader, device: device.clone(), options, decoder: OnceLock::new() })
    }

    /// The model with every linear of its blocks encoded, by a [`Scheme`](crate::Scheme) or a [`Recipe`].
    ///
    /// # Errors
    /// When the checkpoint is already encoded, or a weight cannot be encoded.
    pub fn encode(self, recipe: impl Into<Recipe>) -> Result<Self, Error> {
        self.encode_as(&Policy::new(Targets::All, recipe))
    }

    /// The model encoded by a policy.
    ///
    /// # Errors
    /// As [`encode`](Self::encode), and when the policy matches no linear.
    pub fn encode_as(self, policy: &Policy) -> Result<Self, Error> {
        check_plain(&self.source.checkpoint, &self.config)?;
        policy.check(&self.config)?;
        let decoder = load(&self.source.checkpoint, Some(policy), &self.device, |_, _| {})?.model;
        Ok(Self { decoder: decoder.into(), ..self })
    }

    /// Its shapes and limits.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// Its tokenizer and chat template.
    pub fn reader(&self) -> &TextReader {
        &self.reader
    }

    /// The options of generation.
    pub fn options(&self) -> &TextOptions {
        &self.options
    }

    /// The options of generation, mutable.
    pub fn options_mut(&mut self) -> &mut TextOptions {
        &mut self.options
    }

    /// The decoder, which works on token ids; loaded on the first call.
    ///
    /// # Errors
    /// When the weights cannot be read.
    pub fn decoder(&self) -> Result<&Decoder, Error> {
        if let Some(decoder) = self.decoder.get() {
            return Ok(decoder);
        }
        let loaded = load(&self.source.checkpoint, None, &self.device, |_, _| {})?.model;
        Ok(self.decoder.get_or_init(|| loaded))
    }

    /// Continues a text, as a stream of pieces.
    ///
    /// # Errors
    /// When the model has no tokenizer, the prompt is empty or longer than its context, or the weights cannot be read.
    pub fn stream(&self, prompt: &str) -> Result<TextStream<'_>, Error> {
        let ids = self.reader.encode(prompt)?;
        self.stream_ids(&ids, &ids)
    }

    /// Answers a conversation, rendered by the model's chat template.
    ///
    /// # Errors
    /// As [`stream`](Self::stream), and when the template rejects the messages.
    pub fn chat(&self, messages: &[Message]) -> Result<TextStream<'_>, Error> {
        self.stream_ids(&self.reader.encode_chat(messages)?, &[])
    }

    /// Continues a prompt; the text follows that of `before`.
    fn stream_ids(&self, prompt: &[u32], before: &[u32]) -> Result<TextStream<'_>, Error> {
        let TextOptions { max_new_tokens, stop_ids, sampler } = self.options.clone();
        let session = Session::new(self.decoder()?, prompt.len() + max_new_tokens.min(1024));
        let tokens = Tokens::new(session, prompt, max_new_tokens, stop_ids, sampler)?;
        Ok(TextStream { tokens, text: Some(self.reader.tokenizer()?.stream(before, false)?) })
    }
}

/// A text in generation: each item is the text that a token adds, in whole characters; none is empty.
#[derive(Debug)]
pub struct TextStream<'m> {
    tokens: Tokens<'m, Session<'m>>,
    /// `None` after the end.
    text: Option<qins_model::TextStream<'m>>,
}

impl Iterator for TextStream<'_> {
    type Item = Result<String, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        while let Some(text) = &mut self.text {
            let piece = match self.tokens.next() {
                Some(token) => token.and_then(|token| Ok(text.push(token.id)?)),
                None => Ok(self.text.take()?.finish()),
            };
            match piece {
                Ok(piece) if piece.is_empty() => {}
                Ok(piece) => return Some(Ok(piece)),
                Err(error) => {
                    self.text = None;
                    return Some(Err(error));
                }
            }
        }
        None
    }
}
