//! Text and conversations to token ids and back.

mod chat;
mod special;
mod stream;
mod tokenizers;
