//! `cargo xtask tidy`: checks the layering and the house rules.

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use serde_json::Value;

use crate::cargo::{self, Outcome};

/// Which of the workspace's crates a crate may depend on. Nothing points the other way.
const LAYERS: [(&str, &[&str]); 13] = [
    ("qins-codec", &[]),
    ("codec-no-std", &["qins-codec"]),
    ("qins-quant", &["qins-codec"]),
    ("qins-model", &["qins-quant"]),
    ("qins-py", &["qins-model", "qins-quant"]),
    ("qins-burn", &["qins-model", "qins-quant"]),
    ("qins-eval", &["qins-burn", "qins-model", "qins-quant"]),
    ("qins", &["qins-burn", "qins-eval", "qins-model", "qins-quant"]),
    ("qins-bench-kernels", &["qins-quant"]),
    ("qins-bench-quality", &["qins-quant"]),
    ("qins-bench-speed", &[]),
    ("qins-tests", &["qins-burn", "qins-eval", "qins-model", "qins-quant"]),
    ("xtask", &[]),
];

/// Where `unsafe` is allowed, each use with its reason: kernels, the one place that maps a file, the test that maps memory
/// that cannot be read, and the fault that fuzzing must find.
const UNSAFE: [&str; 5] = [
    "crates/qins-quant/src/kernel/",
    "crates/qins-burn/src/kernel/",
    "crates/qins-quant/src/checkpoint/files.rs",
    "crates/qins-quant/tests/suite/guard.rs",
    "fuzz/targets/control.rs",
];

/// The maximum length of a file in lines.
const LONGEST: usize = 400;

/// Runs every check; prints what it finds.
pub(crate) fn run() -> Outcome {
    let mut findings = layering(&packages()?);
    for path in sources(&cargo::root()).map_err(|e| e.to_string())? {
        let text = fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        let name = path.strip_prefix(cargo::root()).unwrap_or(&path).to_string_lossy().replace('\\', "/");
        findings.extend(house_rules(&name, &text));
    }
    for finding in &findings {
        println!("tidy: {finding}");
    }
    if findings.is_empty() { Ok(ExitCode::SUCCESS) } else { Ok(ExitCode::from(1)) }
}

fn packages() -> Result<Value, String> {
    let mut metadata = cargo::cargo("metadata");
    metadata.args(["--no-deps", "--format-version", "1"]).arg("--manifest-path").arg(cargo::root().join("Cargo.toml"));
    let output = metadata.output().map_err(|e| format!("cargo metadata: {e}"))?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    serde_json::from_slice(&output.stdout).map_err(|e| format!("cargo metadata: {e}"))
}

fn layering(metadata: &Value) -> Vec<String> {
    let empty = Vec::new();
    let list = |value: &Value| value.as_array().unwrap_or(&empty).clone();
    let mut findings = Vec::new();
    for package in list(&metadata["packages"]) {
        let name = package["name"].as_str().unwrap_or_default();
        let Some((_, allowed)) = LAYERS.iter().find(|(n, _)| *n == name) else {
            findings.push(format!("{name}: not in the list of layers"));
            continue;
        };
        for dependency in list(&package["dependencies"]) {
            let dependency_name = dependency["name"].as_str().unwrap_or_default();
            let ours = LAYERS.iter().any(|(n, _)| *n == dependency_name);
            if ours && !allowed.contains(&dependency_name) {
                findings.push(format!("{name}: may not depend on {dependency_name}"));
            }
        }
    }
    findings
}

fn house_rules(name: &str, text: &str) -> Vec<String> {
    let mut findings = Vec::new();
    let lines = text.lines().count();
    if lines > LONGEST {
        findings.push(format!("{name}: {lines} lines, more than {LONGEST}"));
    }
    // Split, so that this file does not match itself.
    let forbidden =
        [concat!("todo", "!("), concat!("unimplemented", "!("), concat!("dbg", "!("), concat!("#[ign", "ore]")];
    let may_be_unsafe = UNSAFE.iter().any(|place| name.starts_with(place));
    for (number, line) in text.lines().enumerate() {
        let code = line.split("//").next().unwrap_or_default();
        for word in forbidden.iter().filter(|word| code.contains(**word)) {
            findings.push(format!("{name}:{}: `{word}`", number + 1));
        }
        if !may_be_unsafe && (code.contains(concat!("unsafe", " {")) || code.contains(concat!("unsafe", " fn"))) {
            findings.push(format!("{name}:{}: `unsafe` outside the files that may have it", number + 1));
        }
    }
    findings
}

/// Every Rust file of the workspace.
fn sources(dir: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            found.extend(sources(&path)?);
        } else if name.ends_with(".rs") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn forbidden_dependency_is_found() {
        let package = |name: &str, dependency: &str| json!({ "name": name, "dependencies": [{ "name": dependency }] });
        let metadata = |p: Value| json!({ "packages": [p] });
        assert_eq!(layering(&metadata(package("qins-quant", "qins-codec"))), Vec::<String>::new());
        assert_eq!(
            layering(&metadata(package("qins-quant", "qins-burn"))),
            ["qins-quant: may not depend on qins-burn"]
        );
        assert_eq!(layering(&metadata(package("qins-new", "serde"))), ["qins-new: not in the list of layers"]);
    }

    #[test]
    fn house_rules_find_each_violation() {
        assert!(house_rules("crates/qins-eval/src/lib.rs", "fn f() {}\n").is_empty());
        for line in [concat!("todo", "!()"), concat!("#[ign", "ore]"), concat!("unsafe", " { x }")] {
            assert_eq!(house_rules("crates/qins-eval/src/lib.rs", line).len(), 1, "{line}");
        }
        assert!(house_rules("crates/qins-quant/src/kernel/linear.rs", concat!("unsafe", " { x }")).is_empty());
        assert_eq!(house_rules("a.rs", &"\n".repeat(LONGEST + 1)).len(), 1);
    }
}
