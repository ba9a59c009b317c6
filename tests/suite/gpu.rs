//! Results on a GPU, against those on the CPU.

use std::{fs, path::PathBuf};

use burn::tensor::{Device, Tensor, TensorData};
use qins_burn::{Backend, Projection, Session, adapters, decoder::Decoder, load, read, scores};
use qins_model::{Policy, Targets};
use qins_quant::{EncodedTensor, FloatDtype};
use qins_quant::{
    Scheme,
    checkpoint::Checkpoint,
    checkpoint::Files,
    kv::{KvForm, KvScheme},
};

use crate::common::{fixture, values};

pub(crate) fn atlas() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../crates/qins/assets/atlas")
}

/// The GPU, whichever backend the other tests use.
pub(crate) fn device() -> Device {
    Backend::Wgpu.device().unwrap()
}

pub(crate) fn cpu() -> Device {
    Backend::Flex.device().unwrap()
}

pub(crate) fn model(dir: PathBuf, policy: Option<&Policy>, device: &Device) -> Decoder {
    let checkpoint = Checkpoint::open(Files::Directory(dir)).unwrap();
    load(&checkpoint, policy, device, |_, _| {}).unwrap().model
}

/// The prompts and continuations of the embedded model's goldens, concatenated and split into texts of equal length, for
/// which kernels are compiled once.
fn texts() -> Vec<Vec<u32>> {
    let goldens: serde_json::Value = serde_json::from_slice(&fs::read(atlas().join("goldens.json")).unwrap()).unwrap();
    let goldens = goldens["goldens"].as_array().unwrap().iter();
    let ids = goldens.flat_map(|golden| ["input_ids", "generated_ids"].map(|name| golden[name].clone()));
    let ids: Vec<u32> = ids.flat_map(|ids| serde_json::from_value::<Vec<u32>>(ids).unwrap()).collect();
    ids.chunks_exact(200).map(<[u32]>::to_vec).collect()
}

pub(crate) fn best(row: &[f32]) -> usize {
    (0..row.len()).max_by(|&a, &b| row[a].total_cmp(&row[b])).unwrap()
}

/// The top-1 agreement of two models, and the number of positions.
fn same_top(a: &Decoder, b: &Decoder, texts: &[Vec<u32>]) -> (f64, usize) {
    let vocabulary = a.config().vocab_size;
    let (mut same, mut all) = (0, 0);
    for ids in texts {
        let (a, b) = (scores(a, ids).unwrap(), scores(b, ids).unwrap());
        for (a, b) in a.chunks_exact(vocabulary).zip(b.chunks_exact(vocabulary)) {
            same += usize::from(best(a) == best(b));
            all += 1;
        }
    }
    (same as f64 / all as f64, all)
}

#[test]
fn top1_agrees_with_cpu() {
    let texts = texts();
    let plain = model(atlas(), None, &cpu());
    let (share, positions) = same_top(&plain, &model(atlas(), None, &device()), &texts);
    assert!(positions > 1000, "{positions}");
    assert!(share >= 0.999, "{share} of {positions}");
    // Control: four bits fail that threshold.
    let policy = Policy::new(Targets::Full, Scheme::Q4);
    let (share, _) = same_top(&plain, &model(atlas(), Some(&policy), &device()), &texts);
    assert!(share < 0.999, "{share}");
}

/// Mean squared difference over mean square.
pub(crate) fn nmse(found: &[f32], truth: &[f32]) -> f64 {
    assert_eq!(found.len(), truth.len());
    let squared = |x: f64| x * x;
    let error: f64 = found.iter().zip(truth).map(|(f, t)| squared(f64::from(*f) - f64::from(*t))).sum();
    error / truth.iter().map(|t| squared(f64::from(*t))).sum::<f64>()
}

/// A device cache gives the same attention as a host cache: with windows, grouped heads, and blocks of tokens that
/// are encoded together; filled in one pass, in chunks, and token by token past its initial capacity.
#[test]
fn device_cache_matches_host_cache() {
    for name in ["b_gqa", "d_sliding"] {
        let dir = || fixture("phi3").join(name).join("f32");
        let (mut there, mut here) = (model(dir(), None, &device()), model(dir(), None, &cpu()));
        let ids: Vec<u32> = (0..150).map(|i| 3 + i * 7 % 90).collect();
        let logits_and_bytes = |model: &Decoder, piece: usize| {
            let mut session = Session::new(model, 70).with_prefill_chunk(piece);
            let mut logits = values(session.extend(&ids[..140], qins_burn::decoder::Logits::Tail(40)).unwrap());
            for id in &ids[140..] {
                logits.extend(values(session.extend(&[*id], qins_burn::decoder::Logits::Last).unwrap()));
            }
            (logits, session.cache().bytes())
        };
        let plain = logits_and_bytes(&here, 512).0;
        for scheme in KvScheme::ALL {
            there.set_kv(scheme);
            here.set_kv(scheme);
            for piece in [512, 50] {
                let (expected, bytes) = logits_and_bytes(&here, piece);
                let (found, device_bytes) = logits_and_bytes(&there, piece);
                let (off, lost) = (nmse(&found, &expected), nmse(&expected, &plain));
                // What describes a channel is a 32-bit word on the device, and three bytes on the host; floats that leave a window are freed on the
                // host only.
                let kept = match scheme.form() {
                    KvForm::Floats(dtype) => {
                        let config = here.config();
                        2 * dtype.size()
                            * ids.len()
                            * config.layers.len()
                            * config.num_key_value_heads
                            * config.head_dim
                    }
                    KvForm::Coded(_) => bytes + bytes / 4,
                };
                assert!((bytes..=kept).contains(&device_bytes), "{name} {scheme}: {device_bytes}, not {bytes}");
                // A hundredth of the error of the encoding itself: some codes round the other way.
                assert!(
                    off <= 1e-2 * lost + 1e-9,
                    "{name} {scheme}, pieces of {piece}: {off:e}, where {lost:e} is lost"
                );
            }
        }
    }
}

/// Products with f16 activations, if the device supports them, are as exact as that type.
#[test]
fn f16_activations_are_as_exact_as_f16() {
    let device = device();
    if !device.supports_dtype(burn::tensor::DType::F16) {
        eprintln!("skipped: this device does not compute in f16");
        return;
    }
    let weights: Vec<f32> = (0..64 * 96).map(|i| ((i * 37 % 101) as f32 - 50.0) / 400.0).collect();
    for scheme in Scheme::ALL {
        let encoded = EncodedTensor::encode(&weights, [64, 96], scheme).unwrap();
        let projection = Projection::new(encoded, &device);
        for m in [1, 3, 20] {
            let x: Vec<f32> = (0..m * 96).map(|i| ((i * 53 % 89) as f32 - 44.0) / 32.0).collect();
            let x = Tensor::<2>::from_data(TensorData::new(x, [m, 96]), &device);
            let expected = values(projection.forward(x.clone()));
            let y = projection.forward(x.cast(burn::tensor::DType::F16));
            assert_eq!(y.dtype(), burn::tensor::DType::F16);
            let off = nmse(&values(y.cast(burn::tensor::DType::F32)), &expected);
            assert!(off > 0.0 && off < 1e-6, "{scheme}, {m}: {off:e}");
        }
    }
}

/// A tensor larger than the device's largest buffer is an error with its size, and leaves the device usable.
#[test]
fn oversized_matrix_is_an_error() {
    let device = device();
    let most = adapters().into_iter().find(|adapter| adapter.used).unwrap().largest_tensor_bytes as usize;
    let rows = most / 4096 + 1;
    if rows > 1 << 18 {
        eprintln!("skipped: this device has buffers of {most} bytes, and this test would allocate as many on the host");
        return;
    }
    let x = || Tensor::<2>::ones([1, 1024], &device);
    let large = Projection::plain(&vec![0.0; rows * 1024], [rows, 1024], FloatDtype::F32, &device);
    let error = read(large.forward(x())).unwrap_err().to_string();
    let bytes = (rows * 4096).to_string();
    assert!(error.starts_with("the device failed: ") && error.contains(&bytes) && !error.contains('\n'), "{error}");
    let small = Projection::plain(&[0.5; 2 * 1024], [2, 1024], FloatDtype::F32, &device);
    assert_eq!(read(small.forward(x())).unwrap(), [512.0, 512.0]);
}
