//! The table, in Markdown.

use std::fmt::Write;

use super::{
    measure::Run,
    summary::{Spread, Summary},
};

/// For each prompt length a row for each variant, then speed ratios of our schemes to the others.
pub(crate) fn table(all: &[Summary]) -> String {
    let mut text = String::new();
    let Some(Run { blocks, threads, cpu, simd, card, .. }) = all.first().and_then(|summary| summary.runs.first())
    else {
        return text;
    };
    let of = |what: &Option<String>| what.as_deref().unwrap_or("unknown").trim().to_owned();
    let machine = match card {
        Some(card) => format!("{card} (bandwidth: of a copy)"),
        None => format!("{threads} threads, {} ({})", of(cpu), of(simd)),
    };
    let rounds = all.iter().map(|summary| summary.runs.len()).max().unwrap_or(0);
    let _ = writeln!(
        text,
        "Phi-3.5-mini's shapes, {blocks} blocks, {machine}; medians of {rounds} rounds, in brackets the least and the most"
    );
    let mut prompts: Vec<u32> = all.iter().map(|summary| summary.prompt).collect();
    prompts.dedup();
    prompts.sort_unstable();
    prompts.dedup();
    for prompt in prompts {
        let own: Vec<&Summary> = all.iter().filter(|summary| summary.prompt == prompt).collect();
        let _ = write!(
            text,
            "\n| prompt of {prompt} | size | decode tok/s | share of the read bandwidth | prefill tok/s | peak RSS |\n\
             |---|--:|--:|--:|--:|--:|\n"
        );
        own.iter().for_each(|summary| text += &row(summary));
        let others: Vec<&&Summary> = own.iter().filter(|summary| !summary.ours).collect();
        if others.len() == own.len() || others.is_empty() {
            continue;
        }
        let names: String = others.iter().map(|other| format!(" {} |", other.variant)).collect();
        let _ = writeln!(text, "\n| speed ratio (decode; prefill) to |{names}\n|---|{}", "--:|".repeat(others.len()));
        for summary in own.iter().filter(|summary| summary.ours) {
            let ratio = |other: &&&Summary| {
                let decode = summary.ratio(other, |run| run.decode_tokens_per_second);
                let prefill = summary.ratio(other, |run| run.prefill_tokens_per_second);
                format!(" {}; {} |", with_range(decode, 2), with_range(prefill, 2))
            };
            let _ = writeln!(text, "| {} |{}", summary.variant, others.iter().map(ratio).collect::<String>());
        }
    }
    text
}

fn row(summary: &Summary) -> String {
    let megabytes = |bytes: f64| format!("{:.0} MB", bytes / 1e6);
    let peak = summary.runs.iter().filter_map(|run| run.device_bytes.or(run.peak_rss_bytes)).max();
    format!(
        "| {} | {} | {} | {} | {} | {} |\n",
        summary.variant,
        megabytes(summary.of(|run| run.weight_bytes as f64).median),
        with_range(summary.decode(), 1),
        summary.share().map_or(String::new(), |share| with_range(share, 2)),
        with_range(summary.prefill(), 0),
        peak.map_or(String::new(), |peak| megabytes(peak as f64)),
    )
}

fn with_range(Spread { min, median, max }: Spread, places: usize) -> String {
    format!("{median:.places$} [{min:.places$}, {max:.places$}]")
}
