//! The report as one HTML page, without scripts or external resources.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::{
    Candidate, Continuation, Report, Role, Text, plots,
    summary::{Verdict, compared, verdict},
    tables::{self, Table},
};

/// Diverging texts shown per candidate before the others are folded.
const SHOWN: usize = 6;

/// Content security policy: inline styles, and the empty icon that keeps browsers from requesting one.
const ALLOWED: &str = "default-src 'none'; style-src 'unsafe-inline'; img-src data:";

/// The definition of each metric.
const GLOSSARY: [(&str, &str); 8] = [
    (
        "mean KL divergence (nats)",
        "KL(baseline‖candidate) of the next-token distributions, averaged over positions: 0 when they are equal.",
    ),
    (
        "top-1 agreement (teacher-forced)",
        "The share of positions where both models, having read the same tokens, have the same top-1 token.",
    ),
    (
        "coupled-sampling agreement",
        "The probability of the same token when both models sample with common random numbers (Gumbel-max coupling); \
         computed from the distributions, not from samples.",
    ),
    (
        "Δp",
        "The candidate's probability of the reference token less the baseline's, in percentage points: mean and root \
         mean square.",
    ),
    (
        "survival",
        "The share of texts whose first n tokens match; texts that end are censored (the Kaplan–Meier estimate).",
    ),
    (
        "exact-match rate (greedy)",
        "The share of prompts whose whole greedy text equals the baseline's; one diverging token, even at a near-tie, \
         makes it different.",
    ),
    (
        "perplexity ratio (ln)",
        "The natural logarithm of the candidate's perplexity over the baseline's on the same text, paired by token: \
         about the relative change, 0.01 for 1 %.",
    ),
    (
        "intervals",
        "95 % confidence intervals, in brackets: exact binomial (Clopper–Pearson) for exact-match rates, bootstrap with \
         2,000 resamples of prompts or windows for all others.",
    ),
];

/// Renders a report as one HTML page that loads nothing else.
pub fn page(report: &Report) -> String {
    let verdict = verdict(report);
    let criteria = tables::criteria(report);
    let class = match verdict {
        Verdict::Pass => "verdict pass",
        Verdict::Fail => "verdict fail",
        Verdict::None | Verdict::Partial => "verdict",
    };
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta http-equiv="Content-Security-Policy" content=(ALLOWED);
                link rel="icon" href="data:,";
                title { (verdict.word()) ": " (report.model.name) ", encoded against plain weights" }
                style { (PreEscaped(include_str!("page.css"))) }
            }
            body {
                header {
                    h1 {
                        span class=(class) { (verdict.word()) } " " (report.model.name) ", encoded against plain weights"
                    }
                    p.lead { (compared(report)) }
                }
                dl.facts {
                    @for (name, line) in tables::facts(report) { div { dt { (name) } dd { (line) } } }
                }
                @if !criteria.rows.is_empty() {
                    section {
                        (table(report, &criteria))
                        p.note {
                            "A judged variant must pass all its thresholds; a " (badge(Role::Control)) " must fail one, since \
                             an evaluation that cannot fail proves nothing; variants for "
                            (badge(Role::Information)) " decide nothing."
                        }
                    }
                }
                @for plot in plots::all(report) { (drawings(&plot)) }
                section {
                    h2 { "Metrics" }
                    p.note {
                        "With 95 % confidence intervals: exact binomial for exact-match rates, bootstrap by prompt for all \
                         others."
                    }
                    @for metrics in tables::all(report) { (table(report, &metrics)) }
                }
                (divergences(report))
                section {
                    h2 { "Definitions" }
                    dl.glossary { @for (name, meaning) in GLOSSARY { dt { (name) } dd { (meaning) } } }
                }
                footer { "qins " (report.environment.qins) ". All data are in the JSON file beside this page." }
            }
        }
    };
    page.into_string()
}

fn drawings(plot: &plots::Plot) -> Markup {
    html! {
        section.plot {
            h2 { (plot.title) }
            p.note { (plot.reading) }
            div class=(if plot.drawings.len() > 2 { "plots many" } else { "plots" }) {
                @for (name, svg) in &plot.drawings {
                    figure {
                        @if let Some(name) = name { figcaption { (name) } }
                        (svg)
                    }
                }
            }
        }
    }
}

/// A badge for candidates that are not judged.
fn badge(role: Role) -> Markup {
    match role {
        Role::Judged => html! {},
        Role::Control => html! { span.badge.control { "control" } },
        Role::Information => html! { span.badge { "information" } },
    }
}

fn table(report: &Report, table: &Table) -> Markup {
    let role = |name: &str| report.candidates.iter().find(|c| c.name == name).map_or(Role::Judged, |c| c.role);
    let of_candidates = table.header.first() == Some(&"candidate");
    html! {
        h3.title { (table.title) }
        div.scroll {
            table {
                thead { tr { @for name in &table.header { th scope="col" { (name) } } } }
                tbody {
                    @for row in &table.rows {
                        tr { @for (i, cell) in row.iter().enumerate() {
                            @if i == 0 {
                                th scope="row" { (cell) @if of_candidates { " " (badge(role(cell))) } }
                            } @else if i + 1 == row.len() && row.len() < table.header.len() {
                                td.remark colspan=(table.header.len() - i) { (cell) }
                            } @else {
                                td data-name=(table.header[i]) class=[(cell == tables::FAILED).then_some("missed")] {
                                    (value(cell))
                                }
                            }
                        } }
                    }
                }
            }
        }
    }
}

/// A value, which may break before its interval.
fn value(cell: &str) -> Markup {
    let (value, interval) = cell.split_once(" [").unwrap_or((cell, ""));
    html! {
        span.whole { (value) }
        @if !interval.is_empty() { " " span.whole { "[" (interval) } }
    }
}

/// The greedy texts of each judged candidate that diverge.
fn divergences(report: &Report) -> Markup {
    let judged = report.candidates.iter().filter(|c| c.role == Role::Judged && c.figures.greedy.is_some());
    let found: Vec<(&Candidate, Vec<(&Text, &Continuation)>)> = judged
        .map(|c| {
            let texts = c.prompts.iter().map(|prompt| prompt.greedy.as_ref());
            let pairs = report.baseline.texts.iter().zip(texts).filter_map(|(text, own)| Some((text, own?)));
            (c, pairs.filter(|(_, own)| own.divergence.is_some()).collect())
        })
        .collect();
    let matching: Vec<&str> = found.iter().filter(|(_, texts)| texts.is_empty()).map(|(c, _)| &*c.name).collect();
    html! {
        @if !found.is_empty() {
            section {
                h2 { "Diverging texts" }
                p.note {
                    "The baseline's greedy text and the candidate's: the common prefix is grey, the rest is marked. The logit \
                     margin is the baseline's largest logit less its second largest where the texts diverge: near 0, the two \
                     tokens were a tie."
                }
                @if !matching.is_empty() { p { "All texts match: " (matching.join(", ")) "." } }
                @for (candidate, texts) in found.iter().filter(|(_, texts)| !texts.is_empty()) {
                    h3 { (candidate.name) ": " (texts.len()) " of " (report.baseline.texts.len()) " texts diverge" }
                    @for (text, own) in texts.iter().take(SHOWN) { (divergence(&candidate.name, text, own)) }
                    @if texts.len() > SHOWN {
                        details {
                            summary { (texts.len() - SHOWN) " more" }
                            @for (text, own) in texts.iter().skip(SHOWN) { (divergence(&candidate.name, text, own)) }
                        }
                    }
                }
            }
        }
    }
}

fn divergence(name: &str, baseline: &Text, own: &Continuation) -> Markup {
    let margin = own.divergence.as_ref().and_then(|d| d.margin);
    let tokens = own.divergence.as_ref().map(|d| [d.baseline, d.candidate]);
    html! {
        article {
            p.head {
                b { (baseline.id) } ": the first " (own.match_length) " of " (own.tokens) " tokens match; "
                @match margin {
                    Some(margin) => { "logit margin " (format!("{margin:.3}")) }
                    None => "the baseline's text ends there",
                }
            }
            @if let Some(prompt) = &baseline.prompt { p.prompt { (prompt) } }
            div.pair {
                @match (&baseline.text, &own.text, tokens) {
                    (Some(a), Some(b), _) => {
                        @let same = common(a, b);
                        (column("baseline", a, same)) (column(name, b, same))
                    }
                    (_, _, Some([a, b])) => { (token("baseline", a)) (token(name, b)) }
                    _ => {}
                }
            }
        }
    }
}

/// Length of the common prefix in bytes, in whole characters.
fn common(a: &str, b: &str) -> usize {
    a.chars().zip(b.chars()).take_while(|(a, b)| a == b).map(|(c, _)| c.len_utf8()).sum()
}

fn column(name: &str, text: &str, same: usize) -> Markup {
    let (shared, rest) = text.split_at_checked(same).unwrap_or((text, ""));
    html! {
        div {
            h4 { (name) }
            p.text {
                span.same { (shared) }
                @if rest.is_empty() { span.ends { "ends here" } } @else { mark { (rest) } }
            }
        }
    }
}

/// A token by its id, for models without a tokenizer.
fn token(name: &str, token: Option<u32>) -> Markup {
    html! {
        div {
            h4 { (name) }
            p.text { @match token { Some(id) => mark { "token " (id) }, None => span.ends { "ends here" } } }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::sample, *};

    #[test]
    fn text_is_escaped() {
        let html = page(&sample::report());
        assert!(html.contains("&lt;script&gt;alert(1)&lt;/script&gt; of") && !html.contains("<script"));
        assert!(html.contains("q8 &lt;b&gt;|*") && html.contains("<mark>has been &lt;i&gt;</mark>"));
    }

    #[test]
    fn partial_report_is_marked() {
        let html = page(&sample::partial());
        assert!(html.contains("<span class=\"verdict\">PARTIAL</span>") && html.contains("<title>PARTIAL: "), "{html}");
        assert!(html.contains("was interrupted") && html.contains("q3 &lt;b&gt;, q8 α=0.01"));
        assert!(!html.contains("PASS") && html.contains("<h2>Diverging texts</h2>"));
    }

    #[test]
    fn page_loads_no_external_resource() {
        let html = page(&sample::report());
        for fetched in ["http://", "https://", "src=", "url(", "@import", "<script", "javascript:"] {
            assert!(!html.contains(fetched), "{fetched}");
        }
        assert_eq!(html, page(&sample::report()));
    }

    /// Wide screens scroll a table in its own box, and phones show its cells below each other, with the names of their columns.
    #[test]
    fn every_table_is_in_a_box_and_every_value_has_the_name_of_its_column() {
        let html = page(&sample::report());
        let tables = html.matches("<table>").count();
        assert!(tables > 8 && html.matches("<div class=\"scroll\"><table>").count() == tables, "{tables}");
        let cells: Vec<&str> = html.split("<td ").skip(1).collect();
        assert!(cells.len() > 50 && !html.contains("<td>"));
        for cell in cells {
            assert!(cell.starts_with("data-name=\"") || cell.starts_with("class=\"remark\""), "{}", &cell[..40]);
        }
        let interval = "<td data-name=\"mean KL divergence (nats)\"><span class=\"whole\">";
        let (_, cell) = html.split_once(interval).unwrap();
        let (value, rest) = cell.split_once("</span> <span class=\"whole\">[").unwrap();
        assert!(value.parse::<f64>().is_ok() && rest.contains("]</span></td>"), "{value}");
        let css = include_str!("page.css");
        for rule in [".scroll { overflow-x: auto; }", "content: attr(data-name)", "overflow-wrap: anywhere"] {
            assert!(css.contains(rule), "{rule}");
        }
    }

    #[test]
    fn texts_beyond_the_first_are_folded() {
        let html = page(&sample::report());
        assert!(html.contains("6 of 9 texts diverge") && !html.contains("</summary>"));
        let mut report = sample::report();
        report.candidates.iter_mut().for_each(|c| c.role = Role::Judged);
        assert!(page(&report).contains("<summary>3 more</summary>"));
        assert!(html.contains("<span class=\"badge control\">control</span>"));
        let bare = page(&sample::bare());
        assert!(
            !bare.contains("Diverging texts") && !bare.contains("Matching texts by length") && bare.contains("Sizes")
        );
    }

    #[test]
    fn common_prefix_ends_between_characters() {
        assert_eq!(common("fünf", "für"), 3);
        assert_eq!(common("ü", "ä"), 0);
        assert_eq!(common("ab", "abc"), 2);
        let mut report = sample::report();
        report.baseline.texts.iter_mut().for_each(|text| text.text = None);
        assert!(page(&report).contains("<mark>token 3</mark>"));
    }
}
