//! `cargo xtask test`.

use std::process::{Command, ExitCode};

use clap::Args;

use crate::{
    cargo::{self, Outcome},
    python, tidy,
};

/// Run the tests: the house rules, then every test and doctest of the workspace.
#[derive(Debug, Args)]
pub(crate) struct Test {
    /// Run the cross-backend tests on this backend instead: ndarray, or wgpu, which needs a graphics card or a software Vulkan driver
    #[arg(long, value_parser = ["flex", "ndarray", "wgpu"], default_value = "flex")]
    backend: String,
    /// Run the tests of the Python package instead, in a virtual environment of their own, with what this needs installed there: numpy (none
    /// but it), torch, transformers or vllm, some 8 GB
    #[arg(long, value_name = "WITH", value_parser = ["numpy", "torch", "transformers", "vllm"], num_args = 0..=1,
          default_missing_value = "vllm", conflicts_with = "backend")]
    python: Option<String>,
    /// Passed on to the test programs, after `--`
    #[arg(last = true)]
    arguments: Vec<String>,
}

impl Test {
    pub(crate) fn run(&self) -> Outcome {
        if let Some(extra) = &self.python {
            return python::test(extra, &self.arguments);
        }
        if self.backend == "flex" { self.everything() } else { self.across_backends() }
    }

    /// On the default backend.
    fn everything(&self) -> Outcome {
        let tidy = tidy::run()?;
        if tidy != ExitCode::SUCCESS {
            return Ok(tidy);
        }
        let tests = cargo::run(self.cargo_test().arg("--workspace").arg("--").args(&self.arguments))?;
        eprintln!(
            "skipped: the GPU tests; `cargo xtask test --backend wgpu` runs them on a graphics card or a software Vulkan driver \
            (Debian's packages libvulkan1 and mesa-vulkan-drivers)"
        );
        Ok(tests)
    }

    /// On another backend, if it is usable.
    fn across_backends(&self) -> Outcome {
        let features = ["--features", &self.backend];
        let mut doctor = cargo::qins();
        let usable = cargo::run(doctor.args(features).args(["--", "doctor", "--backend", &self.backend]))?;
        if usable != ExitCode::SUCCESS {
            return Ok(usable);
        }
        let mut test = self.cargo_test();
        test.args(["--package", "qins-tests"]).args(features).env("QINS_TEST_BACKEND", &self.backend);
        if self.backend == "wgpu" && std::env::var_os("RUST_TEST_THREADS").is_none() {
            // There is one card; and on a software driver, concurrent tests would compete for the processor.
            test.env("RUST_TEST_THREADS", "1");
        }
        cargo::run(test.arg("--").args(&self.arguments))
    }

    fn cargo_test(&self) -> Command {
        let mut test = cargo::cargo("test");
        test.arg("--manifest-path").arg(cargo::root().join("Cargo.toml"));
        test
    }
}
