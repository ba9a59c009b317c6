//! The report in a few lines of Markdown, fit for a model's card.

use super::{
    Candidate, Report, Role,
    format::{bits, estimated, percent},
    tables::{self, Table},
};

/// A summary in Markdown: the verdict, what was compared on what, one table and the criteria.
pub fn summary(report: &Report) -> String {
    let mut text = format!("## {}\n\n{}\n\n", verdict(report).word(), escaped(&compared(report)));
    for (name, line) in tables::facts(report) {
        text += &format!("- **{name}:** {}\n", escaped(&line));
    }
    text += "\nFigures with their 95 % intervals: of whole texts binomial, all others resampled by prompt.\n\n";
    text += &table(&main(report));
    text += "\nThe nearer to the plain model, the higher the shares and the nearer to 0 KL and ln of the \
             perplexity ratio. A control must miss its bars: a comparison that cannot fail proves nothing.\n";
    let criteria = tables::criteria(report);
    if !criteria.rows.is_empty() {
        text += &format!("\n{}", table(&criteria));
    }
    text
}

/// What the report comes to.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Verdict {
    Pass,
    Fail,
    /// There was nothing to judge by.
    None,
}

impl Verdict {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Pass => "PASS",
            Self::Fail => "FAIL",
            Self::None => "Measured, not judged",
        }
    }
}

pub(super) fn verdict(report: &Report) -> Verdict {
    match (tables::criteria(report).rows.is_empty(), report.passed) {
        (true, _) => Verdict::None,
        (false, true) => Verdict::Pass,
        (false, false) => Verdict::Fail,
    }
}

/// What was compared, in a sentence.
pub(super) fn compared(report: &Report) -> String {
    let roles = [(Role::Judged, "judged"), (Role::Control, "to fail, as controls"), (Role::Information, "to look at")];
    let groups = roles.into_iter().filter_map(|(role, why)| {
        let names: Vec<&str> = report.candidates.iter().filter(|c| c.role == role).map(|c| &*c.name).collect();
        (!names.is_empty()).then(|| format!("{} {why} ({})", names.len(), names.join(", ")))
    });
    let groups: Vec<String> = groups.collect();
    let outcome = match verdict(report) {
        Verdict::Pass => ". Every judged form met its bars, and every control behaved",
        Verdict::Fail => ". A judged form missed a bar, or a control met all of its own",
        Verdict::None => "",
    };
    let (model, forms) = (&report.model.name, groups.join("; "));
    format!("Forms of {model} against its plain weights in FP32 arithmetic: {forms}{outcome}.")
}

/// The figures that say most, those that nothing has left out.
fn main(report: &Report) -> Table<'static> {
    let row = |c: &Candidate| {
        let forced = c.figures.forced.as_ref().or(c.figures.text.as_ref());
        let name = match c.role {
            Role::Judged => c.name.clone(),
            Role::Control => format!("{} (control: must fail)", c.name),
            Role::Information => format!("{} (for information)", c.name),
        };
        vec![
            name,
            bits(c.bits_per_weight),
            percent(forced.and_then(|f| f.same_top_rate), 2),
            estimated(forced.and_then(|f| f.mean_kl)),
            percent(c.figures.greedy.as_ref().and_then(|run| run.exact_match), 1),
            estimated(c.figures.text.as_ref().and_then(|f| f.ln_perplexity_ratio)),
        ]
    };
    Table {
        title: String::new(),
        header: vec![
            "candidate",
            "bits a weight",
            "same likeliest token",
            "mean KL, nats",
            "prompts word for word",
            "ln of perplexity ratio",
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

/// `text` on one line, without any meaning in Markdown or HTML. Brackets stay, for intervals: nothing follows them.
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
    fn what_has_a_meaning_in_markdown_is_escaped() {
        let mut report = sample::report();
        report.model.name = "a\nb <img>".to_owned();
        let text = summary(&report);
        assert!(text.contains("| q8 \\<b>\\|\\* |") && text.contains("Forms of a b \\<img> against"), "{text}");
        assert!(text.contains("| bad (control: must fail) |"), "{text}");
        // Every row of a table has as many cells as its head.
        let cells = |line: &str| line.replace("\\|", "").matches('|').count();
        let rows: Vec<usize> = text.lines().filter(|line| line.starts_with('|')).map(cells).collect();
        assert!(rows.iter().all(|n| [6, 7].contains(n)) && rows.len() == 11, "{rows:?}");
        assert!(text.lines().count() < 60);
    }

    #[test]
    fn the_verdict_is_of_the_criteria() {
        let mut report = sample::report();
        assert!(summary(&report).starts_with("## PASS\n"));
        report.passed = false;
        assert!(summary(&report).starts_with("## FAIL\n"));
        assert!(summary(&sample::bare()).starts_with("## Measured, not judged\n"));
        assert!(summary(&sample::bare()).contains("| q8 | 8.25 | – | – | – | – |"));
    }
}
