//! The files that a command writes: each apart from every file that it reads, and from each other.

use std::{
    error::Error,
    fs,
    path::{Path, PathBuf},
};

use qins_model::ModelSource;
use qins_quant::{checkpoint::Files, output::Output};

/// Whether a path stands for standard output.
pub(crate) fn is_stdout(path: &Path) -> bool {
    path == Path::new("-")
}

/// A file to write; `-` is standard output.
///
/// # Errors
/// As [`Output::open`].
pub(crate) fn open(path: &Path) -> Result<Output, qins_quant::Error> {
    if is_stdout(path) { Output::stdout() } else { Output::open(path) }
}

/// What a command reads and writes.
#[derive(Default)]
pub(crate) struct Outputs {
    /// The option or model that names each file, and the file.
    inputs: Vec<(String, PathBuf)>,
    /// The same of what is written.
    outputs: Vec<(String, PathBuf)>,
}

impl Outputs {
    /// A file that the command reads. Inputs come before outputs.
    pub(crate) fn reads(mut self, option: &str, path: Option<&Path>) -> Self {
        self.inputs.extend(path.map(|path| (option.to_owned(), path.to_owned())));
        self
    }

    /// Opens a file to write, before the work whose result it is for.
    pub(crate) fn open(&mut self, option: &str, path: &Path) -> Result<Output, Box<dyn Error>> {
        let output = open(path)?;
        // A device or a pipe may be several things at once.
        if let Some(file) = output.file() {
            if let Some((other, _)) = self.inputs.iter().find(|(_, input)| is_same(input, &file)) {
                return Err(taken(path, &format!("the file of {other}")).into());
            }
            if let Some((other, _)) = self.outputs.iter().find(|(_, found)| *found == file || is_same(found, &file)) {
                return Err(taken(path, &format!("the file of {other}")).into());
            }
            self.outputs.push((option.to_owned(), file));
        }
        Ok(output)
    }

    /// As [`open`](Self::open), for a file of a report: of others, only an earlier report is replaced.
    pub(crate) fn open_report(&mut self, option: &str, path: &Path) -> Result<Output, Box<dyn Error>> {
        let output = self.open(option, path)?;
        let has_content = |file: &PathBuf| fs::metadata(file).is_ok_and(|found| found.is_file() && found.len() > 0);
        match output.file().filter(has_content) {
            Some(file) if !is_of_report(&file) => {
                Err(format!("{}: expected a new file or an earlier report, found another file", path.display()).into())
            }
            _ => Ok(output),
        }
    }

    /// Checks that no output is a file of a model's directory; an earlier report of this program may be replaced there.
    pub(crate) fn expect_apart(&self, model: &ModelSource) -> Result<(), String> {
        let Files::Directory(dir) = model.checkpoint.files() else { return Ok(()) };
        let files = files(dir, 2);
        for (_, output) in &self.outputs {
            if files.iter().any(|file| is_same(file, output)) && !is_of_report(output) {
                return Err(taken(output, &format!("a file of the model {}", model.name)));
            }
        }
        Ok(())
    }
}

fn taken(path: &Path, found: &str) -> String {
    format!("{}: expected a file of its own to write, found {found}", path.display())
}

/// Whether two paths are one regular file.
#[cfg(unix)]
fn is_same(a: &Path, b: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;

    let identity =
        |path: &Path| fs::metadata(path).ok().filter(fs::Metadata::is_file).map(|file| (file.dev(), file.ino()));
    identity(a).is_some_and(|a| identity(b) == Some(a))
}

#[cfg(not(unix))]
fn is_same(a: &Path, b: &Path) -> bool {
    a.is_file() && fs::canonicalize(a).is_ok_and(|a| fs::canonicalize(b).is_ok_and(|b| a == b))
}

/// The files of a directory, and of those in it, so many levels deep.
fn files(dir: &Path, levels: usize) -> Vec<PathBuf> {
    let paths = fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    let (dirs, mut found): (Vec<PathBuf>, Vec<PathBuf>) = paths.partition(|path| path.is_dir());
    if levels > 1 {
        found.extend(dirs.iter().flat_map(|dir| files(dir, levels - 1)));
    }
    found
}

/// Whether a file is a report of this program, or the page or summary beside one.
fn is_of_report(path: &Path) -> bool {
    let read = || serde_json::from_slice::<serde_json::Value>(&fs::read(path.with_extension("json")).ok()?).ok();
    let is_named_so = ["json", "html", "md"].iter().any(|end| path.extension().is_some_and(|found| found == *end));
    is_named_so && read().is_some_and(|json| json["report_version"].is_u64())
}
