//! Mixed-precision search: a mixture that reaches its goal, with fewer bits than the finest scheme.

use std::sync::Mutex;

use qins_eval::{Candidates, Error, Progress, Search};
use qins_model::{LinearSpec, ModelConfig, ModelSource, OutputGoal, Targets, linears};
use qins_quant::{
    Scheme,
    convert::Part,
    mixture::{Fits, Linear, Mixture, SCHEMES},
};

use super::toy::{Fault, Loader, random_source};

/// What a search finds among the linears of the blocks.
fn search(
    source: &ModelSource,
    run: impl FnOnce(Search<'_>, Candidates<'_>) -> Result<Mixture, Error>,
) -> Result<Mixture, Error> {
    let config = ModelConfig::of(&source.checkpoint)?;
    let mut specs: Vec<LinearSpec> = linears(&config);
    specs.retain(|spec| Targets::All.contains(spec.kind));
    let linear = |spec: &LinearSpec| {
        let (tensor, _, rows) = spec.place(&source.checkpoint);
        let part = Part { module: spec.module.clone(), rows, recipe: Some(Scheme::Q8g.into()) };
        Linear { tensor, part, schemes: SCHEMES.to_vec() }
    };
    let all: Vec<Linear> = specs.iter().map(linear).collect();
    let fits = Fits::of(&source.checkpoint, &all, &|_| true, None, &|| {})?;
    let prompt = |id| format!("{{\"id\":\"{id}\",\"input_ids\":[{},{}]}}\n", id % 16, 2 + id / 16);
    let prompts: String = (0..32).map(prompt).collect();
    let (loader, own_prompts) = (Loader::new(Fault::None), Some(("toy prompts", &prompts[..])));
    let search = Search { source, loader: &loader, own_prompts, texts: &[], progress: &() };
    run(search, Candidates { specs: &specs, fixed: &[], fits: &fits })
}

fn reach(source: &ModelSource, goal: OutputGoal) -> Result<Mixture, Error> {
    search(source, |search, candidates| search.run(goal, candidates))
}

#[test]
fn looser_goals_need_fewer_bits() {
    let source = random_source(1);
    let bits = |kl| reach(&source, OutputGoal::Kl(kl)).unwrap().bits;
    let bits = [3e-3, 3e-2, 0.3].map(bits);
    assert!(bits[0] > bits[1] && bits[1] > bits[2], "{bits:?}");
    let agreement = reach(&source, OutputGoal::Match(0.5)).unwrap();
    assert_eq!(agreement.schemes.len(), 14);
}

#[test]
fn unreachable_goal_is_an_error_that_names_the_nearest_mixture() {
    let error = reach(&random_source(1), OutputGoal::Kl(1e-12)).unwrap_err();
    assert!(matches!(&error, Error::NoMixture { nearest } if nearest.contains(" bits give ")), "{error}");
}

#[test]
fn bits_are_a_bound() {
    let source = random_source(1);
    let within = |bits| search(&source, |search, candidates| search.within(bits, candidates));
    // Rows of 16 weights: no scheme has fewer than 8.75 bits.
    for bits in [9.0, 9.5, 10.0] {
        let found = within(bits).unwrap();
        assert!(found.bits <= bits && found.bits > bits - 0.5, "{bits}: {found:?}");
    }
    let error = within(2.0).unwrap_err();
    assert!(error.to_string().contains("expected a mixture of 2 bits per weight, found none below"), "{error}");
}

#[test]
fn linear_without_a_fit_is_an_error() {
    let source = random_source(1);
    let error = search(&source, |search, candidates| {
        let fixed = &candidates.specs[..1];
        search.within(10.0, Candidates { fixed, ..candidates })
    });
    let error = error.unwrap_err().to_string();
    assert!(error.contains("expected the fits of 15 linears, found 14"), "{error}");
}

/// The number of passages that each baseline predicts, and what is noted.
#[derive(Default)]
struct Recorder {
    passages: Mutex<Vec<usize>>,
    notes: Mutex<Vec<String>>,
}

impl Progress for Recorder {
    fn begin(&self, name: &str, steps: usize) {
        if name == "scoring plain" {
            self.passages.lock().unwrap().push(steps);
        }
    }

    fn step(&self) {}

    fn end(&self) {}

    fn note(&self, text: &str) {
        self.notes.lock().unwrap().push(text.to_owned());
    }
}

#[test]
fn one_scheme_for_all_is_taken_unless_a_mixture_changes_less() {
    let mut taken = Vec::new();
    for (seed, bits) in (1..5).flat_map(|seed| [9.0, 9.8, 11.0].map(|bits| (seed, bits))) {
        let recorder = Recorder::default();
        let found = search(&random_source(seed), |search, candidates| {
            Search { progress: &recorder, ..search }.within(bits, candidates)
        });
        let found = found.unwrap();
        let (counts, schemes) = (found.counts(), found.schemes);
        // "9.750 bits (3 × q4, 11 × q5): mean KL divergence 1.9e-3 [1.8e-3, 2.0e-3], by passage 0.912 [0.850, 0.990] times that of the first"
        // of each that is measured, one scheme for all first.
        let notes = recorder.notes.into_inner().unwrap();
        let measured: Vec<(&str, Vec<f64>)> = notes
            .iter()
            .filter_map(|note| note.split_once(": mean KL divergence "))
            .map(|(mixture, found)| {
                let words = found.split(['[', ',', ']', ' ']);
                (mixture, words.filter_map(|word| word.parse().ok()).collect())
            })
            .collect();
        // One by itself is not measured.
        let Some(((_, first), others)) = measured.split_first() else { continue };
        assert!(others.iter().all(|(_, of)| of.len() == 6 && of[4] <= of[3] && of[3] <= of[5]), "{notes:?}");
        let known = others.iter().filter(|(_, of)| of[5] < 1.0 && of[0] < first[0]);
        let least = known.min_by(|a, b| a.1[0].total_cmp(&b.1[0]));
        let is_one = schemes.iter().all(|scheme| *scheme == schemes[0]);
        assert_eq!(is_one, least.is_none(), "{notes:?}");
        if let Some((mixture, _)) = least {
            assert!(mixture.ends_with(&format!("({counts})")), "{counts}: {notes:?}");
        }
        taken.push(is_one);
    }
    assert!(taken.contains(&true) && taken.contains(&false), "{taken:?}");
}

#[test]
fn a_choice_is_confirmed_on_what_measured_no_part() {
    // The passages of each plain run, and what the choice is said to be confirmed on.
    let within = |texts: &[Vec<u32>]| {
        let recorder = Recorder::default();
        let found = search(&random_source(1), |search, candidates| {
            Search { texts, progress: &recorder, ..search }.within(9.5, candidates)
        });
        assert!(found.is_ok(), "{found:?}");
        let notes = recorder.notes.into_inner().unwrap();
        let on = notes.iter().find_map(|note| note.strip_prefix("mixtures are compared on ")).unwrap().to_owned();
        (recorder.passages.into_inner().unwrap(), on)
    };
    // Half of the 32 prompts are for searches, and half of these measure no part.
    let on_prompts = (vec![8, 8], "8 prompts by which they were not chosen".to_owned());
    assert_eq!(within(&[]), on_prompts);
    let texts = [vec![vec![1; 40]; 8], vec![vec![2; 17]]].concat();
    assert_eq!(within(&texts), (vec![16, 9], "9 texts that the fits have not seen".to_owned()));
    // Too few; and of so few tokens none is left to predict.
    assert_eq!(within(&texts[..7]), on_prompts);
    assert_eq!(within(&[&texts[..7], &[vec![1; 16], Vec::new()]].concat()), on_prompts);

    let recorder = Recorder::default();
    let found = search(&random_source(1), |search, candidates| {
        Search { progress: &recorder, ..search }.run(OutputGoal::Kl(3e-2), candidates)
    });
    assert!(found.is_ok(), "{found:?}");
    assert_eq!(recorder.passages.into_inner().unwrap(), [8, 8]);
}
