//! Mean KL divergence against bits per weight, from a report of `qins validate`.

use std::{error::Error, path::Path};

use serde::Deserialize;

use crate::{
    measure::{Kind, Point, Row},
    report::{Estimate, json},
    svg,
};

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
    role: String,
    /// The directory of a checkpoint in another format.
    checkpoint: Option<String>,
    bits_per_weight: Option<f64>,
    alpha: Option<f64>,
    figures: Figures,
}

#[derive(Deserialize)]
struct Figures {
    /// `forced` in version 2 of the report.
    #[serde(alias = "forced")]
    teacher_forced: Option<TeacherForced>,
}

#[derive(Deserialize)]
struct TeacherForced {
    mean_kl: Option<Estimate>,
}

/// The plot of a report, without controls and exact candidates.
pub(crate) fn plot(report: &Path) -> Result<String, Box<dyn Error>> {
    let report: Report = json(report)?;
    let row = |candidate: &Candidate| {
        let kl = candidate.figures.teacher_forced.as_ref()?.mean_kl.as_ref()?.value;
        let (bits, kind) =
            (candidate.bits_per_weight?, candidate.checkpoint.as_ref().map_or(Kind::Ours, |_| Kind::Other));
        let drawn = candidate.role != "control" && candidate.alpha.is_none() && kl > 0.0;
        let points = vec![Point { bits, coded: None, decibels: Some(kl.log10()), uncalibrated: None }];
        drawn.then(|| Row { name: candidate.name.clone(), kind, points })
    };
    let rows: Vec<Row> = report.candidates.iter().filter_map(row).collect();
    if rows.is_empty() {
        return Err("expected a report with encoded candidates, found none".into());
    }
    Ok(svg::plot(&svg::KL, &[&report.model.name], &rows))
}
