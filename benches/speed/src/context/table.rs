//! The table, in Markdown.

use super::{measure::Run, theory::fits};

/// A row for each scheme and context length; the fitted model in brackets.
pub(crate) fn table(runs: &[Run]) -> String {
    let mut text = String::new();
    if let Some(Run { threads, cpu, card, .. }) = runs.first() {
        let machine = card.as_ref().or(cpu.as_ref()).map_or("unknown", |name| name.trim());
        text += &format!("{threads} threads, {machine}\n\n");
    }
    text += "| KV cache | context | size | per token | prefill time | decode per token | peak RSS |\n";
    text += "|---|--:|--:|--:|--:|--:|--:|\n";
    for fit in fits(runs) {
        for run in &fit.runs {
            let n = run.prompt_tokens as f64;
            text += &format!(
                "| {} | {} | {:.2} MB ({:.2}) | {:.0} B | {:.2} s ({:.2}) | {:.2} ms ({:.2}) | {} |\n",
                fit.name,
                run.prompt_tokens,
                run.kv_bytes as f64 / 1e6,
                fit.megabytes((run.prompt_tokens + run.tokens) as f64),
                run.bytes_per_token(),
                run.seconds(),
                fit.seconds(n),
                run.milliseconds(),
                fit.milliseconds(n),
                run.device_bytes
                    .or(run.peak_rss_bytes)
                    .map_or(String::new(), |peak| format!("{:.0} MB", peak as f64 / 1e6)),
            );
        }
    }
    text + "\nIn brackets, the model: size proportional to that of the longest context; prefill a·n + b·n² and decode a + b·n, fitted.\n"
}
