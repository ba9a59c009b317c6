//! The criteria of the schemes, and whether they are satisfied on each data set.

use std::fmt::Write;

use serde::Serialize;

use crate::{
    bound,
    data::DataSet,
    measure::{Kind, Point, Row},
};

/// A scheme, the format it is compared with, its minimum lead in dB, and whether it must have fewer bits.
const AGAINST: [(&str, &str, f64, bool); 5] = [
    ("q8g", "Q8_0", 1.0, false),
    ("q8", "int8", 2.0, false),
    ("q6", "Q6_K", 0.0, true),
    ("q5", "Q5_K", 0.0, true),
    ("q4", "Q4_K", 0.0, true),
];

/// Maximum distance of `rate` from its bound, in dB.
const BELOW: f64 = 0.3;

/// Maximum bits per weight of `lossless` on bf16.
const LOSSLESS: f64 = 11.0;

/// One criterion on one data set.
#[derive(Debug, Serialize)]
pub(crate) struct Criterion {
    pub(crate) criterion: String,
    pub(crate) data: String,
    pub(crate) measured: String,
    pub(crate) passed: bool,
}

/// Checks every criterion with `rows` on `sets`.
pub(crate) fn criteria(sets: &[DataSet], rows: &[Row]) -> Vec<Criterion> {
    let mut criteria = Vec::new();
    for (i, set) in sets.iter().enumerate() {
        let at = |name: &str| rows.iter().find(|row| row.name == name).and_then(|row| row.points.get(i));
        let mut push = |criterion, measured, passed| {
            criteria.push(Criterion { criterion, data: set.name.clone(), measured, passed });
        };
        for (ours, theirs, decibels, fewer) in AGAINST {
            if let (Some(a), Some(b)) = (at(ours), at(theirs)) {
                let ahead = decibels_of(a) - decibels_of(b);
                let criterion = match fewer {
                    true => format!("{ours} ≥ {theirs}, at fewer bits"),
                    false => format!("{ours} ≥ {theirs} + {decibels} dB"),
                };
                let coded = a.coded.unwrap_or(a.bits) - b.bits;
                let measured = format!("{ahead:+.2} dB at {:+.3} bits, {coded:+.3} coded", a.bits - b.bits);
                push(criterion, measured, ahead >= decibels && (!fewer || a.bits < b.bits));
            }
        }
        for row in rows.iter().filter(|row| row.kind == Kind::Rate) {
            if let Some(point) = row.points.get(i)
                && let Some(bound) = bound::decibels(set, point.bits)
            {
                let below = bound - decibels_of(point);
                let criterion = format!("{} ≥ uniform + entropy − {BELOW} dB", row.name);
                push(criterion, format!("{:+.2} dB at {:.3} bits", -below, point.bits), below <= BELOW);
            }
        }
        // Only for weights of 16 bits.
        if set.matrices.iter().all(|matrix| matrix.source.size() == 2)
            && let Some(point) = at("lossless")
        {
            push(format!("lossless ≤ {LOSSLESS} bits"), format!("{:.3} bits", point.bits), point.bits <= LOSSLESS);
        }
    }
    criteria
}

fn decibels_of(point: &Point) -> f64 {
    point.decibels.unwrap_or(f64::INFINITY)
}

/// The criteria as a text table.
pub(crate) fn table(criteria: &[Criterion]) -> String {
    let mut text = String::new();
    for Criterion { criterion, data, measured, passed } in criteria {
        let result = if *passed { "pass" } else { "FAIL" };
        let _ = writeln!(text, "{criterion:35}  {data:12}  {measured:38}  {result}");
    }
    text
}
