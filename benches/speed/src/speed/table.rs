//! The table, in Markdown.

use super::measure::Run;

/// A row for each run, then speed ratios of our schemes to plain weights and peers.
pub(crate) fn table(runs: &[Run]) -> String {
    let mut text = String::new();
    if let Some(Run { blocks, threads, cpu, simd, card, .. }) = runs.first() {
        let of = |what: &Option<String>| what.as_deref().unwrap_or("unknown").trim().to_owned();
        let machine = match card {
            Some(card) => format!("{card} (bandwidth: of a copy)"),
            None => format!("{threads} threads, {} ({})", of(cpu), of(simd)),
        };
        text += &format!("Phi-3.5-mini's shapes, {blocks} blocks, {machine}\n\n");
    }
    text += "| weights | size | decode tok/s | weights read | memory bandwidth | prefill tok/s (pp128) | peak RSS | load time |\n";
    text += "|---|--:|--:|--:|--:|--:|--:|--:|\n";
    for run in runs {
        text += &format!(
            "| {} | {:.0} MB | {:.1} | {:.1} GB/s | {} | {:.0} | {} | {:.1} s |\n",
            run.variant,
            run.weight_bytes as f64 / 1e6,
            run.decode_tokens_per_second,
            run.decode_gb_per_second,
            run.read_gb_per_second.map_or(String::new(), |read| format!("{read:.1} GB/s")),
            run.prefill_tokens_per_second,
            run.device_bytes
                .or(run.peak_rss_bytes)
                .map_or(String::new(), |peak| format!("{:.0} MB", peak as f64 / 1e6)),
            run.load_seconds,
        );
    }
    let find = |variant: &str| runs.iter().find(|run| run.variant == variant);
    let others = ["f32", "bf16", "llama.cpp q8_0", "llama.cpp q4_k_m"].map(find).into_iter().flatten();
    let others: Vec<&Run> = others.collect();
    let ours: Vec<&Run> =
        runs.iter().filter(|run| !run.is_peer() && !["f32", "bf16"].contains(&&run.variant[..])).collect();
    if ours.is_empty() || others.is_empty() {
        return text;
    }
    text += &format!(
        "\n| speed ratio (decode / prefill) to |{}\n|---|{}\n",
        others.iter().map(|o| format!(" {} |", o.variant)).collect::<String>(),
        "--:|".repeat(others.len())
    );
    for run in ours {
        let ratio = |other: &&Run| {
            format!(
                " {:.2} / {:.2} |",
                run.decode_tokens_per_second / other.decode_tokens_per_second,
                run.prefill_tokens_per_second / other.prefill_tokens_per_second
            )
        };
        text += &format!("| {} |{}\n", run.variant, others.iter().map(ratio).collect::<String>());
    }
    text
}
