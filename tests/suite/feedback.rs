//! Error feedback from a calibration, against direct computations and as conversions use it.

use std::{collections::BTreeMap, error::Error, fs, path::Path, sync::Arc};

use qins_burn::{
    BlockCalibration, Projection, Projections, Session, calibrate,
    decoder::{Decoder, Logits},
    load,
};
use qins_model::{CalibrationTexts, Conversion, LinearKind, LinearSpec, ModelConfig, Policy, Targets, linears};
use qins_quant::{
    Calibration, Effort, EncodeOptions, EncodedTensor, Feedback, FloatDtype, Recipe, Scheme,
    checkpoint::{Checkpoint, Files},
    convert::Part,
    mixture::{Fits, Linear, SCHEMES},
};

use crate::common::{device, fixture, values};

const SHORT: [u32; 4] = [5, 17, 40, 3];
const LONG: [u32; 9] = [9, 80, 3, 61, 2, 2, 33, 74, 11];

fn checkpoint(name: &str) -> Checkpoint {
    Checkpoint::open(Files::Directory(fixture("phi3").join(name).join("f32"))).unwrap()
}

/// Two texts that begin alike; more than the channels of the widest input, of tokens that differ.
fn texts() -> CalibrationTexts {
    let text = |seed: u32| -> Vec<u32> { (0..200).map(|i| (i * i * 7 + i * seed) % 96).collect() };
    CalibrationTexts { texts: vec![SHORT.to_vec(), LONG.to_vec(), text(5), text(11)], firsts: vec![1, 7] }
}

fn importance(calibration: &mut dyn Calibration, module: &str) -> Option<Arc<[f32]>> {
    calibration.importance(module).unwrap()
}

/// The largest relative difference.
fn difference(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len());
    found.iter().zip(expected).map(|(found, expected)| (found / expected - 1.0).abs()).fold(0.0, f32::max)
}

/// Block by block, the inputs of every linear are those of the whole model, but for the weight of first positions.
#[test]
fn inputs_are_those_of_the_whole_model() {
    for name in ["a_mha", "b_gqa", "c_longrope", "d_sliding", "e_tied", "g_phi4mini"] {
        let checkpoint = checkpoint(name);
        let mut model = load(&checkpoint, None, &device(), |_, _| {}).unwrap().model;
        let whole = calibrate(&mut model, &texts().texts, |_, _| {}).unwrap();
        // Of single tokens, the first positions.
        let mut firsts: Vec<u32> = texts().texts.iter().map(|text| text[0]).chain(texts().firsts).collect();
        firsts.sort_unstable();
        firsts.dedup();
        let firsts: Vec<Vec<u32>> = firsts.into_iter().map(|id| vec![id]).collect();
        let of_firsts = calibrate(&mut model, &firsts, |_, _| {}).unwrap();
        let mut found = BlockCalibration::new(&checkpoint, &texts(), Effort::Good, &device()).unwrap();
        for spec in linears(model.config()) {
            let module = &spec.module;
            let Some(expected) = whole.get(module) else {
                assert!(importance(&mut found, module).is_none() && found.place(module).is_none(), "{module}");
                continue;
            };
            let mixed: Vec<f32> = match spec.kind {
                LinearKind::Q | LinearKind::K | LinearKind::V => {
                    expected.iter().zip(&of_firsts[module]).map(|(all, first)| 0.8 * all + 0.2 * first).collect()
                }
                _ => expected.clone(),
            };
            let means = importance(&mut found, module).unwrap();
            // Products are rounded to 16 bits here, and some channels have inputs that nearly cancel.
            assert!(difference(&means, &mixed) < 1e-3, "{name} {module}: {}", difference(&means, &mixed));
            // The same after factoring, which all linears of an input share.
            let feedback = found.feedback(module).unwrap().unwrap();
            assert_eq!((feedback.cols(), feedback.importance()), (spec.shape[1], &means), "{name} {module}");
            assert_eq!(importance(&mut found, module).unwrap(), means);
            // Control: other texts have other inputs.
            assert!(difference(&means, &of_firsts[module]) > 1e-2, "{name} {module}");
        }
        assert!(importance(&mut found, "model.layers.0.nothing").is_none());
    }
}

#[test]
fn asking_in_any_order_gives_the_same_feedback() {
    let checkpoint = checkpoint("e_tied");
    let new = || BlockCalibration::new(&checkpoint, &texts(), Effort::Best, &device()).unwrap();
    let modules = ["model.layers.0.mlp.down_proj", "model.layers.1.self_attn.k_proj", "model.embed_tokens"];
    let of = |order: [usize; 3]| -> BTreeMap<usize, _> {
        let mut calibration = new();
        order.into_iter().map(|i| (i, calibration.feedback(modules[i]).unwrap().unwrap())).collect()
    };
    let forwards = of([0, 1, 2]);
    assert!(forwards == of([2, 1, 0]) && forwards == of([1, 2, 0]));
    assert!(forwards[&0] != forwards[&1]);
    let calibration = new();
    let place = |i: usize| calibration.place(modules[i]);
    assert!(place(0) < place(1) && place(1) < place(2) && place(0).is_some());
}

#[test]
fn texts_that_the_model_cannot_read_are_rejected() {
    let checkpoint = checkpoint("a_mha");
    let error = |texts: CalibrationTexts| {
        BlockCalibration::new(&checkpoint, &texts, Effort::Good, &device()).map(drop).unwrap_err().to_string()
    };
    let texts = |texts: Vec<Vec<u32>>, firsts: Vec<u32>| CalibrationTexts { texts, firsts };
    assert_eq!(error(texts(vec![], vec![])), "expected at least one text to calibrate on, found none");
    assert_eq!(error(texts(vec![vec![]], vec![])), "expected at least one token, found an empty sequence");
    let outside = "expected token ids below 96, the model's vocabulary, found 96";
    assert_eq!(error(texts(vec![vec![96]], vec![])), outside);
    assert_eq!(error(texts(vec![vec![1]], vec![96])), outside);
    let long = "expected at most 512 tokens, the model's context, found 513";
    assert_eq!(error(texts(vec![vec![1; 513]], vec![])), long);
}

/// The moments of a linear's inputs are those of the mean of the plain model's and of the one's with the linears that are encoded so
/// far. The mean square of two numbers' mean is the mean of their mean squares less a quarter of their difference's, which is below
/// the bound with 8 bits.
#[test]
fn calibration_follows_what_is_encoded() {
    for name in ["b_gqa", "e_tied"] {
        let checkpoint = checkpoint(name);
        let [plain, mut mixed] = [0, 1].map(|_| load(&checkpoint, None, &device(), |_, _| {}).unwrap().model);
        let firsts: Vec<Vec<u32>> = {
            let mut ids: Vec<u32> = texts().texts.iter().map(|text| text[0]).chain(texts().firsts).collect();
            ids.sort_unstable();
            ids.dedup();
            ids.into_iter().map(|id| vec![id]).collect()
        };
        // Of all texts, and for q, k and v of first positions too.
        let means = |model: &mut Decoder, spec: &LinearSpec| {
            let mut of = |texts: &[Vec<u32>]| calibrate(model, texts, |_, _| {}).unwrap().remove(&spec.module).unwrap();
            let (all, first) = (of(&texts().texts), of(&firsts));
            let share = if spec.kind.first_of_input() == LinearKind::Q { 0.2 } else { 0.0 };
            all.iter().zip(first).map(|(all, first)| (1.0 - share) * all + share * first).collect::<Vec<f32>>()
        };
        let mut plain = plain;
        let mut found = BlockCalibration::new(&checkpoint, &texts(), Effort::Good, &device()).unwrap();
        let options = EncodeOptions { effort: Effort::Good, ..EncodeOptions::default() };
        let mut farthest = 0.0_f32;
        for spec in linears(plain.config()).iter().filter(|spec| spec.module.contains("layers")) {
            let of_both = [&mut plain, &mut mixed].map(|model| means(model, spec));
            let expected: Vec<f32> = of_both[0].iter().zip(&of_both[1]).map(|(a, b)| 0.5 * (a + b)).collect();
            let recipe = Recipe::new(Scheme::Q8g, options).calibrated(&spec.module, &mut found).unwrap();
            let means = recipe.feedback.as_ref().unwrap().importance().clone();
            assert!(difference(&means, &expected) < 1e-3, "{name} {}: {}", spec.module, difference(&means, &expected));
            farthest = farthest.max(difference(&means, &of_both[0]));
            let weights = spec.plain(&checkpoint).unwrap().1.widen();
            let encoded = EncodedTensor::encode_as(&weights, spec.shape, FloatDtype::F32, &recipe).unwrap();
            assert!(found.follows(&spec.module));
            found.encoded(&spec.module, &encoded).unwrap();
            let decoded = Projection::plain(&encoded.decode(), spec.shape, FloatDtype::F32, &device());
            mixed
                .visit_projections("model", &mut |_, module, projection| {
                    if module == spec.module {
                        *projection = decoded.clone();
                    }
                    Ok(())
                })
                .unwrap();
        }
        // Control: those of the plain model are others.
        assert!(farthest > 5e-3, "{name}: {farthest}");
        assert!(!found.follows("lm_head") && !found.follows("model.embed_tokens"));
    }
}

fn policy(scheme: Scheme, effort: Effort) -> Policy {
    let options = EncodeOptions { effort, ..EncodeOptions::default() };
    let policy = Policy::new(Targets::Full, Recipe::new(scheme, options));
    Policy { calibration: Some(Arc::new(texts())), ..policy }
}

fn convert(checkpoint: &Checkpoint, policy: Policy, calibrated: bool, out: &Path) {
    let effort = policy.recipe.options.effort;
    let mut calibration = BlockCalibration::new(checkpoint, &texts(), effort, &device()).unwrap();
    let conversion = Conversion::of(checkpoint).unwrap().policy(policy);
    let conversion = if calibrated { conversion.calibration(&mut calibration) } else { conversion };
    conversion.write(out).unwrap();
}

/// A converted model is the one that is encoded while loading, on any number of threads; its outputs are nearer to the plain
/// model's than without feedback.
#[test]
fn conversion_and_loading_give_the_same_model_which_says_more_of_the_plain_one() {
    let home = tempfile::tempdir().unwrap();
    for name in ["b_gqa", "e_tied"] {
        let checkpoint = checkpoint(name);
        let logits = |checkpoint: &Checkpoint, policy: Option<&Policy>| {
            let model = load(checkpoint, policy, &device(), |_, _| {}).unwrap().model;
            texts()
                .texts
                .iter()
                .map(|ids| values(Session::new(&model, ids.len()).extend(ids, Logits::All).unwrap()))
                .collect::<Vec<_>>()
                .concat()
        };
        let plain = logits(&checkpoint, None);
        let error = |found: &[f32]| found.iter().zip(&plain).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>();
        let mut errors = Vec::new();
        for effort in [Effort::Fast, Effort::Good, Effort::Best] {
            let out = home.path().join(format!("{name}-{effort}"));
            convert(&checkpoint, policy(Scheme::Q3, effort), true, &out);
            let written = Checkpoint::open(Files::Directory(out.clone())).unwrap();
            let found = logits(&written, None);
            assert_eq!(found, logits(&checkpoint, Some(&policy(Scheme::Q3, effort))), "{name} {effort}");
            errors.push(error(&found));
            let measured = &written.quantization().unwrap().output_sqnr_db;
            let expected = if effort == Effort::Fast { 0 } else { written.encoded_modules().count() };
            // An embedding that is not tied to the head has no inputs.
            assert!(measured.len() == expected || measured.len() + 1 == expected, "{name} {effort}: {measured:?}");
            assert!(measured.values().all(|db| (5.0..60.0).contains(db)), "{measured:?}");
            let pool = burn_pool(3);
            let again = home.path().join(format!("{name}-{effort}-again"));
            pool.install(|| convert(&checkpoint, policy(Scheme::Q3, effort), true, &again));
            let bytes = |dir: &Path| -> BTreeMap<_, _> {
                let files = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
                files.map(|path| (path.file_name().unwrap().to_owned(), fs::read(path).unwrap())).collect()
            };
            assert!(bytes(&out) == bytes(&again), "{name} {effort}: another number of threads, other bytes");
        }
        let out = home.path().join(format!("{name}-alone"));
        let mut alone = Alone(BlockCalibration::new(&checkpoint, &texts(), Effort::Good, &device()).unwrap());
        let conversion = Conversion::of(&checkpoint).unwrap().policy(policy(Scheme::Q3, Effort::Good));
        conversion.calibration(&mut alone).write(&out).unwrap();
        let without = error(&logits(&Checkpoint::open(Files::Directory(out)).unwrap(), None));
        // Control: linears that do not make up for errors before them.
        assert!(errors[1] < 0.9 * without && without < errors[0], "{name}: {errors:?}, {without} without");
        // The inputs of random weights depend on each other but little.
        assert!(errors[1] < 0.95 * errors[0] && errors[2] < 0.95 * errors[0], "{name}: {errors:?}");
    }
}

/// A calibration that is not told of what is encoded.
struct Alone<'a>(BlockCalibration<'a>);

impl Calibration for Alone<'_> {
    fn place(&self, module: &str) -> Option<usize> {
        self.0.place(module)
    }

    fn importance(&mut self, module: &str) -> Result<Option<Arc<[f32]>>, Box<dyn Error + Send + Sync>> {
        self.0.importance(module)
    }

    fn feedback(&mut self, module: &str) -> Result<Option<Arc<Feedback>>, Box<dyn Error + Send + Sync>> {
        self.0.feedback(module)
    }
}

/// What a mixture is chosen from is what a conversion writes, judged by its outputs, but for what linears make up for of errors before
/// them.
#[test]
fn fits_of_mixtures_are_those_that_conversion_writes() {
    let home = tempfile::tempdir().unwrap();
    let checkpoint = checkpoint("b_gqa");
    let specs: Vec<_> = linears(&ModelConfig::of(&checkpoint).unwrap());
    let linear = |spec: &LinearSpec| {
        let (tensor, _, rows) = spec.place(&checkpoint);
        let part = Part { module: spec.module.clone(), rows, recipe: Some(Scheme::Q8g.into()) };
        Linear { tensor, part, schemes: SCHEMES.to_vec() }
    };
    // Not in the order of the calibration.
    let all: Vec<Linear> = specs.iter().rev().map(linear).collect();
    let new = || BlockCalibration::new(&checkpoint, &texts(), Effort::Good, &device()).unwrap();
    let [with, without] = [Some(&mut new() as &mut dyn Calibration), None]
        .map(|c| Fits::of(&checkpoint, &all, &|_| true, c, &|| {}).unwrap());
    assert_eq!(with.count(), specs.len() * SCHEMES.len());
    for scheme in [Scheme::Q3, Scheme::Q8, Scheme::Q8g] {
        let out = home.path().join(scheme.name());
        let conversion = Conversion::of(&checkpoint).unwrap().policy(policy(scheme, Effort::Good));
        conversion.calibration(&mut Alone(new())).write(&out).unwrap();
        let written = Checkpoint::open(Files::Directory(out)).unwrap();
        for (i, spec) in specs.iter().rev().enumerate() {
            let decoded = |fits: &Fits| fits.get(i, scheme).unwrap().unwrap().decode();
            let expected = written.encoded(&spec.module).unwrap().decode();
            assert_eq!(decoded(&with), expected, "{} {scheme}", spec.module);
            let mut calibration = new();
            let Some(feedback) = calibration.feedback(&spec.module).unwrap() else { continue };
            // Control: without a calibration it is another fit.
            assert_ne!(decoded(&without), expected, "{} {scheme}", spec.module);
            let plain = spec.plain(&checkpoint).unwrap().1.widen();
            let error = |fit: &[f32]| {
                let errors: Vec<f32> = plain.iter().zip(fit).map(|(w, q)| w - q).collect();
                feedback.energy(&errors) / feedback.energy(&plain)
            };
            let choice = with.matrices()[i].choices.iter().find(|choice| choice.scheme == scheme).unwrap();
            assert!((choice.nmse / error(&expected) - 1.0).abs() < 1e-9, "{}: {choice:?}", spec.module);
            if scheme == Scheme::Q3 {
                assert!(choice.nmse < error(&decoded(&without)), "{}: {choice:?}", spec.module);
            }
        }
    }
    assert!(with.get(specs.len(), Scheme::Q3).unwrap().is_none());
}

fn burn_pool(threads: usize) -> rayon::ThreadPool {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap()
}
