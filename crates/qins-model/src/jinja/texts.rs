//! Filters of texts, with the arguments of Jinja in Python.

use minijinja::{
    Error, Value,
    value::{Kwargs, Rest, from_args},
};

use super::{
    python::{invalid, str},
    strings::{center as centered, lines},
};

pub(super) fn center(text: &str, width: Option<usize>) -> String {
    centered(text, width.unwrap_or(80), " ")
}

/// Words as Python's `\w+`.
pub(super) fn wordcount(text: &str) -> usize {
    text.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty()).count()
}

pub(super) fn replace(text: &Value, old: &str, new: &str, count: Option<usize>) -> Result<String, Error> {
    Ok(str(text)?.replacen(old, new, count.unwrap_or(usize::MAX)))
}

pub(super) fn escape(value: &Value) -> Result<String, Error> {
    let text = str(value)?.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    Ok(text.replace('\'', "&#39;").replace('"', "&#34;"))
}

pub(super) fn indent(
    text: &str,
    width: Option<Value>,
    first: Option<bool>,
    blank: Option<bool>,
    options: Kwargs,
) -> Result<String, Error> {
    let width = width.or(options.get("width")?).unwrap_or_else(|| Value::from(4));
    let (first, blank) = (first.or(options.get("first")?), blank.or(options.get("blank")?));
    options.assert_all_used()?;
    let indent = match width.as_str() {
        Some(indent) => indent.to_owned(),
        None => " ".repeat(usize::try_from(width)?.min(1 << 10)),
    };
    let (first, blank) = (first.unwrap_or(false), blank.unwrap_or(false));
    let all = lines(text, false).into_iter().enumerate().map(|(at, line)| {
        let indented = if at == 0 { first } else { blank || !line.is_empty() };
        if indented { indent.clone() + line } else { line.to_owned() }
    });
    let end = if text.ends_with('\n') { "\n" } else { "" };
    Ok(all.collect::<Vec<_>>().join("\n") + end)
}

pub(super) fn truncate(text: &str, args: Rest<Value>) -> Result<String, Error> {
    type Args = (Option<usize>, Option<bool>, Option<String>, Option<usize>, Kwargs);
    let (length, killwords, end, leeway, options): Args = from_args(&args)?;
    let length = length.or(options.get("length")?).unwrap_or(255);
    let killwords = killwords.or(options.get("killwords")?).unwrap_or(false);
    let end = end.or(options.get("end")?).unwrap_or_else(|| "...".to_owned());
    let leeway = leeway.or(options.get("leeway")?).unwrap_or(5);
    options.assert_all_used()?;
    let room = length.checked_sub(end.chars().count());
    let room =
        room.ok_or_else(|| invalid(&format!("expected a length of at least that of `{end}`, found {length}")))?;
    if text.chars().count() <= length.saturating_add(leeway) {
        return Ok(text.to_owned());
    }
    let cut: String = text.chars().take(room).collect();
    let kept = if killwords { &cut } else { cut.rsplit_once(' ').map_or(&*cut, |(before, _)| before) };
    Ok(kept.to_owned() + &end)
}
