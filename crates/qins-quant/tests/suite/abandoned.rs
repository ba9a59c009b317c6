//! A build removes what killed processes left, and nothing else.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    path::{Path, PathBuf},
};

use qins_quant::{FloatDtype, checkpoint::Directory, output::Output};

use crate::common::{Home, Shards, read};

/// What the lock of a build directory begins with.
fn mark(home: &Home) -> String {
    let directory = Directory::create(&home.path("unfinished")).unwrap();
    let build = home.list().into_iter().find(|name| name.starts_with(".qins-build-")).unwrap();
    let lock = fs::read_to_string(home.path(&build).join("lock")).unwrap();
    drop(directory);
    lock
}

/// Every file below a directory, links as they are.
fn everything(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_symlink() {
            found.insert(path.clone(), fs::read_link(&path).unwrap().into_os_string().into_encoded_bytes());
        } else if path.is_dir() {
            found.extend(everything(&path));
            found.insert(path, Vec::new());
        } else {
            found.insert(path.clone(), fs::read(&path).unwrap());
        }
    }
    found
}

/// A build directory with these files in it, of which the lock lists some.
fn build(home: &Home, name: &str, lock: &str, listed: &[&str], files: &[&str]) {
    let dir = home.path(name);
    fs::create_dir_all(dir.join("content")).unwrap();
    let lines: String = listed.iter().map(|name| format!("{name:?}\n")).collect();
    fs::write(dir.join("lock"), format!("{lock}{lines}")).unwrap();
    for file in files {
        fs::create_dir_all(dir.join(file).parent().unwrap()).unwrap();
        fs::write(dir.join(file), "begun").unwrap();
    }
}

#[test]
fn abandoned_build_directories_are_removed() {
    let home = Home::new(FloatDtype::Bf16, Shards::One);
    let mark = mark(&home);
    build(&home, ".qins-build-amid00000000", &mark, &["m", "sub/n", "not begun"], &["content/m", "content/sub/n"]);
    // Killed before the lock was written, while it was, while a file was listed, and after the content was renamed.
    fs::create_dir(home.path(".qins-build-empty0000000")).unwrap();
    build(&home, ".qins-build-early0000000", "", &[], &[]);
    build(&home, ".qins-build-early0000001", &mark[..20], &[], &[]);
    build(&home, ".qins-build-early0000002", &format!("{mark}\"mod"), &[], &[]);
    build(&home, ".qins-build-late00000000", &mark, &["m"], &[]);
    fs::remove_dir(home.path(".qins-build-late00000000/content")).unwrap();
    // One of a process that is still building.
    build(&home, ".qins-build-busy00000000", &mark, &["m"], &["content/m"]);
    let lock = File::open(home.path(".qins-build-busy00000000/lock")).unwrap();
    lock.lock().unwrap();
    home.convert("plain", "out").unwrap();
    read(&home.path("out")).unwrap();
    assert_eq!(home.list(), [".qins-build-busy00000000", "out", "plain"]);
    drop(lock);
    // Every output tidies where it is written.
    Output::open(home.path("file")).unwrap().write(b"content").unwrap();
    assert_eq!(home.list(), ["file", "out", "plain"]);
}

#[test]
#[cfg(unix)]
fn what_is_not_of_this_program_stays() {
    use std::os::unix::fs::symlink;

    let home = Home::new(FloatDtype::Bf16, Shards::One);
    let mark = mark(&home);
    fs::create_dir(home.path("mine")).unwrap();
    fs::write(home.path("mine/m"), "mine").unwrap();
    fs::write(home.path("mine/lock"), format!("{mark}\"m\"\n")).unwrap();
    // Other names, with whatever is in them; links to folders that look right, and in place of a folder in them.
    for name in [
        ".qins-notes",
        ".qins-abc123",
        ".qins-build-",
        ".qins-build-short",
        ".qins-build-longer0000000",
        "qins-build-00000000",
    ] {
        build(&home, name, &mark, &["m"], &["content/m"]);
        fs::create_dir(home.path(&format!("{name}-empty"))).unwrap();
    }
    symlink("mine", home.path(".qins-build-link00000000")).unwrap();
    fs::create_dir_all(home.path("mine/content")).unwrap();
    fs::write(home.path("mine/content/m"), "mine").unwrap();
    // No lock of this program: another text, none at all with files, a folder.
    build(&home, ".qins-build-text00000000", "my notes\n", &["m"], &["content/m"]);
    build(&home, ".qins-build-none00000000", "", &[], &["content/m"]);
    fs::remove_file(home.path(".qins-build-none00000000/lock")).unwrap();
    fs::create_dir_all(home.path(".qins-build-folder000000/lock")).unwrap();
    let before = everything(&home.path("."));
    home.convert("plain", "out").unwrap();
    Output::open(home.path("out/file")).unwrap().write(b"content").unwrap();
    fs::remove_dir_all(home.path("out")).unwrap();
    assert!(everything(&home.path(".")) == before);

    // Of a build directory to which something was added, that stays, and names that lead elsewhere lead nowhere.
    build(&home, ".qins-build-added0000000", &mark, &["m"], &["content/m", "content/notes", "todo"]);
    let listed = ["../../mine/m", "/etc/hostname", "link/m", "m", ""];
    build(&home, ".qins-build-leads0000000", &mark, &listed, &["content/n"]);
    symlink(home.path("mine"), home.path(".qins-build-leads0000000/content/link")).unwrap();
    symlink(home.path("mine/m"), home.path(".qins-build-leads0000000/content/m")).unwrap();
    build(&home, ".qins-build-linked000000", &mark, &["m"], &[]);
    fs::remove_dir(home.path(".qins-build-linked000000/content")).unwrap();
    symlink(home.path("mine"), home.path(".qins-build-linked000000/content")).unwrap();
    let mut before = everything(&home.path("."));
    before.remove(&home.path("./.qins-build-added0000000/content/m"));
    home.convert("plain", "out").unwrap();
    fs::remove_dir_all(home.path("out")).unwrap();
    assert_eq!(everything(&home.path(".")).keys().collect::<Vec<_>>(), before.keys().collect::<Vec<_>>());
    assert!(everything(&home.path(".")) == before);
}
