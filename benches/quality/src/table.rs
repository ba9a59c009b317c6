//! The tables on the terminal.

use std::fmt::Write;

use crate::{measure::Row, sparsity::Sparsity, speed::Speed};

/// The rows as text; for each of the data sets `names` bits per weight, those of an entropy-coded file, and SQNR.
pub(crate) fn schemes(names: &[&str], rows: &[Row]) -> String {
    let width = rows.iter().map(|row| row.name.len()).max().unwrap_or(0);
    let mut text = format!("{:width$}", "");
    names.iter().for_each(|name| text += &format!("  {name:>22}"));
    text += &format!("\n{:width$}", "");
    names.iter().for_each(|_| text += &format!("  {:>6}  {:>6}  {:>6}", "bpw", "coded", "SQNR"));
    for row in rows {
        text += &format!("\n{:width$}", row.name);
        for point in &row.points {
            let coded = point.coded.map_or_else(String::new, |bits| format!("{bits:.3}"));
            let decibels = point.decibels.map_or_else(|| "exact".to_owned(), |d| format!("{d:.2}"));
            text += &format!("  {:>6.3}  {coded:>6}  {decibels:>6}", point.bits);
        }
    }
    text + "\n"
}

/// Millions of weights per second.
pub(crate) fn speeds(speeds: &[Speed]) -> String {
    let mut text = "Mweights/s, best of 3  encode    code    load  decode\n".to_owned();
    for Speed { name, encode, code, load, decode } in speeds {
        let _ = writeln!(text, "{name:21}  {encode:>6.0}  {code:>6.0}  {load:>6.0}  {decode:>6.0}");
    }
    text
}

/// For each of the data sets `names` the SQNR after pruning at each rate.
pub(crate) fn sparsity(names: &[&str], Sparsity { bits, shares, decibels }: &Sparsity) -> String {
    let mut text = String::new();
    for (name, decibels) in names.iter().zip(decibels) {
        let _ = write!(text, "{name}, SQNR in dB of `rate` after pruning\npruned");
        bits.iter().for_each(|bits| text += &format!("  {:>6}", format!("{bits} bit")));
        for (share, decibels) in shares.iter().zip(decibels) {
            let _ = write!(text, "\n{:>4.0} %", 100.0 * share);
            decibels.iter().for_each(|decibels| text += &format!("  {decibels:>6.2}"));
        }
        text += "\n";
    }
    text
}
