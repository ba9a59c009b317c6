//! The cache without the hub, and a cache that is not what it was.

use std::fs;

use qins_model::hub::{HubError, HubFailure};

use crate::{
    case::{Case, fetch},
    repository::{INDEX, MAIN, NAME, SHARDS, files},
};

const OFFLINE: [(&str, &str); 1] = [("HF_HUB_OFFLINE", "1")];

#[test]
fn without_the_hub_the_cache_will_do() {
    let mut case = Case::new();
    let folder = case.folder();
    let says = [NAME, "refs/main", "unset HF_HUB_OFFLINE", folder.to_str().unwrap()];
    case.fetch_with(NAME, &OFFLINE).refused("offline", &says);
    case.fetch(NAME).done();
    case.server.requests();
    let offline = case.fetch_with(NAME, &OFFLINE);
    assert_eq!(offline.notes, Vec::<String>::new());
    assert_eq!(offline.done().dir, case.snapshot(MAIN));
    assert!(case.server.requests().is_empty());

    let from_cache = format!("using {NAME}@{MAIN} from the cache");
    case.server.misbehave(|_, answer| answer.becomes(503, &[]));
    let busy = case.fetch(NAME);
    assert!(busy.notes.len() == 1 && busy.notes[0].contains(&from_cache), "{:?}", busy.notes);
    assert!(busy.notes[0].contains("503"), "{:?}", busy.notes);
    busy.done();
    case.server.stop();
    let gone = case.fetch(NAME);
    assert!(gone.notes.len() == 1 && gone.notes[0].contains(&from_cache), "{:?}", gone.notes);
    assert_eq!(gone.done().commit, MAIN);
    case.fetch("owner/other").refused("neither", &[&case.server.url, "expected an answer", "cache"]);
    // Half a snapshot is none.
    fs::remove_file(case.snapshot(MAIN).join(SHARDS[2])).unwrap();
    case.fetch(NAME).refused("incomplete", &[SHARDS[2]]);
    case.fetch_with(NAME, &OFFLINE).refused("incomplete", &[SHARDS[2], "unset HF_HUB_OFFLINE"]);
}

#[test]
fn a_truncated_file_is_fetched_again_or_named() {
    for file in ["config.json", INDEX, SHARDS[1]] {
        let case = Case::new();
        case.fetch(NAME).done();
        let blob = case.blob(file);
        let cut = || fs::write(&blob, &files(MAIN)[file][..5]).unwrap();
        cut();
        let path = fs::canonicalize(&blob).unwrap();
        let run = case.fetch_with(NAME, &OFFLINE);
        run.refused(file, &[path.to_str().unwrap(), "expected", "delete it", "unset HF_HUB_OFFLINE"]);
        // The file that is named is the one to delete.
        assert_eq!(case.fetch(NAME).done().transferred, 1, "{file}");
        case.is_whole();
        cut();
        fs::remove_file(&path).unwrap();
        assert_eq!(case.fetch(NAME).done().transferred, 1, "{file}");
        case.is_whole();
        case.fetch_with(NAME, &OFFLINE).done();
    }
}

#[test]
fn weights_that_lost_their_end_are_seen_offline() {
    let case = Case::new();
    case.fetch(NAME).done();
    let content = &files(MAIN)[SHARDS[0]];
    fs::write(case.blob(SHARDS[0]), &content[..content.len() - 1]).unwrap();
    let error = case.fetch_with(NAME, &OFFLINE).result.unwrap_err();
    let HubError::Fetch { cause, .. } = error else { panic!("{error}") };
    let HubFailure::Offline(cause) = *cause else { panic!("{cause}") };
    let HubFailure::Damaged { path, expected, found, .. } = *cause else { panic!("{cause}") };
    assert_eq!(path, case.blob(SHARDS[0]));
    assert_eq!((expected, found), (format!("{} bytes", content.len()), (content.len() - 1).to_string()));
}

#[test]
#[cfg(unix)]
fn a_whole_cache_that_cannot_be_written_to_works() {
    use std::os::unix::fs::PermissionsExt;
    let case = Case::new();
    case.fetch(&format!("{NAME}@{MAIN}")).done();
    // Where `refs` should be, nothing can be: even one who may write anywhere cannot.
    let refs = case.folder().join("refs");
    assert!(!refs.exists());
    fs::write(&refs, "").unwrap();
    let every = || {
        let mut found = vec![case.cache()];
        let mut next = 0;
        while next < found.len() {
            let entries = fs::read_dir(&found[next]).unwrap().map(|entry| entry.unwrap());
            found.extend(entries.filter(|entry| entry.file_type().unwrap().is_dir()).map(|entry| entry.path()));
            next += 1;
        }
        found
    };
    let set =
        |mode: u32| every().iter().for_each(|d| fs::set_permissions(d, fs::Permissions::from_mode(mode)).unwrap());
    set(0o555);
    let run = case.fetch(NAME);
    set(0o755);
    assert!(run.notes.len() == 1 && run.notes[0].contains("refs/main"), "{:?}", run.notes);
    assert_eq!(run.done().transferred, 0);
    case.is_whole();
}

#[test]
fn a_cache_in_which_nothing_can_be_made_is_named() {
    let case = Case::new();
    fs::create_dir_all(case.home.path().join("hf")).unwrap();
    fs::write(case.cache(), "a file").unwrap();
    fetch(case.hub(), NAME).refused("no folder", &["config.json", case.cache().to_str().unwrap()]);
}
