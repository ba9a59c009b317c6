//! The report as a short Markdown summary, for a model card.

use super::{
    Candidate, Report, Role,
    format::{bits, estimated, percent},
    tables::{self, Table},
};

/// Renders a report as a short Markdown summary: verdict, setup, one table of metrics, and the criteria.
pub fn summary(report: &Report) -> String {
    let mut text = format!("## {}\n\n{}\n\n", verdict(report).word(), escaped(&compared(report)));
    for (name, line) in tables::facts(report) {
        text += &format!("- **{name}:** {}\n", escaped(&line));
    }
    text += "\nMetrics with 95 % confidence intervals: exact binomial for exact-match rates, bootstrap by prompt for all others.\n\n";
    text += &table(&main(report));
    text += "\nThe closer a candidate is to the baseline, the higher are the agreement and exact-match rates, and the closer \
             to 0 are KL divergence and perplexity ratio (ln). A control must fail a threshold: an evaluation that cannot \
             fail proves nothing.\n";
    let criteria = tables::criteria(report);
    if !criteria.rows.is_empty() {
        text += &format!("\n{}", table(&criteria));
    }
    text
}

/// The outcome of an evaluation.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Verdict {
    Pass,
    Fail,
    /// There were no criteria.
    None,
    /// It was interrupted: there is no outcome.
    Partial,
}

impl Verdict {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Pass => "PASS",
            Self::Fail => "FAIL",
            Self::None => "Measured, no criteria",
            Self::Partial => "PARTIAL",
        }
    }
}

pub(super) fn verdict(report: &Report) -> Verdict {
    match (report.partial, tables::criteria(report).rows.is_empty(), report.passed) {
        (true, ..) => Verdict::Partial,
        (false, true, _) => Verdict::None,
        (false, false, true) => Verdict::Pass,
        (false, false, false) => Verdict::Fail,
    }
}

/// The candidates by role, and the outcome, in a sentence.
pub(super) fn compared(report: &Report) -> String {
    let roles =
        [(Role::Judged, "judged"), (Role::Control, "as negative controls"), (Role::Information, "for information")];
    let groups = roles.into_iter().filter_map(|(role, why)| {
        let names: Vec<&str> = report.candidates.iter().filter(|c| c.role == role).map(|c| &*c.name).collect();
        (!names.is_empty()).then(|| format!("{} {why} ({})", names.len(), names.join(", ")))
    });
    let groups: Vec<String> = groups.collect();
    let outcome = match verdict(report) {
        Verdict::Pass => {
            ". Every judged variant passed its thresholds, and every control failed one, as it must".to_owned()
        }
        Verdict::Fail => ". A judged variant failed a threshold, or a control failed none".to_owned(),
        Verdict::None => String::new(),
        Verdict::Partial => format!(". {}", interrupted(report)),
    };
    let (model, variants) = (&report.model.name, if groups.is_empty() { "none".to_owned() } else { groups.join("; ") });
    format!("Variants of {model} compared with its plain weights in FP32 arithmetic: {variants}{outcome}.")
}

/// What a partial report lacks, without a full stop.
pub(super) fn interrupted(report: &Report) -> String {
    let missing = match &report.missing[..] {
        [] => String::new(),
        names => format!(", and {} not compared: {}", names.len(), names.join(", ")),
    };
    format!("The evaluation was interrupted: nothing has passed or failed{missing}")
}

/// The main metrics of every candidate.
fn main(report: &Report) -> Table<'static> {
    let row = |c: &Candidate| {
        let teacher_forced = c.figures.teacher_forced.as_ref().or(c.figures.text.as_ref());
        let name = match c.role {
            Role::Judged => c.name.clone(),
            Role::Control => format!("{} (control: must fail)", c.name),
            Role::Information => format!("{} (for information)", c.name),
        };
        vec![
            name,
            bits(c.bits_per_weight),
            percent(teacher_forced.and_then(|f| f.top1_agreement), 2),
            estimated(teacher_forced.and_then(|f| f.mean_kl)),
            percent(c.figures.greedy.as_ref().and_then(|run| run.exact_match_rate), 1),
            estimated(c.figures.text.as_ref().and_then(|f| f.ln_perplexity_ratio)),
        ]
    };
    Table {
        title: String::new(),
        header: vec![
            "candidate",
            "bits per weight (bpw)",
            "top-1 agreement (teacher-forced)",
            "mean KL divergence (nats)",
            "exact-match rate (greedy)",
            "perplexity ratio (ln)",
        ],
        rows: report.candidates.iter().map(row).collect(),
    }
}

fn table(table: &Table) -> String {
    let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
    let columns = table.header.len();
    let rule = (0..columns).map(|column| if column == 0 { "---" } else { "--:" }.to_owned());
    let mut text = line(table.header.iter().map(|name| (*name).to_owned()).collect()) + &line(rule.collect());
    for row in &table.rows {
        let cells = row.iter().map(|cell| escaped(cell));
        text += &line(cells.chain(std::iter::repeat(String::new())).take(columns).collect());
    }
    text
}

/// `text` on one line, with the special characters of Markdown and HTML escaped. Brackets stay, for intervals: no link follows.
fn escaped(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '\\' | '|' | '*' | '_' | '`' | '<' | '&' | '~' => out.extend(['\\', c]),
            '\n' | '\r' => out.push(' '),
            _ => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::{super::sample, *};

    #[test]
    fn markdown_in_names_is_escaped() {
        let mut report = sample::report();
        report.model.name = "a\nb <img>".to_owned();
        let text = summary(&report);
        assert!(text.contains("| q8 \\<b>\\|\\* |") && text.contains("Variants of a b \\<img> compared"), "{text}");
        assert!(text.contains("| bad (control: must fail) |"), "{text}");
        // Every row of a table has as many cells as its header.
        let cells = |line: &str| line.replace("\\|", "").matches('|').count();
        let rows: Vec<usize> = text.lines().filter(|line| line.starts_with('|')).map(cells).collect();
        assert!(rows.iter().all(|n| [6, 7].contains(n)) && rows.len() == 11, "{rows:?}");
        assert!(text.lines().count() < 60);
    }

    #[test]
    fn partial_report_claims_no_outcome_and_names_what_is_missing() {
        let text = summary(&sample::partial());
        assert!(text.starts_with("## PARTIAL\n"), "{text}");
        assert!(text.contains("was interrupted") && text.contains("2 not compared: q3 \\<b>, q8 α=0.01"), "{text}");
        assert!(!text.contains("Every judged variant passed") && !text.contains("PASS"), "{text}");
        // What was measured is there.
        assert!(text.contains("| bad (control: must fail) |"), "{text}");
    }

    #[test]
    fn verdict_follows_the_criteria() {
        let mut report = sample::report();
        assert!(summary(&report).starts_with("## PASS\n"));
        report.passed = false;
        assert!(summary(&report).starts_with("## FAIL\n"));
        assert!(summary(&sample::bare()).starts_with("## Measured, no criteria\n"));
        assert!(summary(&sample::bare()).contains("| q8 | 8.25 | – | – | – | – |"));
    }
}
