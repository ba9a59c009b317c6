//! The table, in Markdown.

use super::{measure::Run, theory::forms};

/// A row for each context of each form; what theory makes of it in brackets.
pub(crate) fn table(runs: &[Run]) -> String {
    let mut text = String::new();
    if let Some(Run { threads, cpu, card, .. }) = runs.first() {
        let machine = card.as_ref().or(cpu.as_ref()).map_or("unknown", |name| name.trim());
        text += &format!("{threads} threads, {machine}\n\n");
    }
    text += "| keys and values | context | of them | a token | read in | a token behind it | memory |\n";
    text += "|---|--:|--:|--:|--:|--:|--:|\n";
    for form in forms(runs) {
        for run in &form.runs {
            let n = run.prompt_tokens as f64;
            text += &format!(
                "| {} | {} | {:.2} MB ({:.2}) | {:.0} B | {:.2} s ({:.2}) | {:.2} ms ({:.2}) | {} |\n",
                form.name,
                run.prompt_tokens,
                run.kv_bytes as f64 / 1e6,
                form.megabytes((run.prompt_tokens + run.tokens) as f64),
                run.bytes_per_token(),
                run.seconds(),
                form.seconds(n),
                run.milliseconds(),
                form.milliseconds(n),
                run.device_bytes
                    .or(run.peak_rss_bytes)
                    .map_or(String::new(), |peak| format!("{:.0} MB", peak as f64 / 1e6)),
            );
        }
    }
    text + "\nIn brackets: memory in proportion to the longest context's; times as a·n + b·n² and a + b·n fit them.\n"
}
