//! The reports that `cargo xtask bench words` leaves, `MODEL.report.json` each. Candidates that were encoded while loading have no
//! calibration; of checkpoints, plain ones with bits are llama.cpp's, and their names say whether they have an importance matrix.

use std::{error::Error, path::Path};

use serde::Deserialize;

use super::{Cell, Format, Model, Program};
use crate::report::{Estimate, files, json};

const REPORT: &str = ".report.json";

/// How the directory of a checkpoint with an importance matrix ends.
const IMPORTANCE: &str = "-imatrix";

#[derive(Deserialize)]
struct Report {
    partial: bool,
    candidates: Vec<Candidate>,
}

#[derive(Deserialize)]
struct Candidate {
    name: String,
    role: String,
    /// The directory of another checkpoint.
    checkpoint: Option<String>,
    /// Of a plain checkpoint, the bits of the format whose values it holds.
    nominal_bits_per_weight: Option<f64>,
    bits_per_weight: Option<f64>,
    alpha: Option<f64>,
    figures: Figures,
}

#[derive(Deserialize)]
struct Figures {
    teacher_forced: Option<Measured>,
    contexts: Vec<Measured>,
}

#[derive(Clone, Deserialize)]
struct Measured {
    /// Of contexts.
    length: Option<usize>,
    positions: usize,
    mean_kl: Option<Estimate>,
    top1_agreement: Option<Estimate>,
}

impl Figures {
    /// Those on the greedy texts; without texts, those of the first length of contexts.
    fn first(&self) -> Option<&Measured> {
        self.teacher_forced.as_ref().or(self.contexts.first())
    }
}

/// Reads every report in a directory.
pub(super) fn all(dir: &Path) -> Result<Vec<Model>, Box<dyn Error>> {
    let names = files(dir, REPORT)?;
    if names.is_empty() {
        return Err(format!("{}: expected reports MODEL{REPORT}, found none", dir.display()).into());
    }
    names.iter().map(|name| model(&dir.join(format!("{name}{REPORT}")), name)).collect()
}

fn model(path: &Path, name: &str) -> Result<Model, Box<dyn Error>> {
    let report: Report = json(path)?;
    if report.partial {
        return Err(format!("{}: expected a whole report, found one that was interrupted", path.display()).into());
    }
    let mut model = Model { name: name.to_owned(), texts: String::new(), positions: 0, formats: Vec::new() };
    for candidate in &report.candidates {
        // Controls, and the baseline repeated.
        let (false, None, Some(bits)) = (
            candidate.role == "control",
            candidate.alpha,
            candidate.nominal_bits_per_weight.or(candidate.bits_per_weight),
        ) else {
            continue;
        };
        let measured = candidate.figures.first();
        let (Some(measured), Some((mean_kl, top1_agreement))) =
            (measured, measured.and_then(|m| m.mean_kl.zip(m.top1_agreement)))
        else {
            let name = &candidate.name;
            return Err(
                format!("{}: {name}: expected predictions that were compared, found none", path.display()).into()
            );
        };
        model.texts = measured.length.map_or("greedy texts".into(), |length| format!("contexts of {length} tokens"));
        model.positions = measured.positions;
        model.add(candidate, bits, Cell { mean_kl, top1_agreement });
    }
    if model.formats.is_empty() {
        return Err(format!("{}: expected encoded candidates, found none", path.display()).into());
    }
    model.formats.sort_by(|a, b| b.bits_per_weight.total_cmp(&a.bits_per_weight));
    Ok(model)
}

impl Model {
    fn add(&mut self, candidate: &Candidate, bits_per_weight: f64, cell: Cell) {
        let (name, program, is_calibrated) = match (&candidate.checkpoint, candidate.nominal_bits_per_weight) {
            (None, _) => (&*candidate.name, Program::Qins, false),
            (Some(_), None) => (&*candidate.name, Program::Qins, true),
            (Some(_), Some(_)) => match candidate.name.strip_suffix(IMPORTANCE) {
                Some(name) => (name, Program::Llama, true),
                None => (&*candidate.name, Program::Llama, false),
            },
        };
        let known = self.formats.iter().position(|format| format.program == program && format.name == name);
        let known = known.unwrap_or_else(|| {
            let (uncalibrated, calibrated) = (None, None);
            self.formats.push(Format { name: name.to_owned(), program, bits_per_weight, uncalibrated, calibrated });
            self.formats.len() - 1
        });
        let format = &mut self.formats[known];
        *if is_calibrated { &mut format.calibrated } else { &mut format.uncalibrated } = Some(cell);
    }
}
