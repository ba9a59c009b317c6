//! A build removes what killed processes left, and nothing else.

use std::fs::{self, File};

use qins_quant::FloatDtype;

use crate::common::{Home, Shards, read};

#[test]
fn abandoned_build_directories_are_removed() {
    let home = Home::new(FloatDtype::Bf16, Shards::One);
    let dir = |name: &str| {
        fs::create_dir_all(home.path(name)).unwrap();
        home.path(name)
    };
    // Killed while building, before building, and before creating or after removing the lock.
    fs::write(dir(".qins-amid/checkpoint").join("model.safetensors"), "begun").unwrap();
    for name in [".qins-amid", ".qins-before"] {
        File::create(dir(name).join("lock")).unwrap();
    }
    dir(".qins-empty");
    // A directory that is not a build directory, and one of a process that is still building.
    fs::write(dir(".qins-mine").join("notes"), "mine").unwrap();
    fs::write(dir(".qins-busy/checkpoint").join("model.safetensors"), "begun").unwrap();
    let lock = File::create(home.path(".qins-busy/lock")).unwrap();
    lock.lock().unwrap();
    home.convert("plain", "out").unwrap();
    read(&home.path("out")).unwrap();
    assert_eq!(home.list(), [".qins-busy", ".qins-mine", "out", "plain"]);
    assert!(home.path(".qins-busy/checkpoint/model.safetensors").is_file());
    assert_eq!(fs::read(home.path(".qins-mine/notes")).unwrap(), b"mine");
    drop(lock);
    home.convert("plain", "another").unwrap();
    assert_eq!(home.list(), [".qins-mine", "another", "out", "plain"]);
}
