//! Hostile and damaged inputs of `tests/attacks`: each ends with one sentence that names the file, and exit code 2.

use std::{fs, path::Path, time::Instant};

use crate::common::{Home, json_file, repository};

/// Lays a folder's files on another.
fn lay(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let (from, to) = (entry.as_ref().unwrap().path(), to.join(entry.unwrap().file_name()));
        if from.is_dir() {
            fs::create_dir_all(&to).unwrap();
            lay(&from, &to);
        } else {
            fs::copy(from, to).unwrap();
        }
    }
}

#[test]
fn every_attack_is_named_and_leaves_nothing() {
    let mut count = 0;
    for entry in fs::read_dir(repository("tests/attacks")).unwrap() {
        let folder = entry.unwrap().path();
        let name = folder.file_name().unwrap().to_string_lossy().into_owned();
        let attack = json_file(&folder.join("attack.json"));
        let home = Home::new("e_tied/f32");
        for file in attack["without"].as_array().unwrap() {
            fs::remove_file(home.path(file.as_str().unwrap())).unwrap();
        }
        lay(&folder, &home.path("."));
        let before = home.list();
        let says: Vec<&str> = attack["says"].as_array().unwrap().iter().map(|part| part.as_str().unwrap()).collect();
        let start = Instant::now();
        home.qins(attack["command"].as_str().unwrap()).rejected(&name, &says);
        assert!(start.elapsed().as_secs() < 60, "{name}: {:?}", start.elapsed());
        assert_eq!(home.list(), before, "{name}");
        count += 1;
    }
    assert!(count >= 40, "{count}");
}

/// The control: without an attack, the same commands run.
#[test]
fn commands_of_the_attacks_run_without_them() {
    let home = Home::new("e_tied/f32");
    home.qins("generate --model model --prompt-ids 5").done();
    home.write("attack.jsonl", "{\"input_ids\": [5]}\n");
    home.qins("generate --model model --prompts attack.jsonl").done();
}
