//! Values as Python prints them.

use std::fmt::Write;

use minijinja::{
    Error, ErrorKind, Value,
    value::{Enumerator, Kwargs, Object, ObjectRepr, ValueKind},
};

/// A sequence of Python that is printed otherwise than a list.
#[derive(Debug)]
pub(super) struct Sequence(pub(super) Kind, pub(super) Vec<Value>);

#[derive(Debug)]
pub(super) enum Kind {
    Tuple,
    /// A view of a mapping, such as `dict_items`.
    View(&'static str),
    Range(i64, i64, i64),
}

impl Object for Sequence {
    fn repr(self: &std::sync::Arc<Self>) -> ObjectRepr {
        ObjectRepr::Seq
    }

    fn get_value(self: &std::sync::Arc<Self>, key: &Value) -> Option<Value> {
        self.1.get(key.as_usize()?).cloned()
    }

    fn enumerate(self: &std::sync::Arc<Self>) -> Enumerator {
        Enumerator::Seq(self.1.len())
    }
}

pub(super) fn sequence(kind: Kind, values: impl IntoIterator<Item = Value>) -> Value {
    Value::from_object(Sequence(kind, values.into_iter().collect()))
}

/// The values of a tuple.
pub(super) fn as_tuple(value: &Value) -> Option<&[Value]> {
    value.downcast_object_ref().and_then(|Sequence(kind, values)| matches!(kind, Kind::Tuple).then_some(&values[..]))
}

pub(super) fn tuple(values: impl IntoIterator<Item = Value>) -> Value {
    sequence(Kind::Tuple, values)
}

/// Lists within each other that are printed.
const MAX_DEPTH: usize = 256;

/// `str(value)`.
pub(super) fn str(value: &Value) -> Result<String, Error> {
    match value.kind() {
        ValueKind::String | ValueKind::Undefined => Ok(value.to_string()),
        _ => repr(value),
    }
}

/// `repr(value)`.
pub(super) fn repr(value: &Value) -> Result<String, Error> {
    nested(value, MAX_DEPTH)
}

fn nested(value: &Value, depth: usize) -> Result<String, Error> {
    let depth = depth.checked_sub(1).ok_or_else(|| invalid("expected lists less deep"))?;
    Ok(match value.kind() {
        ValueKind::None => "None".to_owned(),
        ValueKind::Undefined => "Undefined".to_owned(),
        ValueKind::Bool => if value.is_true() { "True" } else { "False" }.to_owned(),
        ValueKind::Number => number(value),
        ValueKind::String => quoted(value.as_str().unwrap_or_default()),
        ValueKind::Seq | ValueKind::Iterable => {
            let all = items(value).iter().map(|v| nested(v, depth)).collect::<Result<Vec<_>, _>>()?;
            let list = all.join(", ");
            match value.downcast_object_ref().map(|Sequence(kind, _)| kind) {
                Some(Kind::Tuple) if all.len() == 1 => format!("({list},)"),
                Some(Kind::Tuple) => format!("({list})"),
                Some(Kind::View(name)) => format!("{name}([{list}])"),
                Some(Kind::Range(start, end, 1)) => format!("range({start}, {end})"),
                Some(Kind::Range(start, end, step)) => format!("range({start}, {end}, {step})"),
                None => format!("[{list}]"),
            }
        }
        ValueKind::Map => {
            let entry = |(k, v): &(Value, Value)| Ok(format!("{}: {}", nested(k, depth)?, nested(v, depth)?));
            let all = pairs(value).iter().map(entry).collect::<Result<Vec<_>, Error>>()?;
            format!("{{{}}}", all.join(", "))
        }
        _ => value.to_string(),
    })
}

/// The values of a list; none of what is no list.
pub(super) fn items(value: &Value) -> Vec<Value> {
    value.try_iter().map(Iterator::collect).unwrap_or_default()
}

/// What `attribute='a.b'` of a filter names.
pub(super) fn attribute(value: &Value, path: &Value) -> Result<Value, Error> {
    let Some(path) = path.as_str() else { return value.get_item(path) };
    path.split('.').try_fold(value.clone(), |value, name| match name.parse::<i64>() {
        Ok(index) => value.get_item(&Value::from(index)),
        Err(_) => value.get_item(&Value::from(name)),
    })
}

/// The keys and values of a mapping, in its order.
pub(super) fn pairs(value: &Value) -> Vec<(Value, Value)> {
    items(value).into_iter().map(|key| (key.clone(), value.get_item(&key).unwrap_or_default())).collect()
}

fn number(value: &Value) -> String {
    match f64::try_from(value.clone()) {
        Ok(number) if !value.is_integer() => float(number),
        _ => value.to_string(),
    }
}

/// `repr` of a float: the shortest digits that give it back, with an exponent below 1e-4 and from 1e16 on.
pub(super) fn float(x: f64) -> String {
    if x.is_nan() {
        return "nan".to_owned();
    }
    if x.is_infinite() {
        return if x > 0.0 { "inf" } else { "-inf" }.to_owned();
    }
    if x != 0.0 && !(1e-4..1e16).contains(&x.abs()) {
        let text = format!("{x:e}");
        let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |e| ('-', e));
        return format!("{digits}e{sign}{exponent:0>2}");
    }
    format!("{x:?}")
}

fn quoted(text: &str) -> String {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    let mut out = String::from(quote);
    for c in text.chars() {
        let result = match c {
            '\\' => write!(out, "\\\\"),
            '\n' => write!(out, "\\n"),
            '\r' => write!(out, "\\r"),
            '\t' => write!(out, "\\t"),
            c if c == quote => write!(out, "\\{c}"),
            c if c < ' ' || ('\u{7f}'..'\u{a1}').contains(&c) || c == '\u{ad}' => {
                write!(out, "\\x{:02x}", u32::from(c))
            }
            c if !is_printable(c) && c < '\u{10000}' => write!(out, "\\u{:04x}", u32::from(c)),
            c if !is_printable(c) => write!(out, "\\U{:08x}", u32::from(c)),
            c => write!(out, "{c}"),
        };
        debug_assert!(result.is_ok());
    }
    out.push(quote);
    out
}

/// Close to `str.isprintable`: separators, format characters and private use are not.
fn is_printable(c: char) -> bool {
    !(c.is_control()
        || (c.is_whitespace() && c != ' ')
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
        || matches!(c, '\u{e000}'..='\u{f8ff}' | '\u{f0000}'..))
}

/// `json.dumps(value, …)`, with the arguments of the filter `tojson` in Transformers.
pub(super) fn tojson(value: &Value, indent: Option<Value>, options: Kwargs) -> Result<String, Error> {
    let indent = match indent {
        Some(indent) => Some(indent),
        None => options.get::<Option<Value>>("indent")?,
    };
    let indent = match indent.filter(|indent| !indent.is_none()) {
        Some(indent) => Some(indent.as_str().map_or_else(
            || usize::try_from(indent.clone()).map(|n| " ".repeat(n.min(64))),
            |text| Ok(text.to_owned()),
        )?),
        None => None,
    };
    let separators = options.get::<Option<Value>>("separators")?.filter(|s| !s.is_none()).map(|s| items(&s));
    let (item, key) = match separators.as_deref() {
        Some([item, key]) => (str(item)?, str(key)?),
        Some(_) => return Err(invalid("expected two separators")),
        None => (if indent.is_some() { "," } else { ", " }.to_owned(), ": ".to_owned()),
    };
    let json = Json {
        indent,
        item,
        key,
        ascii: options.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false),
        sorted: options.get::<Option<bool>>("sort_keys")?.unwrap_or(false),
    };
    options.assert_all_used()?;
    json.text(value, 0)
}

struct Json {
    indent: Option<String>,
    item: String,
    key: String,
    ascii: bool,
    sorted: bool,
}

impl Json {
    fn text(&self, value: &Value, depth: usize) -> Result<String, Error> {
        if depth == MAX_DEPTH {
            return Err(invalid("expected lists less deep"));
        }
        Ok(match value.kind() {
            ValueKind::String => self.quoted(value.as_str().unwrap_or_default()),
            ValueKind::None | ValueKind::Bool | ValueKind::Number => json_scalar(value),
            ValueKind::Seq | ValueKind::Iterable => {
                let all = items(value).iter().map(|v| self.text(v, depth + 1)).collect::<Result<Vec<_>, _>>()?;
                self.block('[', &all, ']', depth)
            }
            ValueKind::Map => {
                let name = |key: &Value| key.as_str().map_or_else(|| json_scalar(key), ToOwned::to_owned);
                let mut all: Vec<(String, Value)> = pairs(value).into_iter().map(|(k, v)| (name(&k), v)).collect();
                if self.sorted {
                    all.sort_by(|a, b| a.0.cmp(&b.0));
                }
                let entry = |(k, v): &(String, Value)| Ok(self.quoted(k) + &self.key + &self.text(v, depth + 1)?);
                let all = all.iter().map(entry).collect::<Result<Vec<_>, Error>>()?;
                self.block('{', &all, '}', depth)
            }
            kind => return Err(invalid(&format!("expected a value that JSON has, found one of type {kind}"))),
        })
    }

    fn block(&self, open: char, all: &[String], close: char, depth: usize) -> String {
        match &self.indent {
            Some(indent) if !all.is_empty() => {
                let line = |depth| format!("\n{}", indent.repeat(depth));
                let separator = self.item.clone() + &line(depth + 1);
                format!("{open}{}{}{}{close}", line(depth + 1), all.join(&separator), line(depth))
            }
            _ => format!("{open}{}{close}", all.join(&self.item)),
        }
    }

    fn quoted(&self, text: &str) -> String {
        let mut out = String::from('"');
        for c in text.chars() {
            match c {
                '"' | '\\' => out.extend(['\\', c]),
                '\n' => out += "\\n",
                '\r' => out += "\\r",
                '\t' => out += "\\t",
                '\u{8}' => out += "\\b",
                '\u{c}' => out += "\\f",
                c if c < ' ' || (self.ascii && !(' '..='~').contains(&c)) => {
                    c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| out += &format!("\\u{unit:04x}"));
                }
                c => out.push(c),
            }
        }
        out + "\""
    }
}

fn json_scalar(value: &Value) -> String {
    match value.kind() {
        ValueKind::None => "null".to_owned(),
        ValueKind::Bool => if value.is_true() { "true" } else { "false" }.to_owned(),
        _ => match &*number(value) {
            "nan" => "NaN".to_owned(),
            "inf" => "Infinity".to_owned(),
            "-inf" => "-Infinity".to_owned(),
            finite => finite.to_owned(),
        },
    }
}

pub(super) fn invalid(message: &str) -> Error {
    Error::new(ErrorKind::InvalidOperation, message.to_owned())
}
