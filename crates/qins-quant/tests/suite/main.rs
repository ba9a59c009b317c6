//! Tests of stored tensors and checkpoints, one module per subject.

mod abandoned;
mod carried;
mod coded;
mod common;
mod convert;
mod draw;
mod encode;
mod export_verify;
mod feedback;
mod fuzz;
mod golden;
mod grouped;
mod guard;
mod hostile;
mod invalid_checkpoint;
mod invalid_conversion;
mod kv;
mod linear;
#[cfg(unix)]
mod outputs;
mod range;
mod single;
mod sqnr;
