//! Output files: where a path leads, what they replace, and when they are rejected.

use std::{
    fs::{self, File},
    os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::Command,
    thread,
};

use qins_quant::{
    EncodedTensor, Scheme,
    checkpoint::Directory,
    output::{Draft, Output, write},
};

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn file_is_new_or_replaces_another_with_its_mode() {
    let home = tempfile::tempdir().unwrap();
    let path = |name: &str| home.path().join(name);
    File::create(path("made by the system")).unwrap();
    fs::write(path("a"), "old").unwrap();
    fs::write(path("a.partial"), "mine").unwrap();
    set_mode(&path("a"), 0o640);
    let replaced = Output::open(path("a")).unwrap();
    // Nothing changes before the work is done, and nothing lies about meanwhile.
    assert_eq!(fs::read(path("a")).unwrap(), b"old");
    assert_eq!(names(home.path()), ["a", "a.partial", "made by the system"]);
    replaced.write(b"new").unwrap();
    write(path("b"), b"new").unwrap();
    assert_eq!([fs::read(path("a")).unwrap(), fs::read(path("b")).unwrap()], [b"new", b"new"]);
    assert_eq!((mode(&path("a")), mode(&path("b"))), (0o640, mode(&path("made by the system"))));
    assert_eq!(names(home.path()), ["a", "a.partial", "b", "made by the system"]);
    assert_eq!(fs::read(path("a.partial")).unwrap(), b"mine");
    // A reader that has the old file open keeps it: it was replaced, not overwritten.
    let before = fs::metadata(path("a")).unwrap().ino();
    write(path("a"), b"newer").unwrap();
    assert_ne!(before, fs::metadata(path("a")).unwrap().ino());
}

#[test]
fn links_are_followed() {
    let home = tempfile::tempdir().unwrap();
    let path = |name: &str| home.path().join(name);
    fs::create_dir(path("elsewhere")).unwrap();
    fs::write(path("elsewhere/old"), "old").unwrap();
    symlink("elsewhere/old", path("link")).unwrap();
    symlink("link", path("link to a link")).unwrap();
    symlink(path("elsewhere/new"), path("dangling")).unwrap();
    symlink("loop", path("loop")).unwrap();
    for (name, target) in [("link", "old"), ("link to a link", "old"), ("dangling", "new")] {
        let output = Output::open(path(name)).unwrap();
        assert_eq!(output.file().unwrap(), fs::canonicalize(path("elsewhere")).unwrap().join(target));
        output.write(name.as_bytes()).unwrap();
        assert!(path(name).is_symlink());
        assert_eq!(fs::read_to_string(path("elsewhere").join(target)).unwrap(), name);
    }
    assert_eq!(names(&path("elsewhere")), ["new", "old"]);
    assert!(Output::open(path("loop")).is_err());
    // A matrix too.
    let matrix = EncodedTensor::encode(&[0.5_f32, -0.25], [1, 2], Scheme::Q8).unwrap();
    matrix.save(path("link")).unwrap();
    assert!(path("link").is_symlink() && EncodedTensor::load(path("elsewhere/old")).unwrap() == matrix);
}

#[test]
fn devices_and_pipes_are_written_into() {
    let home = tempfile::tempdir().unwrap();
    let path = |name: &str| home.path().join(name);
    // By a link: a mistake would cost the link, not the machine its device.
    symlink("/dev/null", path("null")).unwrap();
    let output = Output::open(path("null")).unwrap();
    assert_eq!(output.file(), None);
    output.write(b"content").unwrap();
    assert!(fs::metadata("/dev/null").unwrap().file_type().is_char_device() && path("null").is_symlink());
    assert!(Command::new("mkfifo").arg(path("pipe")).status().unwrap().success());
    let pipe = path("pipe");
    let reader = thread::spawn(move || fs::read(pipe).unwrap());
    write(path("pipe"), b"content").unwrap();
    assert_eq!(reader.join().unwrap(), b"content");
    // What is written in pieces, and not in order, is made elsewhere first.
    let matrix = EncodedTensor::encode(&[0.5_f32, -0.25], [1, 2], Scheme::Q8).unwrap();
    matrix.save(path("file")).unwrap();
    let pipe = path("pipe");
    let reader = thread::spawn(move || fs::read(pipe).unwrap());
    matrix.save(path("pipe")).unwrap();
    assert!(reader.join().unwrap() == fs::read(path("file")).unwrap());
    assert!(fs::metadata(path("pipe")).unwrap().file_type().is_fifo());
    assert_eq!(names(home.path()), ["file", "null", "pipe"]);
}

#[test]
fn path_that_cannot_be_written_is_rejected_when_opened() {
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join("file"), "mine").unwrap();
    for (path, message) in [
        (".", "expected a file to write to, found a directory"),
        ("none/file", "expected a directory to write into, found none"),
        ("file/file", "expected a directory to write into, found none"),
        ("none/..", "expected the name of a file, found none"),
    ] {
        let error = Output::open(home.path().join(path)).unwrap_err().to_string();
        assert!(error.contains(message), "{path}: {error}");
    }
    assert_eq!(names(home.path()), ["file"]);
}

#[test]
fn many_writers_of_one_file_all_succeed() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("file");
    let content = |i: usize| vec![b'a' + i as u8; 100_000];
    thread::scope(|scope| {
        for i in 0..4 {
            let path = &path;
            scope.spawn(move || (0..8).for_each(|_| write(path, &content(i)).unwrap()));
        }
    });
    let found = fs::read(&path).unwrap();
    assert!((0..4).any(|i| found == content(i)));
    assert_eq!(names(home.path()), ["file"]);
}

#[test]
fn draft_is_removed_when_dropped() {
    let home = tempfile::tempdir().unwrap();
    let output = Output::open(home.path().join("file")).unwrap();
    let draft = output.draft().unwrap();
    fs::write(draft.path(), "begun").unwrap();
    assert_eq!(names(home.path()).len(), 1);
    drop(draft);
    assert!(names(home.path()).is_empty());
    let scratch = Draft::scratch().unwrap();
    let path = scratch.path().to_owned();
    fs::write(&path, "begun").unwrap();
    drop(scratch);
    assert!(!path.exists());
}

/// A directory that is complete.
fn fill(path: &Path) -> Result<(), qins_quant::Error> {
    let directory = Directory::create(path)?;
    directory.write("config.json", b"{}")?;
    directory.write("folder/a", b"a")?;
    directory.write("z", b"z")?;
    directory.commit()
}

#[test]
fn empty_directory_keeps_its_place_and_mode() {
    let home = tempfile::tempdir().unwrap();
    let path = |name: &str| home.path().join(name);
    let filled = ["config.json", "folder", "z"];
    let empty = |name: &str| -> PathBuf {
        fs::create_dir(path(name)).unwrap();
        set_mode(&path(name), 0o2770);
        path(name)
    };
    symlink(empty("real"), path("link")).unwrap();
    symlink("not yet", path("dangling")).unwrap();
    for (given, real) in [("real-2", "real-2"), ("link", "real"), ("dangling", "not yet"), ("new/deep", "new/deep")] {
        let is_empty = given == "link" || given == "real-2";
        let inode = (given == "real-2").then(|| empty(given)).is_some() || given == "link";
        let before = inode.then(|| fs::metadata(path(real)).unwrap().ino());
        fill(&path(given)).unwrap();
        assert_eq!(names(&path(real)), filled, "{given}");
        assert_eq!(fs::read(path(real).join("folder/a")).unwrap(), b"a");
        if is_empty {
            assert_eq!((mode(&path(real)), Some(fs::metadata(path(real)).unwrap().ino())), (0o2770, before), "{given}");
        }
        assert!(fill(&path(given)).unwrap_err().to_string().contains("found one with files in it"), "{given}");
        assert_eq!(names(&path(real)), filled, "{given}");
    }
    assert!(path("link").is_symlink() && path("dangling").is_symlink());
    assert_eq!(names(home.path()), ["dangling", "link", "new", "not yet", "real", "real-2"]);
}

#[test]
fn directory_is_checked_first_and_filled_whole_or_not_at_all() {
    let home = tempfile::tempdir().unwrap();
    let path = |name: &str| home.path().join(name);
    fs::write(path("file"), "mine").unwrap();
    for (name, message) in
        [("file", "Not a directory"), ("file/new", "Not a directory"), ("none/..", "expected the name")]
    {
        let error = Directory::check(&path(name)).unwrap_err().to_string();
        assert!(error.contains(message), "{name}: {error}");
    }
    fs::create_dir(path("empty")).unwrap();
    Directory::check(&path("empty")).unwrap();
    Directory::check(&path("new/out")).unwrap();
    // Files that appear meanwhile stay, and nothing is added to them.
    for name in ["empty", "new"] {
        let directory = Directory::create(&path(name)).unwrap();
        directory.write("config.json", b"{}").unwrap();
        fs::create_dir_all(path(name)).unwrap();
        fs::write(path(name).join("mine"), "mine").unwrap();
        assert!(directory.commit().is_err(), "{name}");
        assert_eq!(names(&path(name)), ["mine"]);
    }
    // One builder at a time in an empty directory.
    fs::create_dir(path("shared")).unwrap();
    let first = Directory::create(&path("shared")).unwrap();
    assert!(Directory::create(&path("shared")).is_err());
    first.write("config.json", b"{}").unwrap();
    first.commit().unwrap();
    assert_eq!(names(&path("shared")), ["config.json"]);
    // A name that leads out of it.
    let directory = Directory::create(&path("out")).unwrap();
    for name in ["../escaped", "/tmp/escaped", "", ".."] {
        assert!(directory.write(name, b"x").is_err(), "{name}");
    }
    drop(directory);
    assert_eq!(names(home.path()), ["empty", "file", "new", "shared"]);
}
