//! The report for people.

use std::fmt;

use super::{Candidate, PromptResult, Report, Role};
use crate::estimate::Estimate;

/// Shows a report as text.
#[derive(Debug)]
pub struct Terminal<'a>(pub &'a Report);

impl fmt::Display for Terminal<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { environment: e, model: m, baseline: b, candidates, passed, .. } = self.0;
        writeln!(
            f,
            "machine    {}, {}, {} threads, backend {}",
            e.platform,
            e.cpu.as_deref().unwrap_or("unknown processor"),
            e.threads,
            e.backend
        )?;
        writeln!(
            f,
            "model      {} ({}), {} weights, {}",
            m.name,
            m.model_type,
            thousands(m.parameters),
            bytes(m.weight_bytes)
        )?;
        writeln!(
            f,
            "baseline   plain weights, FP32 arithmetic: {} prompts, {} tokens, {:.1} tokens/s",
            b.texts.len(),
            b.generated_tokens,
            b.tokens_per_second
        )?;
        prompts(f, self.0)?;
        texts(f, self.0)?;
        totals(f, candidates, m.weight_bytes)?;
        details(f, candidates)?;
        let wide = wide(candidates);
        writeln!(f, "\ncriteria")?;
        for candidate in candidates.iter().filter(|c| c.role != Role::Information) {
            for criterion in &candidate.criteria {
                let verdict = match (candidate.role, criterion.met) {
                    (_, true) => "met",
                    (Role::Control, false) => "missed, as a control must",
                    (_, false) => "MISSED",
                };
                let (name, bar) = (&criterion.name, &criterion.bar);
                writeln!(
                    f,
                    "  {:<wide$} {name:<14} {bar:<9} found {:<10} {verdict}",
                    candidate.name,
                    figure(criterion.found)
                )?;
            }
        }
        for failed in candidates.iter().filter(|c| c.role == Role::Control && !c.passed) {
            writeln!(
                f,
                "  {:<wide$} met every bar, which a control must not: the comparison proves nothing",
                failed.name
            )?;
        }
        writeln!(f, "\nverdict    {}", if *passed { "PASS" } else { "FAIL" })
    }
}

/// A row a prompt, a column a candidate: tokens that match, and where not all do, the baseline's margin there.
fn prompts(f: &mut fmt::Formatter<'_>, report: &Report) -> fmt::Result {
    writeln!(
        f,
        "\nmatching tokens a prompt (where the text departs: the baseline's lead over its second choice there)"
    )?;
    let wide = wide(&report.candidates);
    write!(f, "  {:<14} {:>6}", "prompt", "tokens")?;
    for candidate in &report.candidates {
        write!(f, " {:>wide$}", candidate.name)?;
    }
    writeln!(f)?;
    for (i, run) in report.baseline.texts.iter().enumerate() {
        write!(f, "  {:<14} {:>6}", run.id, run.generated_ids.len())?;
        for candidate in &report.candidates {
            let cell = match candidate.prompts.get(i) {
                Some(result) => match &result.divergence {
                    None => "all".to_owned(),
                    Some(d) => match d.margin {
                        Some(margin) => format!("{} (by {margin:.3})", result.match_length),
                        None => format!("{} (ended)", result.match_length),
                    },
                },
                None => String::new(),
            };
            write!(f, " {cell:>wide$}")?;
        }
        writeln!(f)?;
    }
    Ok(())
}

/// The first text all judged candidates agree on, and the first each of them departs from.
fn texts(f: &mut fmt::Formatter<'_>, report: &Report) -> fmt::Result {
    let judged: Vec<&Candidate> = report.candidates.iter().filter(|c| c.role == Role::Judged).collect();
    let line = |f: &mut fmt::Formatter<'_>, id: &str, name: &str, prompt: &str, text: &str| {
        writeln!(f, "  {id:<14} {name:<12} {prompt}⟶{text}", prompt = one_line(prompt), text = one_line(text))
    };
    writeln!(f, "\nin their own words")?;
    let alike = |i: usize| judged.iter().all(|c| c.prompts.get(i).is_some_and(|p| p.divergence.is_none()));
    if let Some((_, t)) = report.baseline.texts.iter().enumerate().find(|(i, _)| alike(*i))
        && let (Some(prompt), Some(text)) = (&t.prompt, &t.text)
    {
        line(f, &t.id, "all alike", prompt, text)?;
    }
    for candidate in judged {
        let departed = report.baseline.texts.iter().zip(&candidate.prompts).find(|(_, p)| p.text.is_some());
        if let Some((t, PromptResult { text: Some(own), .. })) = departed
            && let (Some(prompt), Some(text)) = (&t.prompt, &t.text)
        {
            line(f, &t.id, "plain", prompt, text)?;
            line(f, &t.id, &candidate.name, prompt, own)?;
        }
    }
    Ok(())
}

fn one_line(text: &str) -> String {
    text.replace('\n', "↵")
}

fn totals(f: &mut fmt::Formatter<'_>, candidates: &[Candidate], plain_bytes: u64) -> fmt::Result {
    let wide = wide(candidates);
    writeln!(f, "\ntotals (95 % intervals: exact match binomial, the others resampled by prompt)")?;
    writeln!(
        f,
        "  {:<wide$} {:>6} {:>11} {:>7} {:>26} {:>28} {:>32} {:>9} {:>8}",
        "candidate",
        "bits",
        "weights",
        "of FP32",
        "prompts word for word",
        "same-top rate",
        "mean KL (nats)",
        "99 % KL",
        "tokens/s"
    )?;
    for c in candidates {
        let encoded = c.encoded_weights as f64 * 4.0;
        let at_rest = c.bits_per_weight.map_or(encoded, |b| c.encoded_weights as f64 * b / 8.0);
        writeln!(
            f,
            "  {:<wide$} {:>6} {:>11} {:>7} {:>26} {:>28} {:>32} {:>9} {:>8.1}",
            c.name,
            c.bits_per_weight.map_or("–".to_owned(), |b| format!("{b:.2}")),
            bytes(c.weight_bytes),
            if encoded > 0.0 { format!("{:.1} %", 100.0 * at_rest / encoded) } else { "–".to_owned() },
            percent(c.figures.exact_match, 1),
            percent(c.figures.same_top_rate, 2),
            estimated(c.figures.mean_kl),
            c.figures.p99_kl.map_or("–".to_owned(), figure),
            c.tokens_per_second,
        )?;
    }
    writeln!(
        f,
        "  `of FP32`: the encoded weights against 4 bytes each; the plain checkpoint has {}",
        bytes(plain_bytes)
    )
}

/// What else the predictions of the baseline's tokens show, and how far texts match.
fn details(f: &mut fmt::Formatter<'_>, candidates: &[Candidate]) -> fmt::Result {
    let wide = wide(candidates);
    writeln!(
        f,
        "\nafter the baseline's words (Δp: of its next token), and how far texts match (product-limit estimate)"
    )?;
    writeln!(
        f,
        "  {:<wide$} {:>28} {:>28} {:>28} {:>8} {:>32} {:>18}",
        "candidate",
        "of its 10 likeliest",
        "cosine of logits",
        "mean Δp, in %",
        "rms Δp",
        "ln of perplexity ratio",
        "half match, tokens"
    )?;
    for Candidate { name, figures: c, .. } in candidates {
        let half = c.survival.iter().find(|step| step.share < 0.5);
        writeln!(
            f,
            "  {name:<wide$} {:>28} {:>28} {:>28} {:>8} {:>32} {:>18}",
            percent(c.top10_overlap, 2),
            c.cosine.map_or("–".to_owned(), |e| format!("{:.6} [{:.6}, {:.6}]", e.value, e.low, e.high)),
            c.probability_change.map_or("–".to_owned(), |e| format!(
                "{:.3} [{:.3}, {:.3}]",
                100.0 * e.value,
                100.0 * e.low,
                100.0 * e.high
            )),
            c.rms_probability_change.map_or("–".to_owned(), |rms| format!("{:.3}", 100.0 * rms)),
            estimated(c.ln_perplexity_ratio),
            half.map_or("all".to_owned(), |step| (step.tokens - 1).to_string()),
        )?;
    }
    Ok(())
}

/// The width of a column of names.
fn wide(candidates: &[Candidate]) -> usize {
    candidates.iter().map(|c| c.name.chars().count()).fold(16, usize::max)
}

fn estimated(estimate: Option<Estimate>) -> String {
    estimate.map_or("–".to_owned(), |e| format!("{} [{}, {}]", figure(e.value), figure(e.low), figure(e.high)))
}

fn percent(estimate: Option<Estimate>, digits: usize) -> String {
    estimate.map_or("–".to_owned(), |e| {
        format!("{:.digits$} % [{:.digits$}, {:.digits$}]", 100.0 * e.value, 100.0 * e.low, 100.0 * e.high)
    })
}

fn figure(x: f64) -> String {
    if x == 0.0 {
        "0".to_owned()
    } else if x.abs() < 0.01 {
        format!("{x:.2e}")
    } else {
        format!("{x:.4}")
    }
}

fn bytes(n: u64) -> String {
    indicatif::HumanBytes(n).to_string()
}

fn thousands(n: u64) -> String {
    indicatif::HumanCount(n).to_string()
}
