//! The tables of the report, shared by its terminal text, page and summary.

use super::{
    Candidate, FreeRun, Report, Role, Sensitivity, TeacherForced,
    format::{NONE, bits, bytes, estimated, figure, interval, optional, percent, thousands},
};

/// A table: each row is a name and values.
#[derive(Clone, Debug)]
pub(super) struct Table<'a> {
    pub(super) title: String,
    pub(super) header: Vec<&'a str>,
    pub(super) rows: Vec<Vec<String>>,
}

/// The result of a criterion that a judged candidate failed.
pub(super) const FAILED: &str = "FAIL";

/// The setup of the evaluation, as names and lines.
pub(super) fn facts(report: &Report) -> Vec<(&'static str, String)> {
    let Report { environment: e, run, model: m, baseline: b, .. } = report;
    let processor = e.cpu.as_deref().unwrap_or("unknown processor");
    let speed =
        b.tokens_per_second.map_or("read from a file".to_owned(), |speed| format!("{speed:.1} tok/s over all texts"));
    let mut prompts = format!(
        "{} of {} (xxh3 {}), at most {} tokens",
        run.prompts.count, run.prompts.name, run.prompts.xxh3, run.max_new_tokens
    );
    if let Some(temperature) = run.temperature {
        prompts += &format!("; greedy, and sampled at temperature {temperature} with seed {}", run.seed);
    }
    let mut facts = vec![
        ("machine", format!("{}, {processor}, {} threads, backend {}", e.platform, e.threads, e.backend)),
        (
            "model",
            format!(
                "{} ({}), {} parameters, {} (xxh3 {})",
                m.name,
                m.model_type,
                thousands(m.parameters),
                bytes(m.weight_bytes),
                m.xxh3
            ),
        ),
        ("prompts", prompts),
    ];
    if let Some(text) = &run.text {
        facts.push(("text", format!("{} (xxh3 {}), {} passages", text.name, text.xxh3, text.count)));
    }
    if let Some(tokens) = &run.special_tokens {
        facts.push((
            "tokenizer",
            format!("special tokens added to texts: {tokens}; to conversations: their template's, or as to texts where there is no template"),
        ));
    }
    let n = b.texts.len();
    let baseline = format!("plain weights, FP32 arithmetic: {n} prompts, {} tokens, {speed}", b.generated_tokens);
    facts.push(("baseline", baseline));
    facts
}

/// All tables of metrics that have a row.
pub(super) fn all(report: &Report) -> Vec<Table<'static>> {
    let all = &report.candidates;
    let mut tables = vec![
        sizes(report),
        cache(all),
        free_run("free-running, greedy", all, |c| c.figures.greedy.as_ref()),
        free_run("free-running, sampled with the baseline's random numbers", all, |c| c.figures.sampled.as_ref()),
        teacher_forced("teacher-forced on the baseline's greedy texts", all, |c| c.figures.teacher_forced.as_ref()),
        logits("teacher-forced on the baseline's greedy texts, logits and Δp", all, |c| {
            c.figures.teacher_forced.as_ref()
        }),
        teacher_forced("teacher-forced on the text", all, |c| c.figures.text.as_ref()),
        perplexity(all),
        logits("teacher-forced on the text, logits and Δp", all, |c| c.figures.text.as_ref()),
        contexts(all),
        sensitivity(&report.sensitivity),
    ];
    tables.retain(|table| !table.rows.is_empty());
    tables
}

/// The criteria of judged candidates and controls.
pub(super) fn criteria(report: &Report) -> Table<'static> {
    let mut rows = Vec::new();
    for candidate in report.candidates.iter().filter(|c| c.role != Role::Information) {
        for criterion in &candidate.criteria {
            let verdict = match (candidate.role, criterion.passed) {
                (_, true) => "pass",
                (Role::Control, false) => "fail, as a control must",
                (Role::Judged | Role::Information, false) => FAILED,
            };
            let texts = [&*candidate.name, &criterion.name, &criterion.threshold, &figure(criterion.measured), verdict];
            rows.push(texts.map(str::to_owned).to_vec());
        }
        if candidate.role == Role::Control && !candidate.passed {
            let remark = "passed every threshold, which a control must not: the evaluation proves nothing";
            rows.push(vec![candidate.name.clone(), remark.to_owned()]);
        }
    }
    Table { title: "criteria".to_owned(), header: vec!["candidate", "metric", "threshold", "measured", "result"], rows }
}

fn sizes(report: &Report) -> Table<'static> {
    let rows =
        report.candidates.iter().filter(|c| c.settings.computation.is_none() && c.settings.kv.is_none()).map(|c| {
            let encoded = c.encoded_weights as f64 * 4.0;
            let share = c.bits_per_weight.filter(|_| encoded > 0.0).map(|bits| bits / 32.0);
            vec![
                c.name.clone(),
                bits(c.bits_per_weight),
                bytes(c.weight_bytes),
                share.map_or(NONE.to_owned(), |share| format!("{:.1} %", 100.0 * share)),
                c.tokens_per_second.map_or(NONE.to_owned(), |speed| format!("{speed:.1}")),
            ]
        });
    Table {
        title: format!(
            "weights as stored (of FP32: encoded weights against 4 bytes each; the plain checkpoint has {})",
            bytes(report.model.weight_bytes)
        ),
        header: vec!["candidate", "bpw", "all weights", "of FP32", "tok/s over all texts"],
        rows: rows.collect(),
    }
}

/// The sizes of encoded KV caches.
fn cache(candidates: &[Candidate]) -> Table<'static> {
    let encoded = candidates.iter().filter(|c| c.settings.kv.is_some());
    let cells =
        |c: &Candidate| vec![c.name.clone(), bits(Some(c.kv_bits_per_number)), bytes(c.kv_bytes_per_1000_tokens)];
    let header = vec!["candidate", "bits per number of 2,048 tokens", "1,000 tokens"];
    Table { title: "KV cache".to_owned(), header, rows: encoded.map(cells).collect() }
}

fn rows<'a, T: 'a>(
    candidates: &'a [Candidate],
    of: impl Fn(&'a Candidate) -> Option<&'a T>,
    cells: impl Fn(&'a T) -> Vec<String>,
) -> Vec<Vec<String>> {
    let found = candidates.iter().filter_map(|c| Some((c, of(c)?)));
    found.map(|(c, figures)| [vec![c.name.clone()], cells(figures)].concat()).collect()
}

fn free_run<'a>(
    title: &str,
    candidates: &'a [Candidate],
    of: impl Fn(&'a Candidate) -> Option<&'a FreeRun>,
) -> Table<'static> {
    let cells = |run: &FreeRun| {
        let half = run.survival.iter().find(|step| step.share < 0.5);
        vec![
            percent(run.exact_match_rate, 1),
            format!("{} of {}", run.matching_tokens, run.generated_tokens),
            interval(run.median_match_length, |tokens| format!("{tokens:.0}")),
            half.map_or("never".to_owned(), |step| step.tokens.to_string()),
        ]
    };
    Table {
        title: title.to_owned(),
        header: vec![
            "candidate",
            "exact-match rate",
            "matching tokens",
            "median matching prefix",
            "half diverged by token",
        ],
        rows: rows(candidates, of, cells),
    }
}

fn teacher_forced<'a>(
    title: &str,
    candidates: &'a [Candidate],
    of: impl Fn(&'a Candidate) -> Option<&'a TeacherForced>,
) -> Table<'static> {
    let cells = |f: &TeacherForced| {
        vec![
            percent(f.top1_agreement, 2),
            percent(f.coupled_agreement, 2),
            estimated(f.mean_kl),
            optional(f.median_kl),
            optional(f.p99_kl),
            optional(f.p999_kl),
            optional(f.max_kl),
        ]
    };
    Table {
        title: title.to_owned(),
        header: vec![
            "candidate",
            "top-1 agreement",
            "coupled-sampling agreement",
            "mean KL divergence (nats)",
            "median",
            "p99",
            "p99.9",
            "max",
        ],
        rows: rows(candidates, of, cells),
    }
}

fn logits<'a>(
    title: &str,
    candidates: &'a [Candidate],
    of: impl Fn(&'a Candidate) -> Option<&'a TeacherForced>,
) -> Table<'static> {
    let cells = |f: &TeacherForced| {
        vec![
            percent(f.top10_overlap, 2),
            interval(f.cosine, |cosine| format!("{cosine:.6}")),
            // A zero has no sign.
            interval(f.probability_change, |change| format!("{:.3}", 100.0 * change).replace("-0.000", "0.000")),
            f.rms_probability_change.map_or(NONE.to_owned(), |rms| format!("{:.3}", 100.0 * rms)),
        ]
    };
    let header = vec!["candidate", "top-10 overlap", "cosine of logits", "mean Δp, %", "RMS Δp, %"];
    Table { title: title.to_owned(), header, rows: rows(candidates, of, cells) }
}

fn perplexity(candidates: &[Candidate]) -> Table<'static> {
    let cells = |f: &TeacherForced| {
        vec![optional(f.baseline_perplexity), optional(f.perplexity), estimated(f.ln_perplexity_ratio)]
    };
    Table {
        title: "perplexity of the text, scored in the second half of each window".to_owned(),
        header: vec!["candidate", "baseline", "candidate's", "perplexity ratio (ln)"],
        rows: rows(candidates, |c| c.figures.text.as_ref(), cells),
    }
}

fn contexts(candidates: &[Candidate]) -> Table<'static> {
    let rows = candidates.iter().flat_map(|c| {
        c.figures.contexts.iter().map(|context| {
            let f = &context.teacher_forced;
            vec![
                c.name.clone(),
                thousands(context.tokens as u64),
                percent(f.top1_agreement, 2),
                estimated(f.mean_kl),
                optional(f.max_kl),
                estimated(f.ln_perplexity_ratio),
            ]
        })
    });
    Table {
        title: "teacher-forced at the end of long contexts".to_owned(),
        header: vec![
            "candidate",
            "context tokens",
            "top-1 agreement",
            "mean KL divergence (nats)",
            "max",
            "perplexity ratio (ln)",
        ],
        rows: rows.collect(),
    }
}

fn sensitivity(parts: &[Sensitivity]) -> Table<'static> {
    let rows = parts.iter().map(|part| {
        let figures = [thousands(part.weights), percent(part.top1_agreement, 2), estimated(part.mean_kl)];
        [vec![part.part.clone(), part.scheme.clone()], figures.to_vec()].concat()
    });
    Table {
        title: "sensitivity: one part encoded, all others plain".to_owned(),
        header: vec!["part", "scheme", "weights", "top-1 agreement", "mean KL divergence (nats)"],
        rows: rows.collect(),
    }
}
