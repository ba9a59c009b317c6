//! `qins logits`: the file it writes.

use std::fs;

use safetensors::{Dtype, SafeTensors};

use crate::common::{Home, goldens};

/// The ids, and the logits after each.
fn read(home: &Home, file: &str) -> (Vec<i64>, Vec<Vec<f32>>) {
    let bytes = fs::read(home.path(file)).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let (ids, logits) = (file.tensor("input_ids").unwrap(), file.tensor("logits").unwrap());
    assert_eq!((ids.dtype(), logits.dtype()), (Dtype::I64, Dtype::F32));
    assert_eq!((ids.shape()[0], ids.shape().len(), logits.shape().len()), (logits.shape()[0], 1, 2));
    let numbers: Vec<f32> = logits.data().as_chunks().0.iter().copied().map(f32::from_le_bytes).collect();
    let rows = numbers.chunks(logits.shape()[1]).map(<[f32]>::to_vec).collect();
    (ids.data().as_chunks().0.iter().copied().map(i64::from_le_bytes).collect(), rows)
}

#[test]
fn row_i_has_the_logits_of_the_next_token() {
    for name in ["b_gqa/f32", "e_tied/bf16"] {
        let home = Home::new(name);
        for golden in goldens(name) {
            let all = [&golden.input_ids[..], &golden.generated].concat();
            let list = all.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
            assert_eq!(home.qins(&format!("logits --model model --prompt-ids {list} --out plain")).done(), "");
            let (ids, logits) = read(&home, "plain");
            assert_eq!(ids, all.iter().map(|id| i64::from(*id)).collect::<Vec<_>>(), "{name}");
            let top1 = |row: &[f32]| qins_eval::agreement::argmax(row) as u32;
            let predicted: Vec<u32> = logits[golden.input_ids.len() - 1..].iter().map(|row| top1(row)).collect();
            assert_eq!(predicted[..golden.generated.len()], golden.generated, "{name}");
            // A lossless variant has the same logits, a lossy one does not; and a prefix of the tokens the same first rows.
            home.qins(&format!("logits --model model --prompt-ids {list} --scheme lossless --out lossless")).done();
            home.qins(&format!("logits --model model --prompt-ids {list} --scheme q3 --out q3")).done();
            assert!(read(&home, "lossless").1 == logits && read(&home, "q3").1 != logits, "{name}");
            home.qins(&format!("logits --model model --prompt-ids {list} --tokens 3 --out three")).done();
            let (ids, three) = read(&home, "three");
            assert_eq!((ids.len(), three.len()), (3, 3));
            for (row, whole) in three.iter().zip(&logits) {
                assert!(row.iter().zip(whole).all(|(a, b)| (a - b).abs() < 1e-4), "{name}");
            }
        }
    }
}

#[test]
fn invalid_arguments_are_rejected_and_leave_no_file() {
    let home = Home::new("b_gqa/f32");
    fs::create_dir(home.path("folder")).unwrap();
    for (arguments, messages) in [
        ("--prompt-ids 1,99999 --out out", "99999"),
        ("--prompt-ids 1 --out folder", "found a directory"),
        ("--prompt-ids 1 --out none/out", "expected a directory"),
        ("--prompt hello --out out", "tokenizer.json"),
        ("--text nowhere --out out", "nowhere"),
        ("--prompt-ids 1 --tokens 0 --out out", "0"),
        ("--prompt-ids 1 --calibrate file --out out", "--scheme"),
    ] {
        let run = home.qins(&format!("logits --model model {arguments}"));
        assert_eq!((run.code, run.err.contains(messages)), (Some(2), true), "{arguments}: {}", run.err);
    }
    let left = ["out", "out.partial", "folder.partial", "none"];
    assert!(left.iter().all(|file| !home.path(file).exists()));
}
