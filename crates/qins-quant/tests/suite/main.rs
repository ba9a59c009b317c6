//! The laws of stored tensors and checkpoints, one module per subject.

mod abandoned;
mod coded;
mod common;
mod convert;
mod draw;
mod encode;
mod fuzz;
mod golden;
mod grouped;
mod hostile;
mod kv;
mod linear;
mod refuse_checkpoint;
mod refuse_convert;
mod single;
mod sqnr;
mod there_and_back;
