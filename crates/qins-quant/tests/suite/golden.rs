//! The format as it was first written, byte for byte.

use std::fs;

use qins_quant::{
    EncodeOptions, FloatDtype, Scheme,
    checkpoint::{Checkpoint, Files},
    convert::{Part, convert},
};
use tempfile::TempDir;

use crate::common::{Tensor, bits, open, write_shard};

const CONFIG: &[u8] = include_bytes!("../golden/config.json");
const MODEL: &[u8] = include_bytes!("../golden/model.safetensors");

const IF_MEANT: &str = "checkpoints written before can no longer be read as they were: if this is meant, raise \
    FORMAT_VERSION, then write the golden files anew with `cargo test -p qins-quant -- --ignored write_golden`";

/// `a` is encoded as `q8`, `b` as `f32`, the norm is copied. All are bf16 numbers, so that nothing depends on rounding.
fn source() -> [Tensor; 3] {
    let bf16 = |name, shape: &[usize], values: &[f32]| Tensor::float(name, FloatDtype::Bf16, shape, values);
    [
        bf16("a.weight", &[3, 4], &A.concat()),
        bf16("b.weight", &[2, 3], &B),
        bf16("norm.weight", &[4], &[1.0, 0.5, -2.0, 0.0]),
    ]
}

const A: [[f32; 4]; 3] = [[0.75, -0.125, 0.03125, -0.0], [0.0; 4], [-96.0, 1.5, 0.25, 7.0]];
const B: [f32; 6] = [0.0, -0.0, 0.015625, -0.75, 3.0, -1000.0];

#[rustfmt::skip]
const A_DECODED: [u32; 12] = [
    0x3f40_0000, 0xbe00_f5ad, 0x3d06_5607, 0x8000_0000,
    0x0000_0000, 0x0000_0000, 0x0000_0000, 0x0000_0000,
    0xc2c0_0000, 0x3fe0_5fd4, 0x0000_0000, 0x40e4_2216,
];
const B_DECODED: [u32; 6] = [0x0000_0000, 0x8000_0000, 0x3c80_0000, 0xbf40_0000, 0x4040_0000, 0xc47a_0000];

fn write(home: &TempDir) -> Checkpoint {
    let plain = home.path().join("plain");
    fs::create_dir(&plain).unwrap();
    write_shard(&plain.join("model.safetensors"), &source());
    fs::write(plain.join("config.json"), r#"{ "model_type": "golden" }"#).unwrap();
    let parts = |tensor: &str, shape: &[usize]| {
        let module = tensor.strip_suffix(".weight")?;
        let scheme = match module {
            "a" => Scheme::Q8,
            "b" => Scheme::F32,
            _ => return None,
        };
        Some(vec![Part { module: module.to_owned(), rows: 0..shape[0], scheme: Some(scheme) }])
    };
    let out = home.path().join("out");
    convert(&open(&plain).unwrap(), &out, &EncodeOptions::default(), &parts, &|_| {}).unwrap();
    open(&out).unwrap()
}

fn decoded(checkpoint: &Checkpoint) -> (Vec<u32>, Vec<u32>) {
    let decode = |module: &str, shape: [usize; 2]| {
        let mut out = vec![f32::NAN; shape[0] * shape[1]];
        checkpoint.encoded(module, shape).unwrap().decode_into(&mut out);
        bits(&out)
    };
    (decode("a", [3, 4]), decode("b", [2, 3]))
}

#[test]
fn the_golden_checkpoint_decodes_to_the_same_weights_for_ever() {
    let files: &'static [(&str, &[u8])] = &[("config.json", CONFIG), ("model.safetensors", MODEL)];
    let golden = Checkpoint::open(Files::Embedded { name: "golden", files }).unwrap();
    let (a, b) = decoded(&golden);
    assert!(a == A_DECODED && b == B_DECODED, "{a:#x?} {b:#x?}: {IF_MEANT}");
    assert_eq!(golden.plain("norm.weight").unwrap().widen(), [1.0, 0.5, -2.0, 0.0]);
    // The f32 half is the source itself; the q8 half is near it.
    assert_eq!(b, bits(&B));
    for (weights, decoded) in A.iter().zip(a.chunks(4)) {
        let largest = weights.iter().fold(0.0_f32, |max, w| max.max(w.abs()));
        for (w, d) in weights.iter().zip(decoded) {
            let d = f32::from_bits(*d);
            let near = (w - d).abs() <= 0.01 * largest && w.is_sign_negative() == d.is_sign_negative();
            assert!(near, "{w}: {d}");
        }
    }
}

#[test]
fn the_golden_checkpoint_is_what_is_written_today() {
    let home = TempDir::new().unwrap();
    write(&home);
    assert!(fs::read(home.path().join("out/config.json")).unwrap() == CONFIG, "config.json changed: {IF_MEANT}");
    assert!(
        fs::read(home.path().join("out/model.safetensors")).unwrap() == MODEL,
        "model.safetensors changed: {IF_MEANT}"
    );
}

#[test]
#[ignore = "writes the golden files: only with a new FORMAT_VERSION"]
fn write_golden() {
    let home = TempDir::new().unwrap();
    println!("{:#010x?}", decoded(&write(&home)));
    for file in ["config.json", "model.safetensors"] {
        let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden");
        fs::create_dir_all(golden).unwrap();
        fs::copy(home.path().join("out").join(file), format!("{golden}/{file}")).unwrap();
    }
}
