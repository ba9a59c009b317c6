//! What the schemes have set out to reach, and whether they do, on each data set.

use std::fmt::Write;

use serde::Serialize;

use crate::{
    bound,
    data::DataSet,
    measure::{Kind, Point, Row},
};

/// A scheme, what it is held against, how many dB it shall be ahead, and whether at fewer bits.
const AGAINST: [(&str, &str, f64, bool); 5] = [
    ("q8g", "Q8_0", 1.0, false),
    ("q8", "int8", 2.0, false),
    ("q6", "Q6_K", 0.0, true),
    ("q5", "Q5_K", 0.0, true),
    ("q4", "Q4_K", 0.0, true),
];

/// How many dB `rate` may stay below its bound.
const BELOW: f64 = 0.3;

/// Most bits per weight of bf16 that `lossless` may take.
const LOSSLESS: f64 = 11.0;

/// One bar on one data set.
#[derive(Debug, Serialize)]
pub(crate) struct Bar {
    pub(crate) bar: String,
    pub(crate) data: String,
    pub(crate) found: String,
    pub(crate) met: bool,
}

/// Holds every bar against `rows` on `sets`.
pub(crate) fn bars(sets: &[DataSet], rows: &[Row]) -> Vec<Bar> {
    let mut bars = Vec::new();
    for (i, set) in sets.iter().enumerate() {
        let at = |name: &str| rows.iter().find(|row| row.name == name).and_then(|row| row.points.get(i));
        let mut push = |bar, found, met| bars.push(Bar { bar, data: set.name.clone(), found, met });
        for (ours, theirs, decibels, fewer) in AGAINST {
            if let (Some(a), Some(b)) = (at(ours), at(theirs)) {
                let ahead = decibels_of(a) - decibels_of(b);
                let bar = match fewer {
                    true => format!("{ours} ≥ {theirs}, at fewer bits"),
                    false => format!("{ours} ≥ {theirs} + {decibels} dB"),
                };
                let coded = a.coded.unwrap_or(a.bits) - b.bits;
                let found = format!("{ahead:+.2} dB at {:+.3} bits, {coded:+.3} coded", a.bits - b.bits);
                push(bar, found, ahead >= decibels && (!fewer || a.bits < b.bits));
            }
        }
        for row in rows.iter().filter(|row| row.kind == Kind::Rate) {
            if let Some(point) = row.points.get(i)
                && let Some(bound) = bound::decibels(set, point.bits)
            {
                let below = bound - decibels_of(point);
                let bar = format!("{} ≥ uniform + entropy − {BELOW} dB", row.name);
                push(bar, format!("{:+.2} dB at {:.3} bits", -below, point.bits), below <= BELOW);
            }
        }
        // Only where there are 16 bits to save from.
        if set.matrices.iter().all(|matrix| matrix.source.size() == 2)
            && let Some(point) = at("lossless")
        {
            push(format!("lossless ≤ {LOSSLESS} bits"), format!("{:.3} bits", point.bits), point.bits <= LOSSLESS);
        }
    }
    bars
}

fn decibels_of(point: &Point) -> f64 {
    point.decibels.unwrap_or(f64::INFINITY)
}

/// As text.
pub(crate) fn table(bars: &[Bar]) -> String {
    let mut text = String::new();
    for Bar { bar, data, found, met } in bars {
        let _ = writeln!(text, "{bar:35}  {data:12}  {found:38}  {}", if *met { "met" } else { "missed" });
    }
    text
}
