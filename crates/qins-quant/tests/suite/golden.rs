//! The file format, byte for byte.

use std::fs;

use qins_quant::{
    EncodeOptions, FloatDtype, Rate, Recipe, Scheme,
    checkpoint::{Checkpoint, Files},
    convert::{Part, convert},
};
use tempfile::TempDir;

use crate::common::{Tensor, bits, open, write_shard};

const CONFIG: &[u8] = include_bytes!("../golden/config.json");
const MODEL: &[u8] = include_bytes!("../golden/model.safetensors");

const IF_MEANT: &str = "checkpoints written before can no longer be read as they were: if this is meant, raise \
    FORMAT_VERSION, then rewrite the golden files with `cargo test -p qins-quant -- --ignored write_golden`";

/// One module for each encoded form, and a norm that is copied. All are bf16 numbers, so that nothing
/// depends on rounding.
const MODULES: [(&str, Scheme, bool); 5] = [
    ("a", Scheme::Q8, false),
    ("b", Scheme::CompandedF32, false),
    ("c", Scheme::Lossless, true),
    ("d", Scheme::Rate, true),
    ("e", Scheme::Q4, true),
];

fn source() -> [Tensor; 6] {
    let bf16 = |name, shape: &[usize], values: &[f32]| Tensor::float(name, FloatDtype::Bf16, shape, values);
    let mut c = bf16("c.weight", &[2, 3], &B);
    // A NaN with a payload, which must be preserved.
    c.bytes[..2].copy_from_slice(&0xffa5_u16.to_le_bytes());
    [
        bf16("a.weight", &[3, 4], &A.concat()),
        bf16("b.weight", &[2, 3], &B),
        c,
        bf16("d.weight", &[3, 4], &A.concat()),
        bf16("e.weight", &[3, 4], &A.concat()),
        bf16("norm.weight", &[4], &[1.0, 0.5, -2.0, 0.0]),
    ]
}

const A: [[f32; 4]; 3] = [[0.75, -0.125, 0.03125, -0.0], [0.0; 4], [-96.0, 1.5, 0.25, 7.0]];
const B: [f32; 6] = [0.0, -0.0, 0.015625, -0.75, 3.0, -1000.0];

#[rustfmt::skip]
const DECODED: [&[u32]; 5] = [
    &[
        0x3f40_0000, 0xbdff_324a, 0x3d04_b570, 0x8000_0000,
        0x0000_0000, 0x0000_0000, 0x0000_0000, 0x0000_0000,
        0xc2c0_0000, 0x3fda_7506, 0x0000_0000, 0x40de_7394,
    ],
    &[0x0000_0000, 0x8000_0000, 0x3c80_0000, 0xbf40_0000, 0x4040_0000, 0xc47a_0000],
    // Conversion to a number makes the NaN quiet.
    &[0xffe5_0000, 0x8000_0000, 0x3c80_0000, 0xbf40_0000, 0x4040_0000, 0xc47a_0000],
    &[
        0x3f80_0000, 0x0000_0000, 0x0000_0000, 0x0000_0000,
        0x0000_0000, 0x0000_0000, 0x0000_0000, 0x0000_0000,
        0xc2c0_0000, 0x3fc0_0000, 0x0000_0000, 0x40e0_0000,
    ],
    &[
        0x3f40_1cc0, 0xbdfe_2200, 0x3d11_3800, 0x8000_0000,
        0x0000_0000, 0x0000_0000, 0x0000_0000, 0x0000_0000,
        0xc2c0_1cc0, 0x0000_0000, 0x0000_0000, 0x40f2_0800,
    ],
];

fn write(home: &TempDir) -> Checkpoint {
    let plain = home.path().join("plain");
    fs::create_dir(&plain).unwrap();
    write_shard(&plain.join("model.safetensors"), &source());
    fs::write(plain.join("config.json"), r#"{ "model_type": "golden" }"#).unwrap();
    let parts = |tensor: &str, shape: &[usize]| {
        let module = tensor.strip_suffix(".weight")?;
        let (_, scheme, coded) = MODULES.into_iter().find(|(name, ..)| *name == module)?;
        let options = EncodeOptions { rate: Rate::Step(0.5), ..EncodeOptions::default() };
        let recipe = Recipe { coded, options, ..scheme.into() };
        Some(vec![Part { module: module.to_owned(), rows: 0..shape[0], recipe: Some(recipe) }])
    };
    let out = home.path().join("out");
    convert(&open(&plain).unwrap(), &out, &parts, &|_| {}).unwrap();
    open(&out).unwrap()
}

fn decoded(checkpoint: &Checkpoint) -> Vec<Vec<u32>> {
    let decode = |(module, ..): (&str, Scheme, bool)| {
        let encoded = checkpoint.encoded(module).unwrap();
        let mut out = vec![f32::NAN; encoded.shape().iter().product()];
        encoded.decode_into(&mut out);
        bits(&out)
    };
    MODULES.into_iter().map(decode).collect()
}

#[test]
fn golden_checkpoint_decodes_to_golden_weights() {
    let files: &'static [(&str, &[u8])] = &[("config.json", CONFIG), ("model.safetensors", MODEL)];
    let golden = Checkpoint::open(Files::Embedded { name: "golden", files }).unwrap();
    let found = decoded(&golden);
    assert!(found.iter().map(Vec::as_slice).eq(DECODED), "{found:#010x?}: {IF_MEANT}");
    assert_eq!(golden.plain("norm.weight").unwrap().widen(), [1.0, 0.5, -2.0, 0.0]);
    // `companded-f32` and `lossless` equal the source.
    assert_eq!(found[1], bits(&B));
    assert_eq!((found[2][0], &found[2][1..]), (0xffe5_0000, &bits(&B)[1..]));
    assert_eq!(golden.encoded("c").unwrap().bytes_of_rows(0..2), source()[2].bytes);
    for decoded in [&found[0], &found[3], &found[4]] {
        for (weights, decoded) in A.iter().zip(decoded.chunks(4)) {
            let largest = weights.iter().fold(0.0_f32, |max, w| max.max(w.abs()));
            for (w, d) in weights.iter().zip(decoded) {
                assert!((w - f32::from_bits(*d)).abs() <= 0.1 * largest.max(2.5), "{w}: {}", f32::from_bits(*d));
            }
        }
    }
}

#[test]
fn conversion_writes_the_golden_checkpoint() {
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
