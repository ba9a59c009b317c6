//! The table on the terminal.

use crate::measure::Row;

/// The rows as text; for each of the data sets `names`, bits per weight and dB.
pub(crate) fn table(names: &[&str], rows: &[Row]) -> String {
    let width = rows.iter().map(|row| row.name.len()).max().unwrap_or(0);
    let mut text = format!("{:width$}", "");
    names.iter().for_each(|name| text += &format!("  {name:>14}"));
    text += &format!("\n{:width$}", "");
    names.iter().for_each(|_| text += &format!("  {:>6}  {:>6}", "bits", "dB"));
    for row in rows {
        text += &format!("\n{:width$}", row.name);
        for point in &row.points {
            let decibels = point.decibels.map_or_else(|| "exact".to_owned(), |d| format!("{d:.2}"));
            text += &format!("  {:>6.3}  {decibels:>6}", point.bits);
        }
    }
    text + "\n"
}
