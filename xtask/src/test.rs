//! `cargo xtask test`.

use std::process::ExitCode;

use clap::Args;

use crate::{
    cargo::{self, Outcome},
    tidy,
};

/// Run the tests: the house rules, then every test and doctest of the workspace.
#[derive(Debug, Args)]
pub(crate) struct Test {
    /// Run the cross-backend tests on this backend instead: ndarray or wgpu
    #[arg(long, value_parser = ["flex", "ndarray", "wgpu"], default_value = "flex")]
    backend: String,
    /// Passed on to the test programs, after `--`
    #[arg(last = true)]
    arguments: Vec<String>,
}

impl Test {
    pub(crate) fn run(&self) -> Outcome {
        let mut test = cargo::cargo("test");
        test.arg("--manifest-path").arg(cargo::root().join("Cargo.toml"));
        if self.backend == "flex" {
            let tidy = tidy::run()?;
            if tidy != ExitCode::SUCCESS {
                return Ok(tidy);
            }
            test.arg("--workspace");
        } else {
            test.args(["--package", "qins-tests", "--features", &self.backend]).env("QINS_TEST_BACKEND", &self.backend);
        }
        cargo::run(test.arg("--").args(&self.arguments))
    }
}
