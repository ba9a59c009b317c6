//! Text and conversations to token ids and back.

mod special;
mod stream;
mod tokenizers;
