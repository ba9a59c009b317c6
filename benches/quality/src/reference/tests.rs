//! What each reference must show before it may serve as a yardstick.

use std::sync::LazyLock;

use super::{Format, q8_0::Q8_0};
use crate::{
    data::{self, DataSet, Matrix},
    measure::decibels,
};

/// Drawn once for all tests.
static SETS: LazyLock<[DataSet; 2]> = LazyLock::new(|| [data::gaussian(), data::student()]);

/// Checks a format: it returns its own `grid` exactly, costs exactly `bits` a weight, and comes within 0.3 dB of the
/// `figures` known for it on Gaussian and Student-t(5) rows.
pub(super) fn check(format: &Format, grid: &[f32], bits: f64, figures: [f64; 2]) {
    assert_eq!(faults(format, grid, bits, figures), Vec::<String>::new(), "{}", format.name);
    // Weights between the levels do not come back.
    let between: Vec<f32> = grid.iter().enumerate().map(|(i, x)| if i % 2 == 0 { *x } else { x * 0.99 }).collect();
    assert_ne!(round_trip(format, &between, between.len()).1, between, "{}", format.name);
}

fn faults(format: &Format, grid: &[f32], bits: f64, figures: [f64; 2]) -> Vec<String> {
    let mut faults = Vec::new();
    let (_, decoded) = round_trip(format, grid, grid.len());
    if grid != decoded {
        faults.push("grid".to_owned());
    }
    for (data, figure) in SETS.iter().zip(figures) {
        let [Matrix { shape: [_, cols], weights, .. }] = &data.matrices[..] else { unreachable!("one matrix each") };
        let (bytes, decoded) = round_trip(format, weights, *cols);
        if (8 * bytes) as f64 / weights.len() as f64 != bits {
            faults.push(format!("{}: {bytes} bytes", data.name));
        }
        let found = decibels(weights, &decoded);
        println!("{}, {}: {found:.2} dB", format.name, data.name);
        if (found - figure).abs() > 0.3 {
            faults.push(format!("{}: {found:.2} dB", data.name));
        }
    }
    faults
}

fn round_trip(format: &Format, weights: &[f32], cols: usize) -> (usize, Vec<f32>) {
    let bytes = format.encode(weights, cols);
    let mut decoded = vec![0.0; weights.len()];
    format.decode(&bytes, cols, &mut decoded);
    (bytes.len(), decoded)
}

#[test]
fn each_check_can_fail() {
    let count = |format| faults(&format, &[127.0 / 64.0; 32], 8.5, [45.4, 43.5]).len();
    assert_eq!(count(Q8_0), 0);
    // Decodes to a little too much.
    let decode = |bytes: &[u8], x: &mut [f32]| {
        (Q8_0.decode)(bytes, x);
        x.iter_mut().for_each(|x| *x *= 1.01);
    };
    assert_eq!(count(Format { decode, ..Q8_0 }), 3);
    // Costs a byte more.
    let encode = |x: &[f32], bytes: &mut Vec<u8>| {
        (Q8_0.encode)(x, bytes);
        bytes.push(0);
    };
    assert_eq!(count(Format { encode, ..Q8_0 }), 2);
    // Sees the weights too coarsely, which a grid of whole 1/64 does not show.
    let encode = |x: &[f32], bytes: &mut Vec<u8>| {
        (Q8_0.encode)(&x.iter().map(|x| (x * 64.0).round() / 64.0).collect::<Vec<_>>(), bytes);
    };
    assert_eq!(count(Format { encode, ..Q8_0 }), 2);
}

#[test]
fn a_block_of_zeros_stays_one() {
    for format in &super::ALL {
        assert_eq!(round_trip(format, &[0.0; 256], 256).1, [0.0; 256], "{}", format.name);
    }
}

#[test]
fn the_gguf_formats_write_the_bytes_that_ggml_writes() {
    // Exact in f32, without a library's logarithm; denser near zero.
    let weights: Vec<f32> = (0..1024).map(|i| (i * 7919 % 2048 - 1024) as f32 / 1024.0).map(|u| u * u.abs()).collect();
    // FNV-1a of what ggml 0.13.1's `ggml_quantize_chunk` makes of them.
    let expected = [
        ("MXFP4", 0x76d4_f77e_20fd_e092_u64),
        ("IQ4_NL", 0xcff2_cbbb_ecc5_9855),
        ("Q4_K", 0x5a6c_6257_83a1_3e20),
        ("Q5_K", 0xa223_1422_8cd6_0e19),
        ("Q6_K", 0xe96d_72ad_40b4_b078),
        ("Q8_0", 0x1008_ea8b_d2ec_3b4b),
    ];
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    let hash = |format: &Format, weights: &[f32]| {
        format.encode(weights, weights.len()).iter().fold(0xcbf2_9ce4_8422_2325, step)
    };
    let backwards: Vec<f32> = weights.iter().rev().copied().collect();
    for (name, expected) in expected {
        let format = super::ALL.iter().find(|format| format.name == name).unwrap();
        assert_eq!(hash(format, &weights), expected, "{name}");
        assert_ne!(hash(format, &backwards), expected, "{name}");
    }
}
