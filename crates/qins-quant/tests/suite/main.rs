//! The laws of stored tensors and checkpoints, one module per subject.

mod abandoned;
mod common;
mod convert;
mod draw;
mod encode;
mod fuzz;
mod golden;
mod grouped;
mod linear;
mod refuse_checkpoint;
mod refuse_convert;
mod sqnr;
