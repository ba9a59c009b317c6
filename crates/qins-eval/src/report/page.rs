//! The report as one page: no script, and nothing that is fetched.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::{
    Candidate, Continuation, Report, Role, Text, plots,
    summary::{Verdict, compared, verdict},
    tables::{self, Table},
};

/// Texts of a candidate that are shown before a reader asks for more.
const SHOWN: usize = 6;

/// What the page may use: its own styles, and the empty icon that keeps browsers from asking for one.
const ALLOWED: &str = "default-src 'none'; style-src 'unsafe-inline'; img-src data:";

/// What each figure is, in a sentence.
const GLOSSARY: [(&str, &str); 8] = [
    (
        "KL",
        "How far the candidate's probabilities of the next token lie from the plain model's, in nats (the \
         divergence of Kullback and Leibler): 0 when they are equal.",
    ),
    (
        "same likeliest token",
        "The share of positions where both models find the same token likeliest, having read the same words.",
    ),
    (
        "same token drawn",
        "The probability that the same random numbers draw the same token from both, computed from their \
         probabilities and so no estimate from draws.",
    ),
    (
        "Δp",
        "By how much likelier the candidate finds the token that does follow, in percentage points: its mean, \
         and its spread (rms).",
    ),
    (
        "survival",
        "The share of texts still the same after so many tokens, where a text that ends counts only up to its \
         end (the estimate of Kaplan and Meier).",
    ),
    (
        "word for word",
        "Prompts whose whole text is the plain model's; a text that departs once, at a near-tie, counts as \
         different.",
    ),
    (
        "perplexity ratio",
        "The candidate's perplexity over the plain model's on the same text; its logarithm is about the \
         relative change, 0.01 for 1 %.",
    ),
    (
        "intervals",
        "In brackets, where the figure lies with 95 % confidence: of whole texts exact binomial (Clopper and \
         Pearson), of all others by drawing prompts, or windows of the text, anew 2,000 times.",
    ),
];

/// The report as a page of HTML that needs nothing beside itself.
pub fn page(report: &Report) -> String {
    let verdict = verdict(report);
    let criteria = tables::criteria(report);
    let class = match verdict {
        Verdict::Pass => "verdict pass",
        Verdict::Fail => "verdict fail",
        Verdict::None => "verdict",
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
                title { (verdict.word()) ": " (report.model.name) ", encoded and plain" }
                style { (PreEscaped(include_str!("page.css"))) }
            }
            body {
                header {
                    h1 { span class=(class) { (verdict.word()) } " " (report.model.name) ", encoded and plain" }
                    p.lead { (compared(report)) }
                }
                dl.facts {
                    @for (name, line) in tables::facts(report) { div { dt { (name) } dd { (line) } } }
                }
                @if !criteria.rows.is_empty() {
                    section {
                        (table(report, &criteria))
                        p.note {
                            "A judged form must meet its bars; a " (badge(Role::Control)) " must miss them, since a \
                             comparison that cannot fail proves nothing; a form for "
                            (badge(Role::Information)) " decides nothing."
                        }
                    }
                }
                @for plot in plots::all(report) { (drawings(&plot)) }
                section {
                    h2 { "Figures" }
                    p.note { "With their 95 % intervals: of whole texts binomial, all others resampled by prompt." }
                    @for figures in tables::all(report) { (table(report, &figures)) }
                }
                (departures(report))
                section {
                    h2 { "What the figures are" }
                    dl.glossary { @for (name, meaning) in GLOSSARY { dt { (name) } dd { (meaning) } } }
                }
                footer { "qins " (report.environment.qins) ". The file report.json beside this page has everything." }
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

/// A mark for what is not judged.
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
                                td class=[(cell == "MISSED").then_some("missed")] { (cell) }
                            }
                        } }
                    }
                }
            }
        }
    }
}

/// Where the greedy texts of each judged candidate depart.
fn departures(report: &Report) -> Markup {
    let judged = report.candidates.iter().filter(|c| c.role == Role::Judged && c.figures.greedy.is_some());
    let found: Vec<(&Candidate, Vec<(&Text, &Continuation)>)> = judged
        .map(|c| {
            let written = c.prompts.iter().map(|prompt| prompt.greedy.as_ref());
            let pairs = report.baseline.texts.iter().zip(written).filter_map(|(text, own)| Some((text, own?)));
            (c, pairs.filter(|(_, own)| own.divergence.is_some()).collect())
        })
        .collect();
    let alike: Vec<&str> = found.iter().filter(|(_, texts)| texts.is_empty()).map(|(c, _)| &*c.name).collect();
    html! {
        @if !found.is_empty() {
            section {
                h2 { "Where texts part" }
                p.note {
                    "The plain model's greedy text against the candidate's: grey is what they share, marked where they \
                     differ. The lead is how far the plain model's logit for its token lay above its second choice: near \
                     0, the two were a tie."
                }
                @if !alike.is_empty() { p { "No text parts: " (alike.join(", ")) "." } }
                @for (candidate, texts) in found.iter().filter(|(_, texts)| !texts.is_empty()) {
                    h3 { (candidate.name) ": " (texts.len()) " of " (report.baseline.texts.len()) " texts part" }
                    @for (text, own) in texts.iter().take(SHOWN) { (departure(&candidate.name, text, own)) }
                    @if texts.len() > SHOWN {
                        details {
                            summary { (texts.len() - SHOWN) " more" }
                            @for (text, own) in texts.iter().skip(SHOWN) { (departure(&candidate.name, text, own)) }
                        }
                    }
                }
            }
        }
    }
}

fn departure(name: &str, plain: &Text, own: &Continuation) -> Markup {
    let lead = own.divergence.as_ref().and_then(|d| d.margin);
    let tokens = own.divergence.as_ref().map(|d| [d.baseline, d.candidate]);
    html! {
        article {
            p.head {
                b { (plain.id) } ": the first " (own.match_length) " of " (own.tokens) " tokens match; "
                @match lead {
                    Some(lead) => { "the lead there was " (format!("{lead:.3}")) }
                    None => "there the plain text had ended",
                }
            }
            @if let Some(prompt) = &plain.prompt { p.prompt { (prompt) } }
            div.pair {
                @match (&plain.text, &own.text, tokens) {
                    (Some(a), Some(b), _) => {
                        @let same = common(a, b);
                        (column("plain", a, same)) (column(name, b, same))
                    }
                    (_, _, Some([a, b])) => { (token("plain", a)) (token(name, b)) }
                    _ => {}
                }
            }
        }
    }
}

/// How many bytes the texts have in common from the start, in whole characters.
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

/// Without a tokenizer, a token's number is all there is.
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
    fn what_the_report_says_is_text() {
        let html = page(&sample::report());
        assert!(html.contains("&lt;script&gt;alert(1)&lt;/script&gt; of") && !html.contains("<script"));
        assert!(html.contains("q8 &lt;b&gt;|*") && html.contains("<mark>has been &lt;i&gt;</mark>"));
    }

    #[test]
    fn a_page_needs_nothing_beside_itself() {
        let html = page(&sample::report());
        for fetched in ["http://", "https://", "src=", "url(", "@import", "<script", "javascript:"] {
            assert!(!html.contains(fetched), "{fetched}");
        }
        assert_eq!(html, page(&sample::report()));
    }

    #[test]
    fn what_parts_late_is_folded_away() {
        let html = page(&sample::report());
        assert!(html.contains("6 of 9 texts part") && !html.contains("</summary>"));
        let mut report = sample::report();
        report.candidates.iter_mut().for_each(|c| c.role = Role::Judged);
        assert!(page(&report).contains("<summary>3 more</summary>"));
        assert!(html.contains("<span class=\"badge control\">control</span>"));
        let bare = page(&sample::bare());
        assert!(!bare.contains("Where texts part") && !bare.contains("How far texts match") && bare.contains("Sizes"));
    }

    #[test]
    fn texts_are_cut_between_characters() {
        assert_eq!(common("fünf", "für"), 3);
        assert_eq!(common("ü", "ä"), 0);
        assert_eq!(common("ab", "abc"), 2);
        let mut report = sample::report();
        report.baseline.texts.iter_mut().for_each(|text| text.text = None);
        assert!(page(&report).contains("<mark>token 3</mark>"));
    }
}
