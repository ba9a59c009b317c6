//! What each form of the KV cache changes, of several models and context lengths: a table and a plot, from reports of
//! `qins validate --preset cache` and from what `benches/peers/cache.py` measured of llama.cpp on the same tokens.

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

/// What is measured of a form of the cache, on one model and context length.
#[derive(Clone, Debug, Serialize)]
struct Cell {
    model: String,
    /// Tokens of each passage, scored ones included.
    length: usize,
    /// Number of tokens that were predicted.
    positions: usize,
    /// Bits per number at 2,048 tokens; none of what is not a form of the cache.
    bits: Option<f64>,
    /// Mean KL divergence from the same program's plain cache, in nats.
    mean_kl: Estimate,
    top1_agreement: Estimate,
}

/// What a line of the table is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Role {
    /// A scheme of qins.
    Ours,
    /// A form of llama.cpp.
    Peer,
    /// What no evaluation of caches may call good, and what other arithmetic changes.
    Control,
}

/// A form of the cache, wherever it was measured.
#[derive(Clone, Debug, Serialize)]
struct Line {
    name: String,
    role: Role,
    cells: Vec<Cell>,
}

impl Line {
    fn at(&self, model: &str, length: usize) -> Option<&Cell> {
        self.cells.iter().find(|cell| cell.model == model && cell.length == length)
    }
}

/// All that was measured.
#[derive(Debug, Serialize)]
struct Measured {
    models: Vec<String>,
    lengths: Vec<usize>,
    lines: Vec<Line>,
}

/// The length whose figures are plotted, where it was measured: the one that bits are counted at.
const PLOTTED: usize = 2048;

/// Reads the measurements in a directory, writes cache.json, cache.md and cache.svg there, and gives the table.
pub(crate) fn write(dir: &Path) -> Result<String, Box<dyn Error>> {
    let measured = read::all(dir)?;
    let table = table::table(&measured);
    let json = serde_json::to_string_pretty(&measured)? + "\n";
    output::write(dir.join("cache.json"), json.as_bytes())?;
    output::write(dir.join("cache.md"), table.as_bytes())?;
    let length = measured.lengths.iter().find(|length| **length == PLOTTED).or(measured.lengths.first());
    let length = *length.ok_or_else(|| format!("{}: expected contexts that were scored, found none", dir.display()))?;
    output::write(dir.join("cache.svg"), plot(&measured, length).as_bytes())?;
    Ok(table)
}

/// KL divergence against bits per number, a panel for each model.
fn plot(measured: &Measured, length: usize) -> String {
    let point = |cell: Option<&Cell>| {
        let drawn = cell.and_then(|cell| Some((cell.bits?, cell.mean_kl.value)));
        match drawn.filter(|(_, kl)| *kl > 0.0) {
            Some((bits, kl)) => Point { bits, coded: None, decibels: Some(kl.log10()), uncalibrated: None },
            None => Point { bits: 0.0, coded: None, decibels: None, uncalibrated: None },
        }
    };
    let row = |line: &Line| {
        let kind = match line.role {
            Role::Ours => Kind::Ours,
            Role::Peer => Kind::Other,
            Role::Control => return None,
        };
        let points = measured.models.iter().map(|model| point(line.at(model, length))).collect();
        Some(Row { name: line.name.trim_start_matches("llama.cpp ").to_owned(), kind, points })
    };
    let rows: Vec<Row> = measured.lines.iter().filter_map(row).collect();
    let title = |model: &String| format!("{model}, {length} tokens");
    let names: Vec<String> = measured.models.iter().map(title).collect();
    svg::plot(&svg::CACHE, &names.iter().map(String::as_str).collect::<Vec<_>>(), &rows)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// Two models; the second only as this project measures it.
    fn measured() -> Measured {
        let dir = tempfile::tempdir().unwrap();
        let estimate = |value: f64| serde_json::json!({ "value": value, "low": 0.5 * value, "high": 2.0 * value });
        for (model, kl) in [("small", 1e-4), ("large", 2e-4)] {
            let candidate = |name: &str, kv: Option<&str>, computation: Option<&str>, role: &str, kl: f64| {
                serde_json::json!({
                    "name": name, "role": role, "kv_bits_per_number": 8.25,
                    "scheme": "none", "kv": kv, "computation": computation,
                    "figures": { "contexts": [{
                        "length": 224, "positions": 160, "mean_kl": estimate(kl), "top1_agreement": estimate(0.5)
                    }] },
                })
            };
            let report = serde_json::json!({ "model": { "name": format!("/models/{model}") }, "candidates": [
                candidate("baseline repeated (A/A)", None, None, "judged", 0.0),
                candidate("plain, q8 KV cache", Some("q8"), None, "judged", kl),
                candidate("keys of 3 bits per token", None, Some("coarse-keys"), "control", 0.5),
            ] });
            fs::write(dir.path().join(format!("{model}-224.report.json")), report.to_string()).unwrap();
        }
        let figures = serde_json::json!([{
            "length": 224, "positions": 160, "mean_kl": estimate(3e-4), "top1_agreement": estimate(0.5)
        }]);
        let peer = serde_json::json!({ "against_qins": figures, "forms": [
            { "kv": "q8_0", "bits": 8.5, "against_f32": figures }
        ] });
        fs::write(dir.path().join("small-224.llama.json"), peer.to_string()).unwrap();
        let table = write(dir.path()).unwrap();
        assert_eq!(fs::read_to_string(dir.path().join("cache.md")).unwrap(), table);
        read::all(dir.path()).unwrap()
    }

    #[test]
    fn every_form_has_a_cell_where_it_was_measured() {
        let measured = measured();
        assert_eq!(
            (&measured.models[..], &measured.lengths[..]),
            (&["large".to_owned(), "small".to_owned()][..], &[224][..])
        );
        let names: Vec<&str> = measured.lines.iter().map(|line| &*line.name).collect();
        // The most bits first, and the controls last.
        assert_eq!(
            names,
            ["llama.cpp q8_0", "q8", "keys of 3 bits per token", "llama.cpp f32, from qins' plain cache"]
        );
        let cells: Vec<usize> = measured.lines.iter().map(|line| line.cells.len()).collect();
        assert_eq!(cells, [1, 2, 2, 1]);
        let table = table::table(&measured);
        assert!(table.contains("| `q8` | 8.25 | 2.0e-4 [1.0e-4, 4.0e-4] · 50.00 % | 1.0e-4"), "{table}");
        assert!(table.contains("| llama.cpp q8_0 | 8.50 | – | 3.0e-4"), "{table}");
    }

    #[test]
    fn controls_are_not_plotted() {
        let svg = plot(&measured(), 224);
        // q8 of two models, q8_0 of one.
        assert_eq!((svg.matches("<circle").count(), svg.matches("<g ").count()), (3, 2));
        assert!(svg.contains("bits per number") && !svg.contains("NaN"));
    }
}
