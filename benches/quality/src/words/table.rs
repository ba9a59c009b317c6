//! The table, in Markdown.

use super::{Cell, Format, Model, Program};

/// A part for each model: a row for each format, with the mean KL divergence, its interval and the top-1 agreement, without a
/// calibration and with one.
pub(super) fn table(models: &[Model]) -> String {
    let mut text = String::new();
    for Model { name, texts, positions, formats } in models {
        text += &format!(
            "| {name}: {texts}, {positions} tokens | bits per weight | without calibration | with calibration |\n"
        );
        text += "|---|--:|---|---|\n";
        for Format { name, program, bits_per_weight, uncalibrated, calibrated } in formats {
            let name = match program {
                Program::Qins => format!("`{name}`"),
                Program::Llama => format!("llama.cpp {name}"),
            };
            text += &format!("| {name} | {bits_per_weight:.2} | {} | {} |\n", cell(*uncalibrated), cell(*calibrated));
        }
        text += "\n";
    }
    text + "Mean KL divergence in nats from the plain model, with a 95 % interval (bootstrap over prompts or passages), and top-1 agreement. \
            With calibration: qins' error feedback, or llama.cpp's importance matrix, from the same texts.\n"
}

fn cell(cell: Option<Cell>) -> String {
    let Some(Cell { mean_kl: kl, top1_agreement }) = cell else { return "–".to_owned() };
    let share = 100.0 * top1_agreement.value;
    format!("{:.2e} [{:.2e}, {:.2e}] · {share:.2} %", kl.value, kl.low, kl.high)
}
