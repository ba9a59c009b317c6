//! The report as text for a terminal.

use std::fmt;

use super::{
    Candidate, Continuation, Report, Role,
    summary::{Verdict, interrupted, verdict},
    tables::{self, Table},
};

/// Displays a report as text for a terminal: setup, texts, metrics, criteria and verdict.
#[derive(Debug)]
pub struct Terminal<'a>(pub &'a Report);

impl fmt::Display for Terminal<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let report = self.0;
        for (name, line) in tables::facts(report) {
            writeln!(f, "{name:<10} {line}")?;
        }
        aligned(f, &prompts(report))?;
        texts(f, report)?;
        writeln!(
            f,
            "\nmetrics with 95 % confidence intervals: exact binomial for exact-match rates, bootstrap by prompt for all others"
        )?;
        tables::all(report).iter().try_for_each(|table| aligned(f, table))?;
        aligned(f, &tables::criteria(report))?;
        match verdict(report) {
            Verdict::None => Ok(()),
            verdict @ (Verdict::Pass | Verdict::Fail) => writeln!(f, "\nverdict    {}", verdict.word()),
            verdict @ Verdict::Partial => writeln!(f, "\nverdict    {}. {}", verdict.word(), interrupted(report)),
        }
    }
}

/// A table with its title, each column as wide as its widest cell.
fn aligned(f: &mut fmt::Formatter<'_>, table: &Table) -> fmt::Result {
    if table.rows.is_empty() {
        return Ok(());
    }
    let header: Vec<String> = table.header.iter().map(|&name| name.to_owned()).collect();
    let lines = || std::iter::once(&header).chain(&table.rows);
    let wide = |column: usize| {
        // A remark in a short row may be wider than its column.
        lines().filter_map(|l| l.get(column).filter(|_| l.len() == header.len())).map(|c| c.chars().count()).max()
    };
    let widths: Vec<usize> = (0..header.len()).map(|column| wide(column).unwrap_or(0)).collect();
    writeln!(f, "\n{}", table.title)?;
    for line in lines() {
        let mut text = String::from(" ");
        for ((cell, wide), column) in line.iter().zip(&widths).zip(0..) {
            text += &if column == 0 { format!(" {cell:<wide$}") } else { format!("  {cell:>wide$}") };
        }
        writeln!(f, "{}", text.trim_end())?;
    }
    Ok(())
}

/// A row per prompt, a column per candidate: matching tokens, and the baseline's logit margin where the texts diverge.
fn prompts(report: &Report) -> Table<'_> {
    let generated: Vec<&Candidate> = report.candidates.iter().filter(|c| c.figures.greedy.is_some()).collect();
    let cell = |text: Option<&Continuation>| match text {
        None => String::new(),
        Some(Continuation { match_length, divergence, .. }) => match divergence {
            None => "all".to_owned(),
            Some(d) => match d.margin {
                Some(margin) => format!("{match_length} ({margin:.3})"),
                None => format!("{match_length} (ended)"),
            },
        },
    };
    let rows = report.baseline.texts.iter().enumerate().map(|(i, run)| {
        let cells = generated.iter().map(|c| cell(c.prompts.get(i).and_then(|p| p.greedy.as_ref())));
        [run.id.clone(), run.generated_ids.len().to_string()].into_iter().chain(cells).collect()
    });
    Table {
        title:
            "matching tokens per prompt, greedy (in parentheses: the baseline's logit margin where the texts diverge)"
                .to_owned(),
        rows: rows.collect(),
        header: ["prompt", "tokens"].into_iter().chain(generated.iter().map(|c| &*c.name)).collect(),
    }
}

/// The first text that all judged candidates match, and the first that each of them diverges from.
fn texts(f: &mut fmt::Formatter<'_>, report: &Report) -> fmt::Result {
    let written = |c: &'_ Candidate, i: usize| c.prompts.get(i).and_then(|p| p.greedy.clone());
    let judged: Vec<&Candidate> =
        report.candidates.iter().filter(|c| c.role == Role::Judged && c.figures.greedy.is_some()).collect();
    if judged.is_empty() {
        return Ok(());
    }
    let line = |f: &mut fmt::Formatter<'_>, id: &str, name: &str, prompt: &str, text: &str| {
        writeln!(f, "  {id:<14} {name:<12} {prompt}⟶{text}", prompt = one_line(prompt), text = one_line(text))
    };
    writeln!(f, "\nexample texts")?;
    let all_match = |i: usize| judged.iter().all(|c| written(c, i).is_some_and(|text| text.divergence.is_none()));
    if let Some((_, t)) = report.baseline.texts.iter().enumerate().find(|(i, _)| all_match(*i))
        && let (Some(prompt), Some(text)) = (&t.prompt, &t.text)
    {
        line(f, &t.id, "all match", prompt, text)?;
    }
    for candidate in judged {
        let own = |i: usize| written(candidate, i).and_then(|text| text.text);
        let diverged = report.baseline.texts.iter().enumerate().find_map(|(i, t)| Some((t, own(i)?)));
        if let Some((t, own)) = diverged
            && let (Some(prompt), Some(text)) = (&t.prompt, &t.text)
        {
            line(f, &t.id, "baseline", prompt, text)?;
            line(f, &t.id, &candidate.name, prompt, &own)?;
        }
    }
    Ok(())
}

fn one_line(text: &str) -> String {
    text.replace('\n', "↵")
}

#[cfg(test)]
mod tests {
    use super::{super::sample, *};

    #[test]
    fn verdict_is_the_last_line() {
        let last = |report: &Report| Terminal(report).to_string().lines().last().unwrap().to_owned();
        assert_eq!(last(&sample::report()), "verdict    PASS");
        assert_eq!(last(&Report { passed: false, ..sample::report() }), "verdict    FAIL");
        let partial = last(&sample::partial());
        assert!(
            partial.starts_with("verdict    PARTIAL. ") && partial.ends_with("2 not compared: q3 <b>, q8 α=0.01"),
            "{partial}"
        );
    }
}
