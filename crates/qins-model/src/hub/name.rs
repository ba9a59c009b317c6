//! What a model on the hub is called.

use std::{fmt, str::FromStr};

use super::settings::redacted;

/// A model on the hub: `owner/name`, or `owner/name@revision` with a branch, a tag or a commit.
///
/// ```
/// use qins_model::HubName;
///
/// let name: HubName = "owner/name@v1".parse()?;
/// assert_eq!((name.repository(), name.revision()), ("owner/name".to_owned(), "v1"));
/// assert!("gpt2".parse::<HubName>().is_err());
/// # Ok::<(), qins_model::NameError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HubName {
    owner: String,
    name: String,
    revision: Option<String>,
}

/// A text that is no model's name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected a model on the hub, `owner/name` or `owner/name@revision`, found {found:?}, {problem}")]
#[non_exhaustive]
pub struct NameError {
    /// The text; a URL without its password.
    pub found: String,
    /// What is wrong with it.
    pub problem: NameProblem,
}

/// What is wrong with a name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameProblem {
    /// It is a URL.
    #[error("which is a URL: name the owner and the model alone")]
    Url,
    /// It is what a file is called.
    #[error("which is what a file is called")]
    File,
    /// It has no `/`.
    #[error("which has no owner")]
    NoOwner,
    /// It has more than one `/` before the revision.
    #[error("which has more than one `/`")]
    Parts,
    /// The owner or the model's own name cannot be one.
    #[error(
        "where {0:?} is not 1 to 96 of the characters A-Z a-z 0-9 - _ . with one of A-Z a-z 0-9 _ at its ends, and no `--` or `..`"
    )]
    Part(String),
    /// What follows the `@` is no branch, tag or commit.
    #[error("where {0:?} cannot be a branch, tag or commit")]
    Revision(String),
}

impl HubName {
    /// The name without a revision, `owner/name`.
    pub fn repository(&self) -> String {
        format!("{}/{}", self.owner, self.name)
    }

    /// The branch, tag or commit: `main` where none was named.
    pub fn revision(&self) -> &str {
        self.revision.as_deref().unwrap_or("main")
    }

    pub(super) fn owner(&self) -> &str {
        &self.owner
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Display for HubName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.owner, self.name)?;
        self.revision.iter().try_for_each(|revision| write!(f, "@{revision}"))
    }
}

impl FromStr for HubName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        parse(text).map_err(|problem| NameError { found: redacted(text), problem })
    }
}

fn parse(text: &str) -> Result<HubName, NameProblem> {
    if text.contains("://") {
        return Err(NameProblem::Url);
    }
    let (repository, revision) = match text.split_once('@') {
        Some((repository, revision)) => (repository, Some(revision)),
        None => (text, None),
    };
    let Some((owner, name)) = repository.split_once('/') else {
        let is_file = [".gguf", ".safetensors", ".json", ".bin"].iter().any(|suffix| text.ends_with(suffix));
        return Err(if is_file { NameProblem::File } else { NameProblem::NoOwner });
    };
    if name.contains('/') {
        return Err(NameProblem::Parts);
    }
    let is_part = |part: &str| is_plain(part) && !part.contains("--") && !part.ends_with(['.', '-']);
    if let Some(part) = [owner, name].into_iter().find(|part| !is_part(part)) {
        return Err(NameProblem::Part(part.to_owned()));
    }
    if let Some(revision) = revision.filter(|revision| !revision.split('/').all(is_plain)) {
        return Err(NameProblem::Revision(revision.to_owned()));
    }
    Ok(HubName { owner: owner.to_owned(), name: name.to_owned(), revision: revision.map(str::to_owned) })
}

/// Whether a text can be a file's name and a piece of a URL as it is, and leads nowhere else.
pub(super) fn is_plain(text: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    (1..=96).contains(&text.len()) && text.chars().all(fits) && !text.starts_with(['.', '-']) && !text.contains("..")
}

pub(super) fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.chars().all(|c| matches!(c, '0'..='9' | 'a'..='f'))
}
