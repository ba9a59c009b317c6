//! Export to a plain checkpoint, and verification.

use std::{cell::Cell, fs};

use qins_quant::{
    FloatDtype, Scheme,
    convert::Part,
    export::export,
    verify::{Verification, verify},
};
use serde_json::Value;

use crate::common::{CONFIG, Home, Shards, bits, edit_tensor, list, open, parts};

/// Every linear of the tiny model in one scheme.
fn all_in(scheme: Scheme) -> impl Fn(&str, &[usize]) -> Option<Vec<Part>> {
    move |tensor, shape| {
        let mut parts = parts(tensor, shape)?;
        parts.iter_mut().for_each(|part| part.recipe = Some(scheme.into()));
        Some(parts)
    }
}

fn check(home: &Home, source: Option<&str>) -> Verification {
    let source = source.map(|name| open(&home.path(name)).unwrap());
    verify(&open(&home.path("out")).unwrap(), source.as_ref(), &|_| {}).unwrap()
}

#[test]
fn export_of_lossless_is_byte_identical() {
    for dtype in [FloatDtype::F32, FloatDtype::F16, FloatDtype::Bf16] {
        for shards in [Shards::One, Shards::Two] {
            let home = Home::new(dtype, shards);
            home.convert_parts("plain", "out", &all_in(Scheme::Lossless)).unwrap();
            let out = open(&home.path("out")).unwrap();
            let read = Cell::new(0);
            export(&out, &home.path("back"), None, &|bytes| read.set(read.get() + bytes)).unwrap();
            let (plain, back) = (open(&home.path("plain")).unwrap(), open(&home.path("back")).unwrap());
            assert!(plain.tensors().eq(back.tensors()) && plain.shards().eq(back.shards()), "{dtype:?} {shards:?}");
            for tensor in plain.tensors() {
                assert_eq!(plain.raw(tensor), back.raw(tensor), "{dtype:?} {shards:?} {tensor}");
            }
            assert_eq!(read.get(), out.tensor_bytes() as u64);
            let config: Value = serde_json::from_slice(&fs::read(home.path("back/config.json")).unwrap()).unwrap();
            assert_eq!(config, serde_json::from_str::<Value>(CONFIG).unwrap());
            assert_eq!(list(&home.path("back")), list(&home.path("plain")));
        }
    }
}

#[test]
fn export_of_lossy_equals_decoded_weights_in_the_requested_dtype() {
    let home = Home::new(FloatDtype::Bf16, Shards::One);
    // q as q8, k as floats, v plain: joined in one matrix again.
    home.convert("plain", "out").unwrap();
    fs::write(home.path("out/config.json"), {
        let mut config: Value = serde_json::from_slice(&fs::read(home.path("out/config.json")).unwrap()).unwrap();
        config["torch_dtype"] = "bfloat16".into();
        config.to_string()
    })
    .unwrap();
    let out = open(&home.path("out")).unwrap();
    let [q, k] = ["layer.q_proj", "layer.k_proj"].map(|module| out.encoded(module).unwrap().decode());
    let v = out.plain("layer.v_proj.weight").unwrap().widen();
    let fused = [q, k, v].concat();
    for dtype in [None, Some(FloatDtype::Bf16), Some(FloatDtype::F16), Some(FloatDtype::F32)] {
        let name = format!("{dtype:?}");
        export(&out, &home.path(&name), dtype, &|_| {}).unwrap();
        let back = open(&home.path(&name)).unwrap();
        let to = dtype.unwrap_or(FloatDtype::Bf16);
        let found = back.plain("layer.qkv_proj.weight").unwrap();
        assert_eq!((found.dtype, found.shape), (to, &[8, 8][..]), "{name}");
        assert_eq!(bits(&found.widen()), fused.iter().map(|x| to.round(*x).to_bits()).collect::<Vec<_>>(), "{name}");
        // The norm is F32 in the source, the positions are integers.
        assert_eq!(back.plain("norm.weight").unwrap().dtype, dtype.unwrap_or(FloatDtype::F32), "{name}");
        assert_eq!(back.raw("positions"), out.raw("positions"), "{name}");
        let config: Value = serde_json::from_slice(&fs::read(home.path(&name).join("config.json")).unwrap()).unwrap();
        let kept = serde_json::to_value(to).unwrap();
        assert_eq!((&config["torch_dtype"], config.get("quantization_config")), (&kept, None), "{name}");
    }
    let error = export(&open(&home.path("plain")).unwrap(), &home.path("no"), None, &|_| {}).unwrap_err().to_string();
    assert!(error.contains("config.json") && error.contains("expected an encoded checkpoint"), "{error}");
    assert!(!home.path("no").exists());
}

#[test]
fn verify_of_intact_checkpoint_finds_no_faults_and_measures_fidelity() {
    for shards in [Shards::One, Shards::Two] {
        let home = Home::new(FloatDtype::Bf16, shards);
        home.convert("plain", "out").unwrap();
        let out = open(&home.path("out")).unwrap();
        let found = check(&home, Some("plain"));
        assert!(found.faults.is_empty(), "{:?}", found.faults);
        assert_eq!(found.checksums, out.tensors().count());
        let modules: Vec<_> = found.modules.iter().map(|m| (&*m.name, m.scheme)).collect();
        let expected =
            [("layer.k_proj", Scheme::CompandedF32), ("layer.o_proj", Scheme::Q8), ("layer.q_proj", Scheme::Q8)];
        assert_eq!(modules, expected);
        assert_eq!((found.modules[0].fidelity.sqnr_db(), found.modules[0].fidelity.changed), (None, 0));
        for module in &found.modules[1..] {
            let db = module.fidelity.sqnr_db().unwrap();
            assert!((38.0..60.0).contains(&db) && module.fidelity.cosine().unwrap() > 0.9999, "{db} dB");
        }
        assert_eq!(check(&home, None).modules, []);
    }
}

#[test]
fn verify_finds_every_flipped_byte() {
    let home = Home::new(FloatDtype::Bf16, Shards::One);
    home.convert_parts("plain", "out", &all_in(Scheme::Lossless)).unwrap();
    let path = home.path("out/model.safetensors");
    let good = fs::read(&path).unwrap();
    let start = 8 + u64::from_le_bytes(good[..8].try_into().unwrap()) as usize;
    for at in start..good.len() {
        let mut file = good.clone();
        file[at] ^= 0x10;
        fs::write(&path, file).unwrap();
        let faults = check(&home, None).faults;
        assert!(!faults.is_empty() && faults[0].to_string().contains("checksum"), "byte {at}: {faults:?}");
    }
    fs::write(&path, good).unwrap();
    assert!(check(&home, Some("plain")).faults.is_empty());
}

#[test]
fn verify_finds_a_different_source() {
    let fault = |scheme: Scheme, tensor: &str| {
        let home = Home::new(FloatDtype::Bf16, Shards::One);
        home.convert_parts("plain", "out", &all_in(scheme)).unwrap();
        edit_tensor(&home.path("plain/model.safetensors"), tensor, |bytes| bytes[0] ^= 1);
        let faults = check(&home, Some("plain")).faults;
        faults.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    for (tensor, named) in [
        ("layer.qkv_proj.weight", "layer.q_proj.weight_packed"),
        ("lm_head.weight", "lm_head.weight_packed"),
        ("embed.weight", "embed.weight"),
        ("norm.weight", "norm.weight"),
        ("positions", "positions"),
    ] {
        let found = fault(Scheme::Lossless, tensor);
        assert!(found.len() == 1 && found[0].contains(named), "{tensor}: {found:?}");
    }
    // With lossy schemes only copied tensors must be identical.
    assert_eq!(fault(Scheme::Q8, "lm_head.weight"), [""; 0]);
    assert_eq!(fault(Scheme::Q8, "norm.weight").len(), 1);
    // Plain rows of a split matrix.
    let home = Home::new(FloatDtype::Bf16, Shards::One);
    home.convert("plain", "out").unwrap();
    edit_tensor(&home.path("plain/model.safetensors"), "layer.qkv_proj.weight", |bytes| {
        *bytes.last_mut().unwrap() ^= 1
    });
    let faults = check(&home, Some("plain")).faults;
    assert!(faults.len() == 1 && faults[0].to_string().contains("layer.v_proj.weight"), "{faults:?}");
    // A source of other shapes, and one that is encoded itself.
    let error = verify(&open(&home.path("out")).unwrap(), Some(&open(&home.path("out")).unwrap()), &|_| {});
    assert!(error.unwrap_err().to_string().contains("expected a plain checkpoint as the source"));
}

#[test]
fn verify_of_plain_checkpoint_finds_no_faults() {
    let home = Home::new(FloatDtype::Bf16, Shards::Two);
    let found = verify(&open(&home.path("plain")).unwrap(), None, &|_| {}).unwrap();
    assert_eq!((found.checksums, found.faults.len()), (0, 0));
}
