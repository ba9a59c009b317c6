//! The table on the terminal.

use crate::measure::Row;

/// The rows as text; for each of the data sets `names` bits per weight, those of a coded file, and dB.
pub(crate) fn forms(names: &[&str], rows: &[Row]) -> String {
    let width = rows.iter().map(|row| row.name.len()).max().unwrap_or(0);
    let mut text = format!("{:width$}", "");
    names.iter().for_each(|name| text += &format!("  {name:>22}"));
    text += &format!("\n{:width$}", "");
    names.iter().for_each(|_| text += &format!("  {:>6}  {:>6}  {:>6}", "bits", "coded", "dB"));
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
