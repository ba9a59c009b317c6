//! The files that `cargo xtask bench cache` leaves: for each model and context length `NAME.report.json`, and `NAME.llama.json`
//! where llama.cpp was measured.

use std::{error::Error, path::Path};

use serde::Deserialize;

use super::{Cell, Line, Measured, Role};
use crate::report::{Estimate, files, json};

const REPORT: &str = ".report.json";

#[derive(Deserialize)]
struct Report {
    model: Model,
    candidates: Vec<Candidate>,
}

#[derive(Deserialize)]
struct Model {
    name: String,
}

#[derive(Deserialize)]
struct Candidate {
    name: String,
    kv_bits_per_number: f64,
    kv: Option<String>,
    computation: Option<String>,
    figures: Figures,
}

#[derive(Deserialize)]
struct Figures {
    contexts: Vec<Context>,
}

/// Figures of one context length; both programs name them alike.
#[derive(Clone, Deserialize)]
struct Context {
    length: usize,
    positions: usize,
    mean_kl: Estimate,
    top1_agreement: Estimate,
}

#[derive(Deserialize)]
struct Peer {
    /// Its plain cache compared with qins'.
    against_qins: Vec<Context>,
    forms: Vec<Form>,
}

#[derive(Deserialize)]
struct Form {
    kv: String,
    bits: f64,
    against_f32: Vec<Context>,
}

/// Reads every report in a directory, and what was measured of llama.cpp beside it.
pub(super) fn all(dir: &Path) -> Result<Measured, Box<dyn Error>> {
    let mut measured = Measured { models: Vec::new(), lengths: Vec::new(), lines: Vec::new() };
    for name in &files(dir, REPORT)? {
        let report: Report = json(&dir.join(format!("{name}{REPORT}")))?;
        let model = Path::new(&report.model.name).file_name().map_or(name.into(), |name| name.to_string_lossy());
        for candidate in &report.candidates {
            measured.add_candidate(&model, candidate);
        }
        let peer = dir.join(format!("{name}.llama.json"));
        if peer.exists() {
            measured.add_peer(&model, &json(&peer)?);
        }
    }
    if measured.lines.is_empty() {
        return Err(format!("{}: expected reports NAME{REPORT} of encoded caches, found none", dir.display()).into());
    }
    measured.lengths.sort_unstable();
    // Controls come last; of the others the one with the most bits first.
    let bits = |line: &Line| line.cells.iter().filter_map(|cell| cell.bits).fold(0.0, f64::max);
    let order = |line: &Line| (line.role == Role::Control, -bits(line));
    measured.lines.sort_by(|a, b| order(a).partial_cmp(&order(b)).unwrap_or(std::cmp::Ordering::Equal));
    Ok(measured)
}

impl Measured {
    fn add_candidate(&mut self, model: &str, candidate: &Candidate) {
        let (name, role, bits) = match (&candidate.kv, &candidate.computation) {
            (Some(kv), _) => (kv, Role::Ours, Some(candidate.kv_bits_per_number)),
            (None, Some(_)) => (&candidate.name, Role::Control, None),
            // The baseline repeated, which differs in nothing.
            (None, None) => return,
        };
        self.add(name, role, model, bits, &candidate.figures.contexts);
    }

    fn add_peer(&mut self, model: &str, peer: &Peer) {
        let name = "llama.cpp f32, from qins' plain cache";
        self.add(name, Role::Control, model, None, &peer.against_qins);
        for form in &peer.forms {
            self.add(&format!("llama.cpp {}", form.kv), Role::Peer, model, Some(form.bits), &form.against_f32);
        }
    }

    fn add(&mut self, name: &str, role: Role, model: &str, bits: Option<f64>, contexts: &[Context]) {
        if !self.models.iter().any(|known| known == model) {
            self.models.push(model.to_owned());
        }
        for Context { length, positions, mean_kl, top1_agreement } in contexts.iter().cloned() {
            if !self.lengths.contains(&length) {
                self.lengths.push(length);
            }
            let cell = Cell { model: model.to_owned(), length, positions, bits, mean_kl, top1_agreement };
            match self.lines.iter_mut().find(|line| line.name == name && line.role == role) {
                Some(line) => line.cells.push(cell),
                None => self.lines.push(Line { name: name.to_owned(), role, cells: vec![cell] }),
            }
        }
    }
}
