//! The statistics of linears' inputs, against a direct computation.

use std::collections::BTreeMap;

use burn::tensor::Tensor;
use qins_burn::{
    Error, Projections, Session, calibrate, convert_linear_to_qins,
    decoder::{Decoder, Logits},
    load,
};
use qins_model::{LinearKind, Targets, linears};
use qins_quant::{EncodeOptions, Scheme, checkpoint::Checkpoint, checkpoint::Files};

use crate::common::{device, fixture, values};

/// What sums in f32 and in f64 may differ by, relative to either.
const TOLERANCE: f64 = 1e-5;

const SHORT: [u32; 4] = [5, 17, 40, 3];
const LONG: [u32; 9] = [9, 80, 3, 61, 2, 2, 33, 74, 11];

type Means = BTreeMap<String, Vec<f32>>;

fn checkpoint(name: &str) -> Checkpoint {
    Checkpoint::open(Files::Directory(fixture("phi3").join(name).join("f32"))).unwrap()
}

fn open(name: &str) -> Decoder {
    load(&checkpoint(name), None, &device(), |_, _| {}).unwrap().model
}

fn means(model: &mut Decoder, texts: &[&[u32]]) -> Means {
    let texts: Vec<Vec<u32>> = texts.iter().map(|text| text.to_vec()).collect();
    calibrate(model, &texts, |_, _| {}).unwrap()
}

/// The largest relative difference.
fn difference(found: &[f32], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len());
    found.iter().zip(expected).map(|(&found, expected)| (f64::from(found) / expected - 1.0).abs()).fold(0.0, f64::max)
}

fn assert_no_taps(model: &mut Decoder) {
    let mut plain = 0;
    model
        .visit_projections("model", &mut |_, name, projection| {
            if projection.scheme().is_none() {
                assert!(format!("{projection:?}").contains("stats: None"), "{name}: {projection:?}");
                plain += 1;
            }
            Ok(())
        })
        .unwrap();
    assert!(plain > 0);
}

/// Embedding rows through the norm of block 0, straight from the checkpoint.
fn first_inputs_by_hand(name: &str, text: &[u32]) -> Vec<f64> {
    let checkpoint = checkpoint(name);
    let read =
        |tensor: &str| -> Vec<f64> { checkpoint.plain(tensor).unwrap().widen().into_iter().map(f64::from).collect() };
    let (embedding, gamma) = (read("model.embed_tokens.weight"), read("model.layers.0.input_layernorm.weight"));
    let epsilon = checkpoint.config()["rms_norm_eps"].as_f64().unwrap();
    let hidden = gamma.len();
    let mut means = vec![0.0; hidden];
    for &id in text {
        let x = &embedding[id as usize * hidden..][..hidden];
        let variance = x.iter().map(|x| x * x).sum::<f64>() / hidden as f64;
        for (mean, (x, gamma)) in means.iter_mut().zip(x.iter().zip(&gamma)) {
            *mean += (x * gamma).powi(2) / (variance + epsilon) / text.len() as f64;
        }
    }
    means
}

#[test]
fn first_block_inputs_are_normalised_embeddings() {
    for name in ["a_mha", "b_gqa", "e_tied"] {
        let found = &means(&mut open(name), &[&LONG])["model.layers.0.self_attn.q_proj"];
        let difference_to = |text: &[u32]| difference(found, &first_inputs_by_hand(name, text));
        assert!(difference_to(&LONG) <= TOLERANCE, "{name}: {}", difference_to(&LONG));
        // Control: one token less, and the first counted twice, both differ.
        assert!(difference_to(&LONG[1..]) > 100.0 * TOLERANCE, "{name}");
        assert!(difference_to(&[&LONG[..], &LONG[..1]].concat()) > 100.0 * TOLERANCE, "{name}");
    }
}

/// Every linear has a mean per channel under its name, except an embedding that is not tied.
#[test]
fn every_linear_with_inputs_is_listed() {
    for name in ["a_mha", "b_gqa", "e_tied", "g_phi4mini"] {
        let mut model = open(name);
        let tied = model.lm_head.is_none();
        let expected: BTreeMap<String, usize> = linears(model.config())
            .into_iter()
            .filter(|spec| tied || spec.module != "model.embed_tokens")
            .map(|spec| (spec.module, spec.shape[1]))
            .collect();
        let found = means(&mut model, &[&SHORT]);
        let shapes: BTreeMap<String, usize> = found.iter().map(|(name, means)| (name.clone(), means.len())).collect();
        assert_eq!(shapes, expected, "{name}");
    }
    assert!(open("e_tied").lm_head.is_none() && open("a_mha").lm_head.is_some());
}

#[test]
fn linears_with_shared_input_have_equal_statistics() {
    let mut model = open("b_gqa");
    let layers = model.config().layers.len();
    let found = means(&mut model, &[&SHORT, &LONG]);
    for layer in 0..layers {
        let of = |last: &str| &found[&format!("model.layers.{layer}.{last}")];
        assert_eq!(of("self_attn.k_proj"), of("self_attn.q_proj"));
        assert_eq!(of("self_attn.v_proj"), of("self_attn.q_proj"));
        assert_eq!(of("mlp.up_proj"), of("mlp.gate_proj"));
        // Control: other linears of the same width differ.
        assert_ne!(of("mlp.gate_proj"), of("self_attn.q_proj"));
        assert_ne!(of("self_attn.o_proj"), of("self_attn.q_proj"));
    }
}

/// The head included, which gets all positions of a text, not only the last.
#[test]
fn positions_are_weighted_equally() {
    for name in ["a_mha", "e_tied"] {
        let mut model = open(name);
        let [short, long] = [&SHORT[..], &LONG].map(|text| means(&mut model, &[text]));
        let both = means(&mut model, &[&SHORT, &LONG]);
        let mean = |module: &str, m: usize, n: usize| -> Vec<f64> {
            let pairs = short[module].iter().zip(&long[module]);
            pairs.map(|(&a, &b)| (f64::from(a) * m as f64 + f64::from(b) * n as f64) / (m + n) as f64).collect()
        };
        for (module, found) in &both {
            let weighted = difference(found, &mean(module, SHORT.len(), LONG.len()));
            assert!(weighted <= 1e-6, "{name} {module}: {weighted}");
            assert!(difference(found, &mean(module, 1, 1)) > 100.0 * TOLERANCE, "{name} {module}");
        }
    }
}

#[test]
fn calibration_leaves_the_model_unchanged() {
    let mut model = open("a_mha");
    let logits = |model: &Decoder| -> Vec<u32> {
        let logits = values(Session::new(model, LONG.len()).extend(&LONG, Logits::All).unwrap());
        logits.into_iter().map(f32::to_bits).collect()
    };
    let before = logits(&model);
    let mut steps = Vec::new();
    calibrate(&mut model, &[SHORT.to_vec(), LONG.to_vec()], |done, all| steps.push((done, all))).unwrap();
    assert_eq!(steps, [(0, 2), (1, 2), (2, 2)]);
    assert_eq!(logits(&model), before);
    assert_no_taps(&mut model);
    // The smallest change of one norm is seen.
    model.norm.gamma = model.norm.gamma.map(|gamma| gamma.mul_scalar(1.0 + f32::EPSILON));
    assert_ne!(logits(&model), before);
}

#[test]
fn invalid_texts_are_rejected_before_reading() {
    let mut model = open("a_mha");
    let limit = model.config().max_position_embeddings;
    let good = SHORT.to_vec();
    for (texts, message) in [
        (vec![], "expected at least one text to calibrate on, found none"),
        (vec![good.clone(), vec![]], "expected at least one token, found an empty sequence"),
        (vec![good.clone(), vec![5, 96]], "expected token ids below 96, the model's vocabulary, found 96"),
        (vec![good.clone(), vec![5; limit + 1]], "expected at most 512 tokens, the model's context, found 513"),
    ] {
        let mut started = false;
        let error = calibrate(&mut model, &texts, |_, _| started = true).unwrap_err();
        assert_eq!((error.to_string().as_str(), started), (message, false));
        assert_no_taps(&mut model);
    }
    // The last id and the last position can be read.
    assert!(calibrate(&mut model, &[good, vec![95; limit]], |_, _| {}).is_ok());
}

#[test]
fn encoded_linear_is_rejected_by_name() {
    let mut model = open("a_mha");
    let targets = Targets::Kinds([LinearKind::Down].into());
    convert_linear_to_qins(&mut model, &targets, Scheme::Q8, &EncodeOptions::default()).unwrap();
    let error = calibrate(&mut model, &[SHORT.to_vec()], |_, _| {}).unwrap_err();
    let message = "`model.layers.0.mlp.down_proj`: expected plain weights to calibrate, found them encoded as q8";
    assert_eq!(error.to_string(), message);
    assert_no_taps(&mut model);
}

#[test]
fn overflow_names_the_first_linear() {
    let mut model = open("a_mha");
    let norm = &mut model.layers[1].attention_norms.before.as_mut().unwrap();
    norm.gamma = burn::module::Param::from_tensor(Tensor::full([norm.gamma.val().dims()[0]], 1e30, &device()));
    let error = calibrate(&mut model, &[SHORT.to_vec()], |_, _| {}).unwrap_err();
    assert!(matches!(&error, Error::Inputs { module, .. } if module == "model.layers.1.self_attn.q_proj"), "{error}");
    let message =
        "`model.layers.1.self_attn.q_proj`: expected inputs with a finite mean square, found inf in channel 0";
    assert_eq!(error.to_string(), message);
    assert_no_taps(&mut model);
}
