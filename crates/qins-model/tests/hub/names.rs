//! What a model on the hub is called, and what is said of texts that are none.

use std::path::{Path, PathBuf};

use qins_model::hub::{HubName, ModelLocation, NameProblem};

#[test]
fn names_are_read_and_written_as_they_are() {
    for (text, repository, revision) in [
        ("owner/name", "owner/name", "main"),
        ("microsoft/Phi-3.5-mini-instruct@v1.0", "microsoft/Phi-3.5-mini-instruct", "v1.0"),
        ("o/n_x@refs/pr/7", "o/n_x", "refs/pr/7"),
    ] {
        let name: HubName = text.parse().unwrap();
        assert_eq!(
            (name.repository().as_str(), name.revision(), name.to_string().as_str()),
            (repository, revision, text)
        );
    }
}

#[test]
fn what_is_no_name_is_told_what_one_looks_like() {
    use NameProblem::*;
    let part = |text: &str| Part(text.to_owned());
    for (text, problem) in [
        ("gpt2", NoOwner),
        ("", NoOwner),
        ("https://huggingface.co/owner/name", Url),
        ("https://user:secret@huggingface.co/owner/name", Url),
        ("x.gguf", File),
        ("model.safetensors", File),
        ("a/b/c", Parts),
        ("/owner/name", Parts),
        ("owner/", part("")),
        ("owner/na me", part("na me")),
        ("../name", part("..")),
        ("./name", part(".")),
        ("owner/na--me", part("na--me")),
        ("owner/name.", part("name.")),
        ("owner/name@a b", Revision("a b".to_owned())),
        ("owner/name@../x", Revision("../x".to_owned())),
        ("owner/name@", Revision(String::new())),
        ("owner/name@a@b", Revision("a@b".to_owned())),
        (&format!("owner/{}", "n".repeat(97)), part(&"n".repeat(97))),
    ] {
        let error = text.parse::<HubName>().unwrap_err();
        assert_eq!(error.problem, problem, "{text}");
        let says = error.to_string();
        assert!(
            says.starts_with("expected a model on the hub, `owner/name` or `owner/name@revision`, found "),
            "{says}"
        );
        assert!(!says.contains("secret") && !says.contains('\n'), "{says}");
    }
}

#[test]
fn what_exists_is_a_path_and_what_is_neither_is_told_both() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("weights.gguf");
    std::fs::write(&path, "").unwrap();
    assert_eq!(ModelLocation::of(&path), Ok(ModelLocation::Path(path)));
    assert_eq!(ModelLocation::of(home.path()), Ok(ModelLocation::Path(home.path().to_owned())));
    let name = ModelLocation::of(Path::new("owner/name@v1"));
    assert_eq!(name, Ok(ModelLocation::Hub("owner/name@v1".parse().unwrap())));
    for text in ["gpt2", "x.gguf", "owner/name@a b", "/nowhere/at/all", "https://huggingface.co/owner/name"] {
        let error = ModelLocation::of(Path::new(text)).unwrap_err();
        assert_eq!(error.path, PathBuf::from(text));
        let says = error.to_string();
        assert!(
            says.starts_with(&format!("{text}: no such file or directory, and no model on the hub: expected a model")),
            "{says}"
        );
    }
}
