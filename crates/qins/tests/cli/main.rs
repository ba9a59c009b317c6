//! The program `qins`, tested from its command line: output, files, exit codes and errors.

mod attacks;
mod baseline;
mod bench;
mod chat;
mod common;
mod convert;
mod criteria;
mod decode;
mod doctor;
mod export;
mod generate;
mod help;
mod hub;
mod importance;
#[cfg(unix)]
mod interrupted;
mod invalid_config;
mod invalid_input;
mod invalid_weights;
#[cfg(unix)]
mod killed;
mod logits;
mod model_files;
mod numbers;
#[cfg(unix)]
mod outputs;
mod policies;
mod prompts;
mod stored;
mod sweep;
mod synth;
mod target;
#[cfg(unix)]
mod terminal;
mod text;
mod validate;
mod verify;

// The server that the hub's own tests have: those are the library's.
#[allow(dead_code)]
#[path = "../../../qins-model/tests/hub/repository.rs"]
mod repository;
#[allow(dead_code)]
#[path = "../../../qins-model/tests/hub/server.rs"]
mod server;
