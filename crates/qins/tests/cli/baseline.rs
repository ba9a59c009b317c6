//! `qins validate --baseline` and `--candidate`: a baseline kept in a file, and a checkpoint compared as it is.

use std::fs;

use serde_json::{Value, json};

use crate::common::{Home, json_file};

const COMMON: &str = "validate --model model --prompts prompts.jsonl --scheme q8";

fn report(home: &Home, arguments: &str) -> Value {
    let run = home.qins(&format!("{COMMON} --max-new-tokens 6 {arguments}"));
    assert!(run.code.is_some_and(|code| code < 2), "{arguments}: {}", run.err);
    json_file(&home.path("report.json"))
}

#[test]
fn existing_file_is_read_instead_of_computed() {
    let home = Home::new("b_gqa/f32");
    let first = report(&home, "--baseline plain.safetensors");
    let bytes = fs::read(home.path("plain.safetensors")).unwrap();
    let second = report(&home, "--baseline plain.safetensors");
    assert_eq!(bytes, fs::read(home.path("plain.safetensors")).unwrap());
    assert!(first["baseline"]["tokens_per_second"].as_f64() > Some(0.0));
    assert_eq!(second["baseline"]["tokens_per_second"], Value::Null);
    for part in ["texts", "sampled"] {
        assert_eq!(first["baseline"][part], second["baseline"][part]);
    }
    let figures = |report: &Value| -> Vec<Value> {
        report["candidates"].as_array().unwrap().iter().map(|c| c["figures"].clone()).collect()
    };
    assert_eq!(figures(&first), figures(&second));
    // And as without a file.
    assert_eq!(figures(&first), figures(&report(&home, "")));
    // Its logits can be read by other programs.
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let tokens = first["baseline"]["texts"][0]["generated_ids"].as_array().unwrap().len();
    assert_eq!(file.tensor("passage.0").unwrap().shape(), [tokens, 112]);
    assert_eq!(file.names().len(), 3);
}

#[test]
fn file_of_other_inputs_or_damaged_is_rejected() {
    let home = Home::new("b_gqa/f32");
    report(&home, "--baseline plain.safetensors");
    let good = fs::read(home.path("plain.safetensors")).unwrap();
    let rejected =
        |arguments: &str, messages: &[&str]| home.qins(&format!("{COMMON} {arguments}")).rejected(arguments, messages);
    let longer = "--baseline plain.safetensors --max-new-tokens 7";
    let kept = "--baseline plain.safetensors --max-new-tokens 6";
    rejected(longer, &["plain.safetensors", "expected a baseline with prompts ", "found "]);
    rejected(&format!("{kept} --seed 3"), &["with temperature 1, seed 3", "found 1, seed 0"]);
    rejected(&format!("{kept} --temperature 0"), &["with temperature none", "found 1, seed 0"]);
    // Of another model.
    let other = Home::new("a_mha/f32");
    other.write("plain.safetensors", &good);
    other.qins(&format!("{COMMON} {kept}")).rejected("another model", &["with model ", "found "]);
    // Damaged: a bit of a logit, the end, all of it.
    let mut bytes = good.clone();
    *bytes.last_mut().unwrap() ^= 1;
    home.write("plain.safetensors", &bytes);
    rejected(kept, &["plain.safetensors: `", "checksum"]);
    home.write("plain.safetensors", &good[..good.len() - 1]);
    rejected(kept, &["plain.safetensors", "expected a complete safetensors file"]);
    home.write("plain.safetensors", "{}");
    rejected(kept, &["plain.safetensors", "expected a complete safetensors file"]);
    let mut weights: Vec<_> = fs::read_dir(home.path("model")).unwrap().map(|entry| entry.unwrap().path()).collect();
    weights.retain(|path| path.extension().is_some_and(|extension| extension == "safetensors"));
    home.write("plain.safetensors", fs::read(&weights[0]).unwrap());
    rejected(kept, &["plain.safetensors", "expected a baseline that `qins validate` wrote", "a model's weights"]);
    home.qins("logits --model model --prompt-ids 5,7 --out plain.safetensors").done();
    rejected(kept, &["plain.safetensors", "expected a baseline that `qins validate` wrote", "scores", "`qins logits`"]);
    // Complete, with correct checksums, and inconsistent content.
    let forged = |edit: &dyn Fn(&mut Value)| {
        let length = u64::from_le_bytes(good[..8].try_into().unwrap()) as usize;
        let mut header: Value = serde_json::from_slice(&good[8..8 + length]).unwrap();
        let at = header["run"]["data_offsets"].clone();
        let [from, to] = [0, 1].map(|i| 8 + length + at[i].as_u64().unwrap() as usize);
        let mut run: Value = serde_json::from_slice(&good[from..to]).unwrap();
        edit(&mut run);
        let mut run = serde_json::to_vec(&run).unwrap();
        assert!(run.len() <= to - from);
        run.resize(to - from, b' ');
        let metadata = &mut header["__metadata__"]["qins"];
        let mut checksums: Value = serde_json::from_str(metadata.as_str().unwrap()).unwrap();
        checksums["xxh3"]["run"] = format!("{:016x}", xxhash_rust::xxh3::xxh3_64(&run)).into();
        *metadata = checksums.to_string().into();
        let mut head = header.to_string().into_bytes();
        head.resize(length, b' ');
        [&good[..8], &head, &good[8 + length..from], &run, &good[to..]].concat()
    };
    home.write("plain.safetensors", forged(&|run| drop(run["greedy"].as_array_mut().unwrap().pop())));
    rejected(
        kept,
        &[
            "plain.safetensors: `run`: expected vocabulary size, greedy texts and sampled texts of (112, 2, 2), found (112, 1, 2)",
        ],
    );
    home.write("plain.safetensors", forged(&|run| run["greedy"][0]["ids"][0] = 112.into()));
    rejected(kept, &["plain.safetensors: `run`: expected token ids below 112, found 112"]);
    // A file that cannot be written leaves nothing.
    rejected("--baseline none/plain.safetensors", &["none/plain.safetensors"]);
}

#[test]
fn candidate_checkpoint_equals_encoding_while_loading() {
    let home = Home::new("b_gqa/f32");
    for (scheme, out) in [("q8", "coded"), ("companded-f32", "floats")] {
        let run = home.qins(&format!("convert --model model --scheme {scheme} --out {out}"));
        assert_eq!(run.code, Some(0), "{}", run.err);
    }
    let run = home.qins("export coded --out decoded");
    assert_eq!(run.code, Some(0), "{}", run.err);
    let report = report(&home, "--candidate coded --candidate decoded@8.01");
    let candidate = |name: &str| {
        let all = report["candidates"].as_array().unwrap();
        all.iter().find(|c| c["name"] == name).unwrap_or_else(|| panic!("{name}")).clone()
    };
    let (encoded, coded, decoded) = (candidate("q8"), candidate("coded"), candidate("decoded"));
    for figure in ["figures", "prompts", "layers", "bits_per_weight", "weight_bytes", "linears", "criteria"] {
        assert_eq!(encoded[figure], coded[figure], "{figure}");
    }
    assert_eq!((&coded["role"], &coded["checkpoint"]), (&json!("judged"), &json!("coded")));
    assert_eq!(coded["scheme"], "checkpoint");
    // Plain weights are for information: the same values, but multiplied as floats.
    assert_eq!((&decoded["role"], &decoded["bits_per_weight"]), (&json!("information"), &json!(8.01)));
    let kl = |c: &Value| c["figures"]["teacher_forced"]["mean_kl"]["value"].as_f64().unwrap();
    assert!((kl(&decoded) / kl(&coded) - 1.0).abs() < 0.05, "{}, {}", kl(&decoded), kl(&coded));
    assert_eq!(decoded["layers"].as_array().unwrap().len(), 15);
    home.qins(&format!("{COMMON} --candidate nowhere")).rejected("nowhere", &["nowhere"]);
    // A number after a name may be a revision; a directory is what it is named.
    home.qins(&format!("{COMMON} --candidate owner/name@4"))
        .rejected("revision", &["OWNER/NAME@REVISION@BITS", "`owner/name@4`"]);
    fs::rename(home.path("coded"), home.path("coded@4")).unwrap();
    let run = home.qins(&format!("{COMMON} --candidate coded@4"));
    assert!(run.out.contains("coded@4 "), "{}{}", run.out, run.err);
    let other = Home::new("a_mha/f32");
    let dir = other.path("model").display().to_string();
    home.qins(&format!("{COMMON} --candidate {dir}")).rejected("another shape", &["expected vocabulary, hidden size"]);
}
