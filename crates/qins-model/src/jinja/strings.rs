//! Methods of Python's texts, lists and mappings, where `minijinja_contrib::pycompat` has none or computes otherwise.

use minijinja::{
    Error, ErrorKind, State, Value,
    value::{Kwargs, Rest, ValueKind, from_args},
};
use minijinja_contrib::pycompat::unknown_method_callback;

use super::{
    filters,
    python::{Kind, invalid, items, pairs, sequence, tuple},
};

/// A method call on a value.
pub(super) fn method(state: &State, value: &Value, name: &str, args: &[Value]) -> Result<Value, Error> {
    let own = match (value.kind(), value.as_str()) {
        (_, Some(text)) => on_text(text, name, args)?,
        (ValueKind::Map, _) => on_mapping(value, name, args)?,
        (ValueKind::Seq | ValueKind::Iterable, _) => on_list(value, name, args)?,
        _ => None,
    };
    own.map_or_else(|| unknown_method_callback(state, value, name, args), Ok)
}

fn on_mapping(value: &Value, name: &str, args: &[Value]) -> Result<Option<Value>, Error> {
    let view = |name, values| Ok(Some(sequence(Kind::View(name), values)));
    if matches!(name, "items" | "keys" | "values") {
        let () = from_args(args)?;
    }
    Ok(match name {
        "items" => return view("dict_items", filters::pairs_of(value)),
        "keys" => return view("dict_keys", items(value)),
        "values" => return view("dict_values", pairs(value).into_iter().map(|(_, value)| value).collect()),
        "copy" => {
            let () = from_args(args)?;
            Some(value.clone())
        }
        _ => None,
    })
}

fn on_list(value: &Value, name: &str, args: &[Value]) -> Result<Option<Value>, Error> {
    Ok(match name {
        "index" => {
            let (item,): (Value,) = from_args(args)?;
            let at = items(value).iter().position(|v| *v == item);
            Some(Value::from(at.ok_or_else(|| invalid("the value is not in the list"))?))
        }
        "copy" => {
            let () = from_args(args)?;
            Some(value.clone())
        }
        _ => None,
    })
}

fn on_text(text: &str, name: &str, args: &[Value]) -> Result<Option<Value>, Error> {
    let is = |all: &dyn Fn(char) -> bool| Ok(Some(Value::from(!text.is_empty() && text.chars().all(all))));
    let cased = |wrong: &dyn Fn(char) -> bool, right: &dyn Fn(char) -> bool| {
        Ok(Some(Value::from(!text.chars().any(wrong) && text.chars().any(right))))
    };
    let texts = |all: Vec<&str>| Ok(Some(all.into_iter().map(Value::from).collect::<Value>()));
    match name {
        "format" => return filters::str_format(text, args).map(Some),
        "isalpha" => return is(&char::is_alphabetic),
        "isalnum" => return is(&char::is_alphanumeric),
        "isdecimal" => return is(&|c| c.is_ascii_digit()),
        "isdigit" => return is(&|c| c.is_ascii_digit() || matches!(c, '²' | '³' | '¹' | '⁰'..='⁹' | '₀'..='₉')),
        "isnumeric" => return is(&char::is_numeric),
        "isspace" => return is(&char::is_whitespace),
        "islower" => return cased(&char::is_uppercase, &char::is_lowercase),
        "isupper" => return cased(&char::is_lowercase, &char::is_uppercase),
        "istitle" => return Ok(Some(Value::from(title(text) == text && text.chars().any(char::is_alphabetic)))),
        "isprintable" => return Ok(Some(Value::from(!text.chars().any(char::is_control)))),
        "isidentifier" => {
            let starts = text.starts_with(|c: char| c.is_alphabetic() || c == '_');
            return Ok(Some(Value::from(starts && text.chars().all(|c| c.is_alphanumeric() || c == '_'))));
        }
        "title" => return Ok(Some(Value::from(title(text)))),
        "swapcase" => {
            let swap =
                |c: char| if c.is_uppercase() { c.to_lowercase().to_string() } else { c.to_uppercase().to_string() };
            return Ok(Some(Value::from(text.chars().map(swap).collect::<String>())));
        }
        "casefold" => return Ok(Some(Value::from(text.to_lowercase().replace('ß', "ss")))),
        "split" | "rsplit" => return split(text, name == "rsplit", args).map(Some),
        "splitlines" => {
            let (keep,): (Option<bool>,) = from_args(args)?;
            return texts(lines(text, keep.unwrap_or(false)));
        }
        "partition" | "rpartition" => {
            let (by,): (&str,) = from_args(args)?;
            expect_separator(by)?;
            let found = if name == "partition" { text.find(by) } else { text.rfind(by) };
            let parts = match found {
                Some(at) => [&text[..at], by, &text[at + by.len()..]],
                None if name == "partition" => [text, "", ""],
                None => ["", "", text],
            };
            return Ok(Some(tuple(parts.map(Value::from))));
        }
        "join" => {
            let (values,): (&Value,) = from_args(args)?;
            let joined =
                filters::join(values, Some(Value::from(text)), None, Kwargs::from_iter::<[(&str, Value); 0]>([]))?;
            return Ok(Some(Value::from(joined)));
        }
        "find" | "rfind" | "index" | "rindex" | "count" => return found(text, name, args).map(Some),
        "startswith" | "endswith" if args.len() > 1 => {
            let (what, Rest(range)): (&Value, Rest<Value>) = from_args(args)?;
            let (part, _) = part(text, &range)?;
            let all = if what.as_str().is_some() { vec![what.clone()] } else { items(what) };
            let ends = |v: &Value| {
                v.as_str().is_some_and(|v| if name == "startswith" { part.starts_with(v) } else { part.ends_with(v) })
            };
            return Ok(Some(Value::from(all.iter().any(ends))));
        }
        "removeprefix" | "removesuffix" => {
            let (what,): (&str,) = from_args(args)?;
            let cut = if name == "removeprefix" { text.strip_prefix(what) } else { text.strip_suffix(what) };
            return Ok(Some(Value::from(cut.unwrap_or(text))));
        }
        "ljust" | "rjust" | "center" => {
            let (width, fill): (usize, Option<&str>) = from_args(args)?;
            let fill = fill.unwrap_or(" ");
            if fill.chars().count() != 1 {
                return Err(invalid("the fill character must be exactly one character long"));
            }
            let missing = fill.repeat(missing(text, width)?);
            return Ok(Some(Value::from(match name {
                "ljust" => text.to_owned() + &missing,
                "rjust" => missing + text,
                _ => center(text, width, fill),
            })));
        }
        "zfill" => {
            let (width,): (usize,) = from_args(args)?;
            let (sign, digits) = text.split_at(usize::from(text.starts_with(['+', '-'])));
            return Ok(Some(Value::from(format!("{sign}{}{digits}", "0".repeat(missing(text, width)?)))));
        }
        "expandtabs" => {
            let (size,): (Option<usize>,) = from_args(args)?;
            return Ok(Some(Value::from(expand_tabs(text, size.unwrap_or(8).min(MAX_WIDTH)))));
        }
        _ => {}
    }
    Ok(None)
}

/// The widest text that is filled up.
const MAX_WIDTH: usize = 1 << 20;

/// How many characters a text is narrower than a width.
fn missing(text: &str, width: usize) -> Result<usize, Error> {
    if width > MAX_WIDTH {
        return Err(invalid(&format!("expected a width of at most {MAX_WIDTH}, found {width}")));
    }
    Ok(width.saturating_sub(text.chars().count()))
}

/// `text.center(width, fill)`: the odd one is on the left if the width is odd.
pub(super) fn center(text: &str, width: usize, fill: &str) -> String {
    let missing = width.min(MAX_WIDTH).saturating_sub(text.chars().count());
    let left = missing / 2 + (missing & width & 1);
    fill.repeat(left) + text + &fill.repeat(missing - left)
}

fn title(text: &str) -> String {
    let mut after_letter = false;
    let cased = |c: char| {
        let new = if after_letter { c.to_lowercase().to_string() } else { c.to_uppercase().to_string() };
        after_letter = c.is_alphabetic();
        new
    };
    text.chars().map(cased).collect()
}

pub(super) fn lines(text: &str, keep: bool) -> Vec<&str> {
    let (mut all, mut rest) = (Vec::new(), text);
    let breaks = ['\n', '\r', '\u{b}', '\u{c}', '\u{1c}', '\u{1d}', '\u{1e}', '\u{85}', '\u{2028}', '\u{2029}'];
    while let Some(at) = rest.find(breaks) {
        let length = rest[at..].chars().next().map_or(1, char::len_utf8);
        let end = at + if rest[at..].starts_with("\r\n") { 2 } else { length };
        all.push(if keep { &rest[..end] } else { &rest[..at] });
        rest = &rest[end..];
    }
    if !rest.is_empty() {
        all.push(rest);
    }
    all
}

fn expect_separator(by: &str) -> Result<(), Error> {
    if by.is_empty() { Err(invalid("empty separator")) } else { Ok(()) }
}

fn split(text: &str, from_right: bool, args: &[Value]) -> Result<Value, Error> {
    let (by, most, options): (Option<Value>, Option<i64>, Kwargs) = from_args(args)?;
    let by = by.or(options.get("sep")?).filter(|by| !by.is_none());
    let most = most.or(options.get("maxsplit")?).and_then(|n| usize::try_from(n).ok()).unwrap_or(usize::MAX - 1);
    options.assert_all_used()?;
    let Some(by) = by else { return Ok(words(text, from_right, most).into_iter().map(Value::from).collect()) };
    let by = by.as_str().ok_or_else(|| invalid("expected a text to split by"))?;
    expect_separator(by)?;
    let mut all: Vec<&str> =
        if from_right { text.rsplitn(most + 1, by).collect() } else { text.splitn(most + 1, by).collect() };
    if from_right {
        all.reverse();
    }
    Ok(all.into_iter().map(Value::from).collect())
}

/// `text.split()` with at most `most` cuts, from either side.
fn words(text: &str, from_right: bool, most: usize) -> Vec<&str> {
    let (mut all, mut rest) = (Vec::new(), text.trim());
    while !rest.is_empty() {
        let cut = if from_right { rest.rfind(char::is_whitespace) } else { rest.find(char::is_whitespace) };
        match cut.filter(|_| all.len() < most) {
            Some(at) if from_right => {
                all.push(rest[at..].trim_start());
                rest = rest[..at].trim_end();
            }
            Some(at) => {
                all.push(&rest[..at]);
                rest = rest[at..].trim_start();
            }
            None => {
                all.push(rest);
                break;
            }
        }
    }
    if from_right {
        all.reverse();
    }
    all
}

/// The part of a text from one character to another, as in a slice, and how many characters are before it.
fn part<'t>(text: &'t str, range: &[Value]) -> Result<(&'t str, usize), Error> {
    let count = text.chars().count();
    let place = |value: Option<&Value>, default: usize| match value.filter(|v| !v.is_none()) {
        None => Ok::<_, Error>(default),
        Some(value) => {
            let at = i64::try_from(value.clone())?;
            Ok(if at < 0 { count.saturating_sub(at.unsigned_abs() as usize) } else { (at as usize).min(count) })
        }
    };
    let (start, end) = (place(range.first(), 0)?, place(range.get(1), count)?);
    let byte = |at: usize| text.char_indices().nth(at).map_or(text.len(), |(byte, _)| byte);
    Ok((text.get(byte(start)..byte(end)).unwrap_or(""), start))
}

fn found(text: &str, name: &str, args: &[Value]) -> Result<Value, Error> {
    let (what, Rest(range)): (&str, Rest<Value>) = from_args(args)?;
    let (part, before) = part(text, &range)?;
    if name == "count" {
        return Ok(Value::from(part.matches(what).count()));
    }
    let at = if name.starts_with('r') { part.rfind(what) } else { part.find(what) };
    match at.map(|at| before + part[..at].chars().count()) {
        Some(at) => Ok(Value::from(at)),
        None if name.ends_with("find") => Ok(Value::from(-1)),
        None => Err(Error::new(ErrorKind::InvalidOperation, "substring not found")),
    }
}

fn expand_tabs(text: &str, size: usize) -> String {
    let (mut out, mut column) = (String::new(), 0);
    for c in text.chars() {
        match c {
            '\t' => {
                let spaces = if size == 0 { 0 } else { size - column % size };
                out += &" ".repeat(spaces);
                column += spaces;
            }
            '\n' | '\r' => {
                out.push(c);
                column = 0;
            }
            c => {
                out.push(c);
                column += 1;
            }
        }
    }
    out
}
