//! Cases found by fuzzing: malicious files with valid checksums.

use std::collections::BTreeMap;

use pco::{ChunkConfig, DeltaSpec, ModeSpec, standalone::simple_compress};
use qins_quant::{
    Alpha, CompandedFloat, EncodeError, EncodedTensor, FloatDtype, Form, MatrixFormat, Scheme,
    checkpoint::{Checkpoint, FORMAT_VERSION, Files},
    export::export,
    verify::verify,
};
use safetensors::{Dtype, serialize, tensor::TensorView};
use serde_json::{Value, json};
use tempfile::tempdir;
use xxhash_rust::xxh3::xxh3_64;

/// A tensor's name, type, shape and bytes.
type Stored<'a> = (&'a str, Dtype, Vec<usize>, Vec<u8>);

/// A checkpoint whose tensors all have their checksums; plain without groups.
fn checkpoint(tensors: &[Stored<'_>], groups: Option<&Value>, fused: &Value) -> Checkpoint {
    let checksums: BTreeMap<_, _> =
        tensors.iter().map(|(name, _, _, bytes)| (name, format!("{:016x}", xxh3_64(bytes)))).collect();
    let metadata = [("qins".to_owned(), json!({ "xxh3": checksums }).to_string())].into();
    let views =
        tensors.iter().map(|(name, dtype, shape, b)| (*name, TensorView::new(*dtype, shape.clone(), b).unwrap()));
    let shard = serialize(views, Some(metadata)).unwrap();
    let quantization = groups.map(|groups| {
        json!({
            "quant_method": "qins", "format_version": FORMAT_VERSION,
            "config_groups": groups, "fused": fused, "ignore": [],
        })
    });
    let config = json!({ "quantization_config": quantization });
    let files = [("config.json", config.to_string().into_bytes()), ("model.safetensors", shard)];
    let files = files.map(|(name, bytes)| (name.to_owned(), bytes.into()));
    Checkpoint::open(Files::Memory(BTreeMap::from(files).into())).unwrap()
}

fn shape(rows: u64, cols: u64) -> Vec<u8> {
    [rows, cols].iter().flat_map(|n| n.to_le_bytes()).collect()
}

/// A lossless module of `[1, n]` words whose one block is `stream`.
fn coded(stream: Vec<u8>, n: u64) -> Checkpoint {
    let blocks = (stream.len() as u32).to_le_bytes().to_vec();
    let tensors = [
        ("m.weight_shape", Dtype::I64, vec![2], shape(1, n)),
        ("m.weight_packed_blocks", Dtype::U32, vec![1], blocks),
        ("m.weight_packed", Dtype::U8, vec![stream.len()], stream),
    ];
    let group = json!({ "targets": ["m"], "scheme": "lossless", "source_dtype": "bfloat16", "coding": "pco" });
    checkpoint(&tensors, Some(&json!({ "group_0": group })), &json!({}))
}

#[test]
fn block_in_another_mode_is_rejected_before_allocation() {
    let words: Vec<u16> = (0..600).map(|i| i / 3 * 21).collect();
    let stream = |mode, delta| {
        let config = ChunkConfig::default().with_mode_spec(mode).with_delta_spec(delta);
        simple_compress(&words, &config).unwrap()
    };
    let classic = coded(stream(ModeSpec::Classic, DeltaSpec::NoOp), 600);
    let bytes = words.iter().flat_map(|w| w.rotate_right(1).to_le_bytes()).collect::<Vec<u8>>();
    assert_eq!(classic.encoded("m").unwrap().bytes_of_rows(0..1), bytes);
    for (mode, delta) in [
        (ModeSpec::Classic, DeltaSpec::TryConsecutive(1)),
        (ModeSpec::Classic, DeltaSpec::TryLookback),
        (ModeSpec::TryIntMult(21), DeltaSpec::NoOp),
        (ModeSpec::TryDict, DeltaSpec::NoOp),
    ] {
        let error = coded(stream(mode.clone(), delta.clone()), 600).encoded("m").unwrap_err().to_string();
        assert!(error.contains("m.weight_packed") && error.contains("block 0: expected classic"), "{mode:?}: {error}");
    }
}

#[test]
fn companded_f32_value_decoding_to_infinity_is_rejected() {
    let below_one = 1.0_f32.next_down();
    // 2²⁴ − 1 is more than an f16 holds, and times 10³³ more than an f32.
    let tiny = Alpha::new(1e-33).unwrap();
    let value = |u, alpha, source| {
        let format = MatrixFormat::new(Form::CompandedFloat(CompandedFloat { alpha }), source, 1);
        EncodedTensor::from_parts(format, 2, vec![vec![0.5_f32.to_bits(), f32::to_bits(u)]])
    };
    for (u, alpha, source) in [
        (below_one, Alpha::ONE, FloatDtype::F16),
        (-below_one, tiny, FloatDtype::F32),
        (1.0, Alpha::ONE, FloatDtype::Bf16),
        (f32::NAN, Alpha::ONE, FloatDtype::F32),
    ] {
        let found = value(u, alpha, source);
        assert!(matches!(found, Err(EncodeError::Value { row: 1, col: 0, .. })), "{u} {source:?}: {found:?}");
    }
    assert_eq!(value(below_one, Alpha::ONE, FloatDtype::F32).unwrap().decode()[1], 16_777_215.0);
    // Not every f16 near the largest round-trips: those that do not are rejected.
    let encode = |x| EncodedTensor::encode_as(&[x], [1, 1], FloatDtype::F16, &Scheme::CompandedF32.into());
    let rejected = (0..1024).map(|i| 65504.0 - 32.0 * i as f32).filter(|x| encode(*x).is_err()).count();
    let exact =
        (0..1024).map(|i| 65504.0 - 32.0 * i as f32).all(|x| encode(x).is_err() || encode(x).unwrap().decode() == [x]);
    assert!(exact && (1..1024).contains(&rejected), "{rejected}");
}

#[test]
fn huge_row_count_without_columns_takes_no_time() {
    let rows = i64::MAX as usize;
    let modules = ["a", "b", "c"];
    let names = modules.map(|m| [format!("{m}.weight_packed"), format!("{m}.weight_shape"), format!("{m}.weight")]);
    let empty = |name, rows| (name, Dtype::F32, vec![rows, 0], Vec::new());
    let tensors = names.iter().flat_map(|[packed, dimensions, _]| {
        [empty(packed.as_str(), rows), (dimensions, Dtype::I64, vec![2], shape(rows as u64, 0))]
    });
    let group = json!({ "targets": modules, "scheme": "f32", "source_dtype": "float32" });
    let groups = json!({ "group_0": group });
    let encoded = checkpoint(&tensors.collect::<Vec<_>>(), Some(&groups), &json!({ "whole": modules }));
    assert_eq!(encoded.encoded("a").unwrap().shape(), [rows, 0]);

    let plain = names.iter().map(|[_, _, name]| empty(name.as_str(), rows)).collect::<Vec<_>>();
    let plain = checkpoint(&plain, None, &json!({}));
    assert_eq!(verify(&encoded, Some(&plain), &|_| {}).unwrap().modules.len(), 3);

    let place = tempdir().unwrap();
    export(&encoded, &place.path().join("out"), None, &|_| {}).unwrap();

    // Their sum, modulo 2⁶⁴, equals the rows of this matrix.
    let whole = checkpoint(&[empty("whole.weight", rows.wrapping_mul(3))], None, &json!({}));
    let found = verify(&encoded, Some(&whole), &|_| {}).unwrap();
    assert_eq!((found.modules.len(), found.faults.len()), (0, 3));
    assert!(found.faults.iter().all(|fault| fault.to_string().contains("found more")), "{:?}", found.faults);
}

#[test]
fn huge_column_count_without_rows_does_not_overflow() {
    // A row's bytes would overflow; the fuzzer's build has overflow checks.
    let parts = vec![Vec::new(); 2];
    let format = MatrixFormat::new(Form::Lossless, FloatDtype::F32, usize::MAX);
    let encoded = EncodedTensor::from_parts(format, 0, parts).unwrap();
    assert_eq!((encoded.bytes_of_rows(0..0), encoded.decode()), (Vec::new(), Vec::new()));
}
