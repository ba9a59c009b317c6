//! `qins importance`: the file it writes.

use crate::common::{Home, read_tensors, repository};

/// The tensors in a file, and the numbers of each.
fn means(home: &Home, file: &str) -> Vec<(String, Vec<f32>)> {
    let numbers = |bytes: &[u8]| bytes.as_chunks().0.iter().copied().map(f32::from_le_bytes).collect();
    let mut all = Vec::new();
    for (name, tensor) in read_tensors(&home.path(file)) {
        assert_eq!((&*tensor.dtype, tensor.shape.len()), ("F32", 1), "{name}");
        all.push((name, numbers(&tensor.bytes)));
    }
    all
}

#[test]
fn every_matrix_that_is_multiplied_with_has_a_number_for_each_column() {
    let home = Home::new("e_tied/f32");
    home.write("text.txt", "Paris is the capital of France. ".repeat(40));
    home.write("other.txt", "0 1 1 2 3 5 8 13 21 34 55 89 ".repeat(40));
    for text in ["text", "other"] {
        assert_eq!(home.qins(&format!("importance --calibrate {text}.txt --out {text}")).done(), "");
    }
    let found = means(&home, "text");
    let model = read_tensors(&repository("crates/qins/assets/atlas/model.safetensors"));
    // Tokens are looked up in the embedding.
    let is_multiplied = |name: &str, shape: &[usize]| shape.len() == 2 && name != "model.embed_tokens.weight";
    let matrices: Vec<_> = model.iter().filter(|(name, tensor)| is_multiplied(name, &tensor.shape)).collect();
    assert_eq!(found.len(), matrices.len());
    for ((name, means), (tensor, matrix)) in found.iter().zip(matrices) {
        assert_eq!((name, means.len()), (tensor, matrix.shape[1]));
        assert!(means.iter().all(|mean| mean.is_finite() && *mean >= 0.0) && means.iter().any(|mean| *mean > 0.0));
    }
    // Control: they are those of the text that was read, and not the same for all columns.
    assert!(found != means(&home, "other"));
    assert!(found.iter().all(|(_, means)| means.iter().any(|mean| *mean != means[0])));
}

#[test]
fn invalid_arguments_are_rejected_and_leave_no_file() {
    let home = Home::new("b_gqa/f32");
    home.write("empty.txt", "");
    home.write("text.txt", "Paris is the capital of France. ");
    home.qins("convert --model model --scheme q8 --out encoded").done();
    let before = home.list();
    for (arguments, messages) in [
        ("--calibrate empty.txt --out out", ["empty.txt", "text"]),
        ("--calibrate nowhere --out out", ["nowhere", ""]),
        ("--calibrate text.txt --out text.txt", ["text.txt", "found the file of --calibrate"]),
        ("--model model --out out", ["tokenizer.json", "found none"]),
        ("--model encoded --out out", ["encoded", "found"]),
        ("--model model --out model/config.json", ["config.json", "found a file of the model"]),
        ("--out none/out", ["none", "expected a directory"]),
    ] {
        home.qins(&format!("importance {arguments}")).rejected(arguments, &messages);
        assert_eq!(home.list(), before, "{arguments}");
    }
}
