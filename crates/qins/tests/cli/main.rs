//! The program `qins`, from its command line: what it answers, and how it refuses.

mod baseline;
mod bench;
mod chat;
mod common;
mod convert;
mod decode;
mod doctor;
mod export;
mod forms;
mod generate;
mod help;
mod hub;
mod judged;
#[cfg(unix)]
mod killed;
mod logits;
mod policies;
mod refuse_config;
mod refuse_input;
mod refuse_weights;
mod sweep;
mod synth;
mod target;
mod validate;
mod verify;

// The server that the hub's own tests have: those are the library's.
#[allow(dead_code)]
#[path = "../../../qins-model/tests/hub/repository.rs"]
mod repository;
#[allow(dead_code)]
#[path = "../../../qins-model/tests/hub/server.rs"]
mod server;
