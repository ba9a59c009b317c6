//! The table, in Markdown.

use std::fmt::Write;

use super::{Cell, Line, Measured, Role};

/// A part for each context length: a row for each form, with the mean KL divergence, its interval and the top-1 agreement of each
/// model.
pub(super) fn table(measured: &Measured) -> String {
    let mut text = String::new();
    for &length in &measured.lengths {
        let of = |line: &Line| measured.models.iter().filter_map(|model| line.at(model, length)).next().is_some();
        let lines: Vec<&Line> = measured.lines.iter().filter(|line| of(line)).collect();
        let positions = |model: &String| {
            let found = lines.iter().filter_map(|line| line.at(model, length)).map(|cell| cell.positions).next();
            found.map_or("not measured".to_owned(), |positions| format!("{positions} tokens"))
        };
        if !text.is_empty() {
            text += "\n";
        }
        let _ = write!(text, "| contexts of {length} tokens | bits per number |");
        measured.models.iter().for_each(|model| text += &format!(" {model} ({}) |", positions(model)));
        let _ = writeln!(text, "\n|---|--:|{}", "---|".repeat(measured.models.len()));
        for line in lines {
            let name = match line.role {
                Role::Ours => format!("`{}`", line.name),
                Role::Peer | Role::Control => line.name.clone(),
            };
            let _ = write!(text, "| {name} | {} |", bits(line));
            measured.models.iter().for_each(|model| text += &format!(" {} |", cell(line.at(model, length))));
            text += "\n";
        }
    }
    text + "\nMean KL divergence in nats from the same program's plain cache, with a 95 % interval (bootstrap over passages), and top-1 \
            agreement. Bits per number are counted at 2,048 tokens.\n"
}

fn cell(cell: Option<&Cell>) -> String {
    let Some(Cell { mean_kl: kl, top1_agreement, .. }) = cell else { return "–".to_owned() };
    let share = 100.0 * top1_agreement.value;
    format!("{:.1e} [{:.1e}, {:.1e}] · {share:.2} %", kl.value, kl.low, kl.high)
}

/// They differ between models by what the size of a head changes.
fn bits(line: &Line) -> String {
    let bits = || line.cells.iter().filter_map(|cell| cell.bits);
    let (least, most) = (bits().fold(f64::INFINITY, f64::min), bits().fold(0.0, f64::max));
    match (format!("{least:.2}"), format!("{most:.2}")) {
        _ if bits().next().is_none() => String::new(),
        (least, most) if least == most => most,
        (least, most) => format!("{least} to {most}"),
    }
}
