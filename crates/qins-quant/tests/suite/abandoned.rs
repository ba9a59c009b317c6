//! What a killed process left behind is tidied up by the next one, and nothing else is.

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
    // Killed amid the work, before it, and before it had a lock or after it had removed it.
    fs::write(dir(".qins-amid/checkpoint").join("model.safetensors"), "begun").unwrap();
    for name in [".qins-amid", ".qins-before"] {
        File::create(dir(name).join("lock")).unwrap();
    }
    dir(".qins-empty");
    // Somebody else's, and another's who is still at work.
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
