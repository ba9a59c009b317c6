//! The program `qins`, from its command line: what it answers, and how it refuses.

mod common;
mod convert;
mod generate;
mod help;
mod refuse_config;
mod refuse_input;
mod refuse_weights;
mod validate;
