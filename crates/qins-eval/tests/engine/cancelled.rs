//! An evaluation that is cancelled, at every moment.

use std::sync::atomic::{AtomicUsize, Ordering};

use qins_eval::{
    Error, Progress, plain_controls,
    report::{Report, Role},
    sensitivity::roles,
};
use qins_model::{Policy, Targets, linears};
use qins_quant::Scheme;

use super::{Run, encoded, toy::random_source};

/// Is cancelled when it has been asked a number of times.
struct After(AtomicUsize);

impl Progress for After {
    fn begin(&self, _: &str, _: usize) {}
    fn step(&self) {}
    fn end(&self) {}
    fn note(&self, _: &str) {}

    fn is_cancelled(&self) -> bool {
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_err()
    }
}

#[test]
fn cancelled_evaluation_keeps_what_was_measured_and_a_complete_baseline() {
    let source = random_source(1);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("baseline.safetensors");
    let run = |asked: usize| {
        let _ = std::fs::remove_file(&file);
        let progress = After(AtomicUsize::new(asked));
        let run = Run { progress: &progress, baseline_file: Some(&file), ..Run::new(&source) };
        run.measure(
            plain_controls(),
            |comparison, model, measured| {
                for part in roles(&linears(model.config()), &Policy::new(Targets::All, Scheme::Q4)) {
                    measured.push(part.measure(comparison, model)?);
                }
                Ok(())
            },
            vec![encoded(Role::Judged, Scheme::Q8), encoded(Role::Judged, Scheme::Q4)],
        )
    };
    let whole = run(usize::MAX).unwrap();
    assert!(!whole.partial && whole.missing.is_empty());
    let names = |report: &Report| report.candidates.iter().map(|c| c.name.clone()).collect::<Vec<_>>();
    let figures = |report: &Report, n: usize| {
        serde_json::to_value(report.candidates[..n].iter().map(|c| &c.figures).collect::<Vec<_>>()).unwrap()
    };
    let (mut before, mut partial, mut in_parts) = (0, 0, 0);
    for asked in (0..).step_by(5) {
        match run(asked) {
            Err(Error::Interrupted) => {
                assert!(partial == 0 && std::fs::read_dir(folder.path()).unwrap().count() == 0, "{asked}");
                before += 1;
            }
            Err(error) => panic!("{asked}: {error}"),
            Ok(report) if report.partial => {
                let n = report.candidates.len();
                assert!(!report.passed && report.missing == names(&whole)[n..], "{asked}");
                assert_eq!(figures(&report, n), figures(&whole, n), "{asked}");
                assert_eq!(report.baseline.generated_tokens, whole.baseline.generated_tokens);
                in_parts += usize::from(
                    !(report.sensitivity.is_empty() || report.sensitivity.len() == whole.sensitivity.len()),
                );
                // The baseline is complete: a run that reads it measures the same.
                assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
                partial += 1;
            }
            Ok(report) => {
                assert_eq!(names(&report), names(&whole));
                break;
            }
        }
    }
    assert!(before > 10 && partial > 20 && in_parts > 2, "{before} {partial} {in_parts}");
    let again = Run { baseline_file: Some(&file), ..Run::new(&source) };
    let again = again.compare(plain_controls(), Vec::new()).unwrap();
    assert_eq!(figures(&again, 4), figures(&whole, 4));
}
