//! What qins' schemes and llama.cpp's formats change of the predictions of models, with and without a calibration: a table and a plot,
//! from reports of `qins validate`.

mod read;
mod table;

use std::{error::Error, path::Path};

use qins_quant::output;
use serde::Serialize;

use crate::{
    measure::{Kind, Point, Row},
    report::Estimate,
    svg,
};

/// What is measured of a format, encoded in one way.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
struct Cell {
    /// Mean KL divergence from the plain model, in nats.
    mean_kl: Estimate,
    top1_agreement: Estimate,
}

/// Whose format it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
enum Program {
    #[serde(rename = "qins")]
    Qins,
    #[serde(rename = "llama.cpp")]
    Llama,
}

/// A format.
#[derive(Clone, Debug, Serialize)]
struct Format {
    name: String,
    program: Program,
    bits_per_weight: f64,
    /// Each weight rounded by itself.
    uncalibrated: Option<Cell>,
    /// With error feedback (qins), or an importance matrix (llama.cpp), from the same calibration.
    calibrated: Option<Cell>,
}

impl Format {
    /// As its program writes it with all that it knows.
    fn best(&self) -> Option<Cell> {
        self.calibrated.or(self.uncalibrated)
    }
}

/// All that was measured of a model.
#[derive(Clone, Debug, Serialize)]
struct Model {
    name: String,
    /// What both models read.
    texts: String,
    /// Number of tokens that were predicted.
    positions: usize,
    /// The most bits first.
    formats: Vec<Format>,
}

/// Reads the reports in a directory, writes words.json, words.md and words.svg there, and gives the table.
pub(crate) fn write(dir: &Path) -> Result<String, Box<dyn Error>> {
    let models = read::all(dir)?;
    let table = table::table(&models);
    output::write(dir.join("words.json"), (serde_json::to_string_pretty(&models)? + "\n").as_bytes())?;
    output::write(dir.join("words.md"), table.as_bytes())?;
    output::write(dir.join("words.svg"), plot(&models).as_bytes())?;
    Ok(table)
}

/// KL divergence against bits per weight, a panel for each model.
fn plot(models: &[Model]) -> String {
    let logarithm = |cell: Cell| Some(cell.mean_kl.value.log10()).filter(|kl| kl.is_finite());
    let point = |format: &Format| Point {
        bits: format.bits_per_weight,
        coded: None,
        decibels: format.best().and_then(logarithm),
        uncalibrated: format.calibrated.and(format.uncalibrated).and_then(logarithm),
    };
    let mut rows: Vec<Row> = Vec::new();
    for (i, model) in models.iter().enumerate() {
        for format in &model.formats {
            let kind = match format.program {
                Program::Qins => Kind::Ours,
                Program::Llama => Kind::Other,
            };
            let known = rows.iter().position(|row| row.kind == kind && row.name == format.name).unwrap_or_else(|| {
                let nowhere = Point { bits: 0.0, coded: None, decibels: None, uncalibrated: None };
                rows.push(Row { name: format.name.clone(), kind, points: vec![nowhere; models.len()] });
                rows.len() - 1
            });
            rows[known].points[i] = point(format);
        }
    }
    let names: Vec<String> = models.iter().map(|model| format!("{}, {} tokens", model.name, model.positions)).collect();
    svg::plot(&svg::KL, &names.iter().map(String::as_str).collect::<Vec<_>>(), &rows)
}

#[cfg(test)]
mod tests;
