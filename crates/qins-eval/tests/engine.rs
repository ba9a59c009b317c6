//! The evaluation engine over a toy model: no process is spawned, and no tensor library is needed. Every fact that a sound engine
//! satisfies is also checked to fail for one with a fault.

use std::path::Path;

use qins_eval::{
    Comparison, Error, EvalInputs, EvalModel, EvalSet, Evaluation, Passage, Plan, Progress, Variant, Weights,
    encoded_controls, plain_controls,
    report::{Candidate, Environment, REPORT_VERSION, Report, Role, Sensitivity, Settings, Thresholds, page, summary},
};
use qins_model::{ModelConfig, ModelSource, Policy, Targets, TextReader};
use qins_quant::{Alpha, EncodeOptions, Recipe, Scheme};

#[path = "engine/cancelled.rs"]
mod cancelled;
#[path = "engine/progress.rs"]
mod progress;
#[path = "engine/search.rs"]
mod search;
#[path = "engine/sensitivity.rs"]
mod sensitivity;
#[path = "engine/toy.rs"]
mod toy;

use toy::{Fault, Loader, VOCABULARY, random_source};

const PROMPTS: &str =
    "{\"id\":\"a\",\"input_ids\":[1,2]}\n{\"id\":\"b\",\"input_ids\":[3]}\n{\"id\":\"c\",\"input_ids\":[9]}\n";

/// Greedy and sampled texts of 12 tokens for each prompt, one window and one long context.
fn eval_set<'a>(source: &ModelSource, reader: &'a TextReader, prompts: &str) -> EvalSet<'a> {
    let plan = Plan {
        prompt_stride: Some(1),
        max_new_tokens: 12,
        temperature: Some(1.0),
        windows: (0, 0),
        contexts: Vec::new(),
        thresholds: Thresholds::ByBits,
        golden: false,
    };
    let inputs = EvalInputs { own_prompts: Some(("toy prompts", prompts)), ..EvalInputs::default() };
    let config = ModelConfig::of(&source.checkpoint).unwrap();
    let mut eval_set = EvalSet::new(&plan, inputs, reader, &config, Vec::new(), &()).unwrap();
    let ids = |n: u32, step: u32| (0..n).map(|i| i * step % VOCABULARY as u32).collect::<Vec<u32>>();
    eval_set.windows.push(Passage { context: ids(8, 3), continuation: ids(8, 5) });
    eval_set.contexts.push((24, vec![Passage { context: ids(24, 7), continuation: ids(6, 3) }]));
    eval_set
}

/// Settings of one evaluation of the toy model.
struct Run<'a> {
    source: &'a ModelSource,
    loader: Loader,
    prompts: &'a str,
    baseline_file: Option<&'a Path>,
    progress: &'a dyn Progress,
}

impl<'a> Run<'a> {
    fn new(source: &'a ModelSource) -> Self {
        Self { source, loader: Loader::new(Fault::None), prompts: PROMPTS, baseline_file: None, progress: &() }
    }

    fn faulty(source: &'a ModelSource, fault: Fault) -> Self {
        Self { loader: Loader::new(fault), ..Self::new(source) }
    }

    fn compare(&self, plain: Vec<Variant>, variants: Vec<Variant>) -> Result<Report, Error> {
        self.measure(plain, |_, _, _| Ok(()), variants)
    }

    fn measure(
        &self,
        plain: Vec<Variant>,
        measure: impl FnOnce(&Comparison<'_>, &mut dyn EvalModel, &mut Vec<Sensitivity>) -> Result<(), Error>,
        variants: Vec<Variant>,
    ) -> Result<Report, Error> {
        let reader = TextReader::open(self.source.checkpoint.files())?;
        let evaluation = Evaluation {
            source: self.source,
            loader: &self.loader,
            eval_set: &eval_set(self.source, &reader, self.prompts),
            preset: "toy",
            backend: "bigram".to_owned(),
            environment: &|| Environment {
                qins: "0".to_owned(),
                platform: String::new(),
                cpu: None,
                threads: 1,
                backend: "bigram".to_owned(),
                peak_rss_bytes: None,
            },
            baseline_file: self.baseline_file,
            progress: self.progress,
        };
        evaluation.run(plain, measure, variants)
    }
}

/// All linears of the blocks in `recipe`.
fn encoded(role: Role, recipe: impl Into<Recipe>) -> Variant {
    let policy = Policy::new(Targets::All, recipe);
    let settings = Settings {
        scheme: policy.recipe.scheme.to_string(),
        alpha: policy.recipe.options.alpha.map(Alpha::get),
        ..Settings::default()
    };
    Variant::new(role, settings, Weights::Encoded(policy), Thresholds::ByBits)
}

/// `q8` with an α at which the codes of these weights collapse into one.
fn collapsed() -> Recipe {
    let options = EncodeOptions { alpha: Some(Alpha::new(0.01).unwrap()), ..EncodeOptions::default() };
    Recipe { options, ..Scheme::Q8.into() }
}

fn mean_kl(candidate: &Candidate) -> f64 {
    candidate.figures.teacher_forced.as_ref().unwrap().mean_kl.unwrap().value
}

#[test]
fn baseline_repeated_agrees_exactly() {
    let source = random_source(1);
    let report = Run::new(&source).compare(plain_controls(), Vec::new()).unwrap();
    assert!(report.passed && report.report_version == REPORT_VERSION);
    let [repeated, one_thread, token_by_token, bf16] = &report.candidates[..] else { panic!("four controls") };
    let figures = &repeated.figures;
    assert_eq!(repeated.name, "baseline repeated (A/A)");
    for texts in [&figures.greedy, &figures.sampled] {
        let texts = texts.as_ref().unwrap();
        assert_eq!((texts.exact_match_rate.unwrap().value, texts.matching_tokens), (1.0, 3 * 12));
    }
    let passages = [&figures.teacher_forced, &figures.text].map(|scored| scored.as_ref().unwrap());
    for scored in passages.into_iter().chain(figures.contexts.iter().map(|context| &context.teacher_forced)) {
        assert_eq!((scored.max_kl, scored.top1_agreement.unwrap().low), (Some(0.0), 1.0));
        assert_eq!((scored.coupled_agreement.unwrap().value, scored.ln_perplexity_ratio.unwrap().value), (1.0, 0.0));
    }
    assert_eq!((mean_kl(one_thread), mean_kl(token_by_token)), (0.0, 0.0));
    // In decode order the window is left out; the greedy texts and the context are not.
    assert!(token_by_token.figures.text.is_none() && token_by_token.figures.contexts.len() == 1);
    assert!(mean_kl(bf16) > 0.0 && bf16.criteria.is_empty());
}

#[test]
fn engine_that_is_not_deterministic_fails() {
    let source = random_source(1);
    let report = Run::faulty(&source, Fault::NotDeterministic).compare(plain_controls(), Vec::new()).unwrap();
    assert!(!report.passed && !report.candidates[0].passed);
    let failed: Vec<&str> =
        report.candidates[0].criteria.iter().filter(|c| !c.passed).map(|c| c.name.as_str()).collect();
    assert_eq!(failed, ["max KL divergence"]);
}

/// The baseline's distribution is uniform over 16 tokens; the candidate's logit of token 0 is larger by ln 17, so its distribution
/// is 17/32 for token 0 and 1/32 for each other one.
#[test]
fn metrics_of_a_perturbed_variant_equal_those_computed_by_hand() {
    let zeros = |spec: &qins_model::LinearSpec| vec![0.0; spec.shape[0] * spec.shape[1]];
    let uniform = toy::source("uniform", |_, spec| zeros(spec));
    let perturbed = || {
        toy::source("perturbed", |_, spec| {
            let mut weights = zeros(spec);
            if spec.module == "lm_head" {
                weights.iter_mut().step_by(VOCABULARY).for_each(|w| *w = 17.0_f32.ln());
            }
            weights
        })
    };
    let settings =
        Settings { scheme: "checkpoint".to_owned(), checkpoint: Some("perturbed".to_owned()), ..Settings::default() };
    let same = toy::source("same", |_, spec| zeros(spec));
    let variant = |weights| Variant::new(Role::Information, settings.clone(), weights, Thresholds::ByBits);
    let variants = vec![variant(Weights::Checkpoint(perturbed())), variant(Weights::Checkpoint(same))];
    let report = Run::new(&uniform).compare(Vec::new(), variants).unwrap();
    let [perturbed, same] = &report.candidates[..] else { panic!("two candidates") };
    let (ln2, ln17) = (2.0_f64.ln(), 17.0_f64.ln());
    let forced = perturbed.figures.teacher_forced.as_ref().unwrap();
    let near = |found: f64, expected: f64| assert!((found - expected).abs() < 1e-6, "{found}, not {expected}");
    // 1/16·ln((1/16)/(17/32)) + 15/16·ln((1/16)/(1/32))
    for kl in [forced.mean_kl.unwrap().value, forced.median_kl.unwrap(), forced.max_kl.unwrap()] {
        near(kl, ln2 - ln17 / 16.0);
    }
    // Σᵢ 1/Σⱼ max(pⱼ/pᵢ, qⱼ/qᵢ) = 1/16 + 15/32
    near(forced.coupled_agreement.unwrap().value, 17.0 / 32.0);
    // Greedy texts are all token 0, the lowest of equals: its probability is 17/32 instead of 1/16.
    assert_eq!(forced.top1_agreement.unwrap().value, 1.0);
    assert_eq!(report.baseline.texts[0].generated_ids, [0; 12]);
    near(forced.ln_perplexity_ratio.unwrap().value, ln2 - ln17);
    near(forced.probability_change.unwrap().value, 15.0 / 32.0);
    near(forced.baseline_perplexity.unwrap(), 16.0);
    // Both top-10 are tokens 0 to 9.
    assert_eq!(forced.top10_overlap.unwrap().value, 1.0);
    let layers: Vec<&str> = perturbed.layers.iter().map(|layer| layer.module.as_str()).collect();
    assert_eq!(layers, ["lm_head"]);
    // The same weights in another checkpoint have no divergence and no layer that differs.
    assert!(mean_kl(same) == 0.0 && same.layers.is_empty());
}

#[test]
fn divergence_grows_as_bits_fall() {
    let source = random_source(1);
    let schemes = [Scheme::Lossless, Scheme::Q8, Scheme::Q5, Scheme::Q3];
    let variants = schemes.map(|scheme| encoded(Role::Judged, scheme)).into();
    let report = Run::new(&source).compare(Vec::new(), variants).unwrap();
    let kl: Vec<f64> = report.candidates.iter().map(mean_kl).collect();
    assert!(kl[0] == 0.0 && kl.windows(2).all(|pair| pair[0] < pair[1]), "{kl:?}");
    let [lossless, q8, ..] = &report.candidates[..] else { panic!("four candidates") };
    assert!(lossless.passed && q8.passed, "{:?}", q8.criteria);
    assert_eq!((q8.linears["q8"], q8.linears["none"], q8.layers.len()), (14, 2, 14));
    assert!(q8.layers.iter().all(|layer| layer.sqnr_db > Some(30.0)) && q8.bits_per_weight > Some(8.0));
}

#[test]
fn collapsed_codes_fail_as_judged_and_satisfy_as_control() {
    let source = random_source(1);
    let passed = |variant| Run::new(&source).compare(Vec::new(), vec![variant]).unwrap().passed;
    assert!(passed(encoded(Role::Control, collapsed())));
    assert!(!passed(encoded(Role::Judged, collapsed())));
    assert!(passed(encoded(Role::Information, collapsed())));
    // A control that does not collapse shows that the thresholds detect nothing.
    assert!(!passed(encoded(Role::Control, Scheme::Q8)));
    assert!(passed(encoded(Role::Judged, Scheme::Q8)));
    let controls = encoded_controls(&Targets::All, Thresholds::ByBits).unwrap();
    let report = Run::new(&source).compare(Vec::new(), controls).unwrap();
    let roles: Vec<Role> = report.candidates.iter().map(|candidate| candidate.role).collect();
    assert!(report.passed && roles == [Role::Information, Role::Control]);
}

#[test]
fn report_of_a_control_that_passes_says_so_in_every_rendering() {
    let source = random_source(1);
    let render = |variant| {
        let report = Run::new(&source).compare(Vec::new(), vec![variant]).unwrap();
        [page(&report), summary(&report)]
    };
    for text in render(encoded(Role::Control, Scheme::Q8)) {
        assert!(text.contains("FAIL") && text.contains("passed every threshold, which a control must not"), "{text}");
    }
    for text in render(encoded(Role::Control, collapsed())) {
        assert!(text.contains("PASS") && !text.contains("passed every threshold"), "{text}");
    }
}

#[test]
fn kept_baseline_is_read_back_and_rejected_for_other_inputs() {
    let source = random_source(1);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("baseline.safetensors");
    let run = |source: &ModelSource, prompts: &str| {
        let run = Run { baseline_file: Some(file.as_path()), prompts, ..Run::new(source) };
        run.compare(Vec::new(), vec![encoded(Role::Judged, Scheme::Q4)])
    };
    let first = run(&source, PROMPTS).unwrap();
    let bytes = std::fs::read(&file).unwrap();
    let second = run(&source, PROMPTS).unwrap();
    assert_eq!(bytes, std::fs::read(&file).unwrap());
    assert!(first.baseline.tokens_per_second.is_some() && second.baseline.tokens_per_second.is_none());
    let figures = |report: &Report| serde_json::to_value(&report.candidates[0].figures).unwrap();
    assert_eq!(figures(&first), figures(&second));
    assert_eq!(
        serde_json::to_value(&first.baseline.texts).unwrap(),
        serde_json::to_value(&second.baseline.texts).unwrap()
    );

    let rejected = |result: Result<Report, Error>, part: &str| {
        let error = result.unwrap_err();
        assert!(matches!(&error, Error::Input { .. }), "{error:?}");
        assert!(error.to_string().contains(part), "{error}");
    };
    rejected(run(&source, &PROMPTS.replace("[9]", "[8]")), "expected a baseline with prompts ");
    rejected(run(&random_source(2), PROMPTS), "expected a baseline with model ");
    let mut damaged = bytes.clone();
    *damaged.last_mut().unwrap() ^= 1;
    std::fs::write(&file, damaged).unwrap();
    rejected(run(&source, PROMPTS), "checksum");
    std::fs::write(&file, bytes).unwrap();
    run(&source, PROMPTS).unwrap();
}

#[test]
fn encoded_model_is_rejected_as_baseline() {
    let source = random_source(1);
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("q8");
    qins_model::Conversion::of(&source.checkpoint).unwrap().scheme(Scheme::Q8).write(&out).unwrap();
    let encoded = ModelSource::of_directory(&out).unwrap();
    let error = Run::new(&encoded).compare(Vec::new(), Vec::new()).unwrap_err();
    assert!(error.to_string().contains("expected a plain model as the baseline, found an encoded one"), "{error}");
    assert!(Run::new(&source).compare(Vec::new(), Vec::new()).is_ok());
}

#[test]
fn loader_is_called_once_for_plain_controls_and_once_per_variant() {
    let source = random_source(1);
    let run = Run::new(&source);
    run.compare(plain_controls(), vec![encoded(Role::Judged, Scheme::Q8), encoded(Role::Judged, Scheme::Q4)]).unwrap();
    assert_eq!(run.loader.loads.into_inner(), 3);
}
