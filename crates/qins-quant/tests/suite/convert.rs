//! A checkpoint converted, reopened, and compared with its source.

use std::{cell::Cell, fs, thread};

use qins_quant::{
    EncodedTensor, FloatDtype, Scheme,
    checkpoint::{FORMAT_VERSION, Files},
    convert,
    export::export,
    verify::verify,
};
use serde_json::{Value, json};

use crate::common::{CONFIG, ENCODED, Home, Shards, bits, list, open, parts, plain_model, read, write_shard};

const DTYPES: [FloatDtype; 3] = [FloatDtype::F32, FloatDtype::F16, FloatDtype::Bf16];

fn for_every_kind(mut check: impl FnMut(Home, FloatDtype, Shards, &str)) {
    for dtype in DTYPES {
        for shards in [Shards::One, Shards::Two] {
            check(Home::new(dtype, shards), dtype, shards, &format!("{dtype:?} {shards:?}"));
        }
    }
}

/// Rows of a stored tensor.
fn rows_of(home: &Home, tensor: &str, rows: std::ops::Range<usize>) -> Vec<f32> {
    let plain = open(&home.path("plain")).unwrap();
    let all = plain.plain(tensor).unwrap().widen();
    all[rows.start * 8..rows.end * 8].to_vec()
}

#[test]
fn encoded_modules_read_back_equal_encoded_tensors() {
    for_every_kind(|home, dtype, _, what| {
        home.convert("plain", "encoded").unwrap();
        let checkpoint = open(&home.path("encoded")).unwrap();
        let sources = [("layer.qkv_proj.weight", 0..4), ("layer.qkv_proj.weight", 4..6), ("layer.o_proj.weight", 0..3)];
        for ((module, shape), (tensor, rows)) in ENCODED.into_iter().zip(sources) {
            assert!(checkpoint.is_encoded(module), "{what}");
            let found = checkpoint.encoded(module).unwrap();
            let weights = rows_of(&home, tensor, rows);
            let expected = EncodedTensor::encode_as(&weights, shape, dtype, &found.scheme().into()).unwrap();
            assert_eq!(found, expected, "{what} {module}");
            let (mut a, mut b) = (vec![0.0; weights.len()], vec![1.0; weights.len()]);
            found.decode_into(&mut a);
            expected.decode_into(&mut b);
            assert_eq!(bits(&a), bits(&b), "{what} {module}");
            let lossless = found.scheme() == Scheme::CompandedF32 && dtype != FloatDtype::F32;
            assert_eq!(bits(&a) == bits(&weights), lossless, "{what} {module}");
        }
    });
}

#[test]
fn other_tensors_are_copied_bit_for_bit() {
    for_every_kind(|home, _, shards, what| {
        home.convert("plain", "encoded").unwrap();
        let (plain, encoded) = (open(&home.path("plain")).unwrap(), open(&home.path("encoded")).unwrap());
        for name in ["embed.weight", "lm_head.weight", "norm.weight", "positions"] {
            assert_eq!(encoded.raw(name), plain.raw(name), "{what} {name}");
        }
        // A plain linear of a fused matrix that was split.
        let fused = plain.plain_rows("layer.qkv_proj.weight", [8, 8], 6..8).unwrap();
        assert_eq!(encoded.plain("layer.v_proj.weight").unwrap().bytes, fused.bytes, "{what}");
        let mut names: Vec<&str> = encoded.tensors().collect();
        names.retain(|name| !name.contains(".weight_"));
        assert_eq!(names, ["embed.weight", "layer.v_proj.weight", "lm_head.weight", "norm.weight", "positions"]);
        assert_eq!(encoded.tensors().count() - names.len(), 4 + 2 + 4, "{what}");
        assert!(plain.shards().eq(encoded.shards()), "{what}");
        assert_eq!(home.path("encoded/model.safetensors.index.json").exists(), shards == Shards::Two, "{what}");
        let bytes: usize = encoded.tensors().map(|name| encoded.raw(name).unwrap().2.len()).sum();
        assert_eq!(encoded.tensor_bytes(), bytes);
    });
}

#[test]
fn conversion_is_deterministic() {
    for shards in [Shards::One, Shards::Two] {
        let home = Home::new(FloatDtype::Bf16, shards);
        home.convert("plain", "one").unwrap();
        home.convert("plain", "two").unwrap();
        assert_eq!(list(&home.path("one")), list(&home.path("two")));
        for name in list(&home.path("one")) {
            assert_eq!(
                fs::read(home.path("one").join(&name)).unwrap(),
                fs::read(home.path("two").join(&name)).unwrap()
            );
        }
        assert_eq!(home.list(), ["one", "plain", "two"]);
    }
}

#[test]
fn config_keeps_its_entries_and_lists_encoded_modules() {
    let home = Home::encoded(Shards::One);
    let mut config: Value = serde_json::from_slice(&fs::read(home.path("encoded/config.json")).unwrap()).unwrap();
    let quantization = config.as_object_mut().unwrap().remove("quantization_config").unwrap();
    let expected = json!({
        "quant_method": "qins",
        "format_version": FORMAT_VERSION,
        "config_groups": {
            "group_0": { "targets": ["layer.k_proj"], "scheme": "f32", "source_dtype": "bfloat16" },
            "group_1": { "targets": ["layer.o_proj", "layer.q_proj"], "scheme": "q8", "source_dtype": "bfloat16" },
        },
        "ignore": ["layer.v_proj", "lm_head"],
        "fused": { "layer.qkv_proj": ["layer.q_proj", "layer.k_proj", "layer.v_proj"] },
    });
    assert_eq!(quantization, expected);
    assert_eq!(config, serde_json::from_str::<Value>(CONFIG).unwrap());
}

#[test]
fn config_numbers_keep_every_digit() {
    let home = Home::new(FloatDtype::Bf16, Shards::One);
    // Shortest decimals of doubles, some of which an inexact parser would change.
    let mut state = 1_u64;
    let numbers: Vec<f64> = (0..20_000)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            f64::from_bits(state >> 12 | 0x3ff0_0000_0000_0000) * 10_f64.powi((state % 60) as i32 - 30)
        })
        .collect();
    let text = numbers.iter().map(|n| format!("{n:e}")).collect::<Vec<_>>().join(", ");
    fs::write(home.path("plain/config.json"), format!("{{\"numbers\": [{text}]}}")).unwrap();
    home.convert("plain", "encoded").unwrap();
    let written = fs::read_to_string(home.path("encoded/config.json")).unwrap();
    let list = written.split_once("\"numbers\": [").unwrap().1.split_once(']').unwrap().0;
    let bent = list.split(',').zip(&numbers).filter(|(text, n)| text.trim().parse::<f64>().unwrap() != **n).count();
    assert_eq!(bent, 0, "of {} numbers", numbers.len());
}

#[test]
fn auxiliary_files_are_copied_and_other_weights_are_not() {
    let home = Home::new(FloatDtype::Bf16, Shards::Two);
    let kept: [(&str, &[u8]); 4] =
        [("tokenizer.json", b"{}"), ("LICENSE", b"free\n"), ("vocab.txt", b"\xff\x00"), (".gitattributes", b"")];
    for (name, content) in kept {
        fs::write(home.path("plain").join(name), content).unwrap();
    }
    for name in ["pytorch_model.bin", "pytorch_model.bin.index.json", "other.safetensors", "a.gguf"] {
        fs::write(home.path("plain").join(name), b"other weights").unwrap();
    }
    fs::create_dir(home.path("plain/original")).unwrap();
    home.convert("plain", "encoded").unwrap();
    for (name, content) in kept {
        assert_eq!(fs::read(home.path("encoded").join(name)).unwrap(), content, "{name}");
    }
    let mut expected = kept.map(|(name, _)| name).to_vec();
    expected.extend(["config.json", "model.safetensors.index.json", "a-1-of-2.safetensors", "a-2-of-2.safetensors"]);
    expected.sort_unstable();
    assert_eq!(list(&home.path("encoded")), expected);
}

#[test]
fn progress_adds_up_to_source_bytes() {
    let home = Home::new(FloatDtype::Bf16, Shards::Two);
    let sum = Cell::new(0);
    let source = open(&home.path("plain")).unwrap();
    let progress = |bytes| sum.set(sum.get() + bytes);
    convert::convert(&source, &home.path("encoded"), &parts, &progress).unwrap();
    assert_eq!(sum.take(), source.tensor_bytes() as u64);
    let encoded = open(&home.path("encoded")).unwrap();
    export(&encoded, &home.path("back"), None, &progress).unwrap();
    assert_eq!(sum.take(), encoded.tensor_bytes() as u64);
    let decoded: usize = encoded.encoded_modules().map(|module| encoded.bytes_of_module(module).unwrap()).sum();
    verify(&encoded, Some(&source), &progress).unwrap();
    assert_eq!(sum.take(), (encoded.tensor_bytes() + decoded) as u64);
}

#[test]
fn whole_fused_matrix_is_ignored_under_each_linear_name() {
    let home = Home::new(FloatDtype::Bf16, Shards::One);
    let whole = |tensor: &str, shape: &[usize]| {
        let mut parts = parts(tensor, shape)?;
        parts.iter_mut().for_each(|part| part.recipe = None);
        Some(parts)
    };
    let source = open(&home.path("plain")).unwrap();
    convert::convert(&source, &home.path("out"), &whole, &|_| {}).unwrap();
    let out = open(&home.path("out")).unwrap();
    assert_eq!(out.raw("layer.qkv_proj.weight"), source.raw("layer.qkv_proj.weight"));
    let mut ignore = out.quantization().unwrap().ignore.clone();
    ignore.sort();
    assert_eq!(ignore, ["layer.k_proj", "layer.o_proj", "layer.q_proj", "layer.v_proj", "lm_head"]);
}

#[test]
fn empty_target_and_missing_parents_are_created() {
    let home = Home::new(FloatDtype::Bf16, Shards::One);
    fs::create_dir(home.path("empty")).unwrap();
    for out in ["empty", "deep/er/out"] {
        home.convert("plain", out).unwrap();
        read(&home.path(out)).unwrap();
    }
    assert_eq!(home.list(), ["deep", "empty", "plain"]);
    assert_eq!(list(&home.path("deep/er")), ["out"]);
}

#[test]
fn symbolic_links_are_copied_as_files() {
    #[cfg(unix)]
    {
        let home = Home::new(FloatDtype::Bf16, Shards::Two);
        fs::create_dir(home.path("links")).unwrap();
        for name in list(&home.path("plain")) {
            std::os::unix::fs::symlink(home.path("plain").join(&name), home.path("links").join(&name)).unwrap();
        }
        home.convert("links", "one").unwrap();
        home.convert("plain", "two").unwrap();
        for name in list(&home.path("two")) {
            assert!(fs::symlink_metadata(home.path("one").join(&name)).unwrap().is_file(), "{name} is a link");
            assert_eq!(
                fs::read(home.path("one").join(&name)).unwrap(),
                fs::read(home.path("two").join(&name)).unwrap()
            );
        }
    }
}

#[test]
#[cfg(unix)]
fn checkpoint_has_default_permissions() {
    use std::os::unix::fs::PermissionsExt;
    let home = Home::new(FloatDtype::Bf16, Shards::One);
    home.convert("plain", "encoded").unwrap();
    let mode = |name: &str| fs::metadata(home.path(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode("encoded"), mode("plain"));
    for file in ["model.safetensors", "config.json"] {
        assert_eq!(mode(&format!("encoded/{file}")), mode("plain/config.json"), "{file}");
    }
}

#[test]
fn concurrent_conversions_leave_one_whole_checkpoint() {
    let home = Home::new(FloatDtype::Bf16, Shards::Two);
    let won = thread::scope(|scope| {
        let all: Vec<_> = (0..8).map(|_| scope.spawn(|| home.convert("plain", "out").is_ok())).collect();
        all.into_iter().map(|one| one.join().unwrap()).filter(|won| *won).count()
    });
    assert_eq!(won, 1);
    read(&home.path("out")).unwrap();
    assert_eq!(home.list(), ["out", "plain"]);
}

#[test]
fn embedded_files_open_like_a_directory() {
    let home = Home::encoded(Shards::One);
    let read = |name: &str| &*fs::read(home.path("encoded").join(name)).unwrap().leak();
    let files =
        Box::leak(Box::new([("config.json", read("config.json")), ("model.safetensors", read("model.safetensors"))]));
    let embedded = qins_quant::checkpoint::Checkpoint::open(Files::Embedded { name: "tiny", files }).unwrap();
    let mapped = open(&home.path("encoded")).unwrap();
    for (module, _) in ENCODED {
        assert_eq!(embedded.encoded(module).unwrap(), mapped.encoded(module).unwrap());
    }
    let error = embedded.encoded("nothing").unwrap_err().to_string();
    assert!(error.contains("tiny") && error.contains("nothing"), "{error}");
}

#[test]
fn rows_outside_a_matrix_are_rejected() {
    let home = Home::new(FloatDtype::Bf16, Shards::One);
    let plain = open(&home.path("plain")).unwrap();
    let rows = |from: usize, to: usize| plain.plain_rows("layer.o_proj.weight", [3, 8], from..to);
    assert_eq!(rows(1, 3).unwrap().bytes, &plain.plain("layer.o_proj.weight").unwrap().bytes[16..]);
    assert!(rows(3, 3).unwrap().bytes.is_empty());
    for (from, to) in [(0, 4), (2, 1), (4, 4), (0, usize::MAX), (0, 1 << 60), (1 << 60, 1 << 60)] {
        let error = rows(from, to).unwrap_err().to_string();
        assert!(error.contains("layer.o_proj.weight") && error.contains(&format!("{from}..{to}")), "{error}");
    }
    assert!(plain.plain_rows("layer.o_proj.weight", [8, 3], 0..1).is_err());
}

#[test]
fn rows_of_an_empty_matrix_with_huge_columns_are_rejected() {
    let home = Home::new(FloatDtype::Bf16, Shards::One);
    let mut tensors = plain_model(FloatDtype::Bf16);
    tensors[0].shape = vec![0, 1 << 62];
    tensors[0].bytes.clear();
    write_shard(&home.path("plain/model.safetensors"), &tensors);
    let plain = open(&home.path("plain")).unwrap();
    assert!(plain.plain_rows("embed.weight", [0, 1 << 62], 0..0).unwrap().bytes.is_empty());
    assert!(plain.plain_rows("embed.weight", [0, 1 << 62], 0..5).is_err());
}
