//! The report's tables, which its text, its page and its summary share.

use super::{
    Candidate, Forced, FreeRun, Report, Role, Sensitivity,
    format::{NONE, bits, bytes, estimated, figure, interval, optional, percent, thousands},
};

/// A table: a name and figures a row.
#[derive(Clone, Debug)]
pub(super) struct Table<'a> {
    pub(super) title: String,
    pub(super) header: Vec<&'a str>,
    pub(super) rows: Vec<Vec<String>>,
}

/// What was run where, line by line.
pub(super) fn facts(report: &Report) -> Vec<(&'static str, String)> {
    let Report { environment: e, run, model: m, baseline: b, .. } = report;
    let processor = e.cpu.as_deref().unwrap_or("unknown processor");
    let speed = b.tokens_per_second.map_or("read from a file".to_owned(), |speed| format!("{speed:.1} tokens/s"));
    let mut prompts = format!(
        "{} of {} (xxh3 {}), at most {} tokens",
        run.prompts.count, run.prompts.name, run.prompts.xxh3, run.max_new_tokens
    );
    if let Some(temperature) = run.temperature {
        prompts += &format!("; greedily, and at temperature {temperature} with seed {}", run.seed);
    }
    let mut facts = vec![
        ("machine", format!("{}, {processor}, {} threads, backend {}", e.platform, e.threads, e.backend)),
        (
            "model",
            format!(
                "{} ({}), {} weights, {} (xxh3 {})",
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
    let n = b.texts.len();
    let written = format!("plain weights, FP32 arithmetic: {n} prompts, {} tokens, {speed}", b.generated_tokens);
    facts.push(("baseline", written));
    facts
}

/// All tables of figures that have a row.
pub(super) fn all(report: &Report) -> Vec<Table<'static>> {
    let all = &report.candidates;
    let mut tables = vec![
        sizes(report),
        cache(all),
        free_run("greedy: on its own, the likeliest token each time", all, |c| c.figures.greedy.as_ref()),
        free_run("sampled: on its own, drawn with the baseline's random numbers", all, |c| c.figures.sampled.as_ref()),
        forced("after the baseline's greedy words", all, |c| c.figures.forced.as_ref()),
        more("after the baseline's greedy words, more (Δp: of the token that follows)", all, |c| {
            c.figures.forced.as_ref()
        }),
        forced("in the pinned text", all, |c| c.figures.text.as_ref()),
        perplexity(all),
        more("in the pinned text, more", all, |c| c.figures.text.as_ref()),
        contexts(all),
        sensitivity(&report.sensitivity),
    ];
    tables.retain(|table| !table.rows.is_empty());
    tables
}

/// The bars of what is judged, and of the controls.
pub(super) fn criteria(report: &Report) -> Table<'static> {
    let mut rows = Vec::new();
    for candidate in report.candidates.iter().filter(|c| c.role != Role::Information) {
        for criterion in &candidate.criteria {
            let verdict = match (candidate.role, criterion.met) {
                (_, true) => "met",
                (Role::Control, false) => "missed, as a control must",
                (_, false) => "MISSED",
            };
            let texts = [&*candidate.name, &criterion.name, &criterion.bar, &figure(criterion.found), verdict];
            rows.push(texts.map(str::to_owned).to_vec());
        }
        if candidate.role == Role::Control && !candidate.passed {
            let complaint = "met every bar, which a control must not: the comparison proves nothing";
            rows.push(vec![candidate.name.clone(), complaint.to_owned()]);
        }
    }
    Table { title: "criteria".to_owned(), header: vec!["candidate", "figure", "bar", "found", "verdict"], rows }
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
            "at rest (of FP32: the encoded weights against 4 bytes each; the plain checkpoint has {})",
            bytes(report.model.weight_bytes)
        ),
        header: vec!["candidate", "bits a weight", "all weights", "of FP32", "tokens/s"],
        rows: rows.collect(),
    }
}

/// What a form that is not the plain one keeps of the tokens read.
fn cache(candidates: &[Candidate]) -> Table<'static> {
    let encoded = candidates.iter().filter(|c| c.settings.kv.is_some());
    let rows = encoded.map(|c| vec![c.name.clone(), bytes(c.kv_bytes_per_1000_tokens)]).collect();
    Table { title: "keys and values".to_owned(), header: vec!["candidate", "of 1,000 tokens"], rows }
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
            percent(run.exact_match, 1),
            format!("{} of {}", run.matching_tokens, run.generated_tokens),
            interval(run.median_match, |tokens| format!("{tokens:.0}")),
            half.map_or("never".to_owned(), |step| step.tokens.to_string()),
        ]
    };
    Table {
        title: title.to_owned(),
        header: vec![
            "candidate",
            "prompts word for word",
            "matching tokens",
            "median of matching tokens",
            "half have parted by token",
        ],
        rows: rows(candidates, of, cells),
    }
}

fn forced<'a>(
    title: &str,
    candidates: &'a [Candidate],
    of: impl Fn(&'a Candidate) -> Option<&'a Forced>,
) -> Table<'static> {
    let cells = |f: &Forced| {
        vec![
            percent(f.same_top_rate, 2),
            percent(f.same_draw, 2),
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
            "same likeliest token",
            "same token drawn",
            "mean KL, nats",
            "median",
            "99 %",
            "99.9 %",
            "largest",
        ],
        rows: rows(candidates, of, cells),
    }
}

fn more<'a>(
    title: &str,
    candidates: &'a [Candidate],
    of: impl Fn(&'a Candidate) -> Option<&'a Forced>,
) -> Table<'static> {
    let cells = |f: &Forced| {
        vec![
            percent(f.top10_overlap, 2),
            interval(f.cosine, |cosine| format!("{cosine:.6}")),
            // A zero has no sign.
            interval(f.probability_change, |change| format!("{:.3}", 100.0 * change).replace("-0.000", "0.000")),
            f.rms_probability_change.map_or(NONE.to_owned(), |rms| format!("{:.3}", 100.0 * rms)),
        ]
    };
    let header = vec!["candidate", "of its 10 likeliest", "cosine of logits", "mean Δp, %", "rms Δp, %"];
    Table { title: title.to_owned(), header, rows: rows(candidates, of, cells) }
}

fn perplexity(candidates: &[Candidate]) -> Table<'static> {
    let cells = |f: &Forced| {
        let number = |x: Option<f64>| x.map_or(NONE.to_owned(), |x| format!("{x:.4}"));
        vec![number(f.baseline_perplexity), number(f.perplexity), estimated(f.ln_perplexity_ratio)]
    };
    Table {
        title: "perplexity of the pinned text, scored in the second half of each window".to_owned(),
        header: vec!["candidate", "baseline's", "its own", "ln of their ratio, paired by token"],
        rows: rows(candidates, |c| c.figures.text.as_ref(), cells),
    }
}

fn contexts(candidates: &[Candidate]) -> Table<'static> {
    let rows = candidates.iter().flat_map(|c| {
        c.figures.contexts.iter().map(|context| {
            let f = &context.forced;
            vec![
                c.name.clone(),
                thousands(context.tokens as u64),
                percent(f.same_top_rate, 2),
                estimated(f.mean_kl),
                optional(f.max_kl),
                estimated(f.ln_perplexity_ratio),
            ]
        })
    });
    Table {
        title: "after long contexts".to_owned(),
        header: vec![
            "candidate",
            "tokens read",
            "same likeliest token",
            "mean KL, nats",
            "largest",
            "ln of perplexity ratio",
        ],
        rows: rows.collect(),
    }
}

fn sensitivity(parts: &[Sensitivity]) -> Table<'static> {
    let rows = parts.iter().map(|part| {
        let figures = [thousands(part.weights), percent(part.same_top_rate, 2), estimated(part.mean_kl)];
        [vec![part.part.clone(), part.scheme.clone()], figures.to_vec()].concat()
    });
    Table {
        title: "one part encoded, all else plain".to_owned(),
        header: vec!["part", "scheme", "weights", "same likeliest token", "mean KL, nats"],
        rows: rows.collect(),
    }
}
