//! Filters, tests and operators that compute as Jinja in Python does.

use minijinja::{
    Error, ErrorKind, FormatStyle, Value, format_filter,
    value::{Kwargs, Rest, ValueKind},
};

use super::python::{self, invalid, items, str, tuple};

/// A number as a float; booleans are 0 and 1.
fn float(value: &Value) -> Result<f64, Error> {
    match value.kind() {
        ValueKind::Bool => Ok(f64::from(u8::from(value.is_true()))),
        ValueKind::Number => f64::try_from(value.clone()),
        kind => Err(invalid(&format!("expected a number, found a value of type {kind}"))),
    }
}

/// Two integers; `None` when one is no integer.
fn integers(a: &Value, b: &Value) -> Option<(i128, i128)> {
    let integer = |v: &Value| match v.kind() {
        ValueKind::Bool => Some(i128::from(v.is_true())),
        _ if v.is_integer() => i128::try_from(v.clone()).ok(),
        _ => None,
    };
    Some((integer(a)?, integer(b)?))
}

fn nonzero(b: &Value) -> Result<f64, Error> {
    let b = float(b)?;
    if b == 0.0 { Err(invalid("division by zero")) } else { Ok(b) }
}

/// `a / b`.
pub(super) fn div(a: &Value, b: &Value) -> Result<Value, Error> {
    Ok(Value::from(float(a)? / nonzero(b)?))
}

/// `a // b`: rounded down.
pub(super) fn floordiv(a: &Value, b: &Value) -> Result<Value, Error> {
    let divisor = nonzero(b)?;
    if let Some((a, b)) = integers(a, b) {
        let quotient = a.checked_div(b).ok_or_else(|| invalid("the quotient is out of range"))?;
        return Ok(Value::from(quotient - i128::from(a % b != 0 && (a < 0) != (b < 0))));
    }
    Ok(Value::from((float(a)? / divisor).floor()))
}

/// `a % b`: a text is formatted; of numbers, the remainder with the sign of `b`.
pub(super) fn modulo(a: &Value, b: &Value) -> Result<Value, Error> {
    if let Some(form) = a.as_str() {
        let args = python::as_tuple(b).unwrap_or(std::slice::from_ref(b));
        return printf(form, args).map(Value::from);
    }
    let divisor = nonzero(b)?;
    if let Some((a, b)) = integers(a, b) {
        let rest = a.checked_rem(b).unwrap_or(0);
        return Ok(Value::from(if rest != 0 && (rest < 0) != (b < 0) { rest + b } else { rest }));
    }
    let rest = float(a)? % divisor;
    Ok(Value::from(if rest != 0.0 && (rest < 0.0) != (divisor < 0.0) { rest + divisor } else { rest }))
}

/// `a ** b`.
pub(super) fn pow(a: &Value, b: &Value) -> Result<Value, Error> {
    if let Some((a, b)) = integers(a, b).filter(|(_, b)| *b >= 0) {
        let power = u32::try_from(b).ok().and_then(|b| a.checked_pow(b));
        return Ok(Value::from(power.ok_or_else(|| invalid("the power is out of range"))?));
    }
    Ok(Value::from(float(a)?.powf(float(b)?)))
}

/// `form % args`: with `%r`, `%(name)s` and values printed as Python does; the rest is MiniJinja's.
fn printf(form: &str, args: &[Value]) -> Result<String, Error> {
    let mut rest = form;
    let (mut plain, mut values, mut next) = (String::new(), Vec::new(), args.iter());
    while let Some(at) = rest.find('%') {
        plain += &rest[..at];
        rest = &rest[at + 1..];
        let end = rest.find(|c: char| c.is_ascii_alphabetic() || c == '%' || c == '(').unwrap_or(rest.len());
        let (flags, mut named) = (&rest[..end], None);
        rest = &rest[end..];
        if let Some(inner) = rest.strip_prefix('(') {
            let (name, after) = inner.split_once(')').ok_or_else(|| invalid("incomplete format key"))?;
            let mapping = args.first().cloned().unwrap_or_default();
            named = Some(mapping.get_item(&Value::from(name))?);
            next = args[args.len()..].iter();
            rest = after;
        }
        let kind = rest.chars().next().ok_or_else(|| invalid("incomplete format"))?;
        rest = &rest[kind.len_utf8()..];
        if kind == '%' {
            plain += "%%";
            continue;
        }
        let value = named.or_else(|| next.next().cloned()).ok_or_else(|| invalid("not enough arguments for format"))?;
        let (kind, value) = match kind {
            's' => ('s', Value::from(str(&value)?)),
            'r' | 'a' => ('s', Value::from(python::repr(&value)?)),
            'd' | 'i' | 'u' if value.kind() == ValueKind::Bool => ('d', Value::from(i64::from(value.is_true()))),
            'd' | 'i' | 'u' if value.kind() == ValueKind::Number => {
                ('d', int(&value, None, Kwargs::from_iter::<[(&str, Value); 0]>([]))?)
            }
            kind => (kind, value),
        };
        plain += &format!("%{flags}{kind}");
        values.push(value);
    }
    if next.next().is_some_and(|value| value.kind() != ValueKind::Map) {
        return Err(invalid("not all arguments converted during formatting"));
    }
    let form = plain + rest;
    let plain = form.replace("%%", "");
    plain.split('%').skip(1).try_for_each(|spec| expect_narrow(spec, |c| c.is_ascii_alphabetic()))?;
    format_filter(FormatStyle::Printf, &form, &values)
}

/// Checks the width and precision of a format, which ends before the first of some characters: all of it is made in memory.
fn expect_narrow(spec: &str, ends: fn(char) -> bool) -> Result<(), Error> {
    let spec = spec.split(ends).next().unwrap_or("");
    let wide = |digits: &&str| !digits.is_empty() && digits.parse::<u16>().is_err();
    match spec.split(|c: char| !c.is_ascii_digit()).find(wide) {
        None => Ok(()),
        Some(found) => Err(invalid(&format!("expected a width and precision of at most {}, found {found}", u16::MAX))),
    }
}

/// `text | format(…)`.
pub(super) fn format(form: &str, args: Rest<Value>) -> Result<String, Error> {
    match &args[..] {
        [kwargs] if kwargs.is_kwargs() => printf(form, &args),
        args => printf(form, args),
    }
}

/// `'{}'.format(…)`, whose values are printed as Python does.
pub(super) fn str_format(form: &str, args: &[Value]) -> Result<Value, Error> {
    form.replace("{{", "").split('{').skip(1).try_for_each(|spec| expect_narrow(spec, |c| c == '}'))?;
    let printed = |value: &Value| match value.kind() {
        ValueKind::String | ValueKind::Number => Ok(value.clone()),
        _ => str(value).map(Value::from),
    };
    let args = args.iter().map(|value| {
        if !value.is_kwargs() {
            return printed(value);
        }
        let kwargs = Kwargs::try_from(value.clone())?;
        let names: Vec<String> = kwargs.args().map(ToOwned::to_owned).collect();
        let all = names.iter().map(|name| Ok((name.as_str(), printed(&kwargs.get::<Value>(name)?)?)));
        Ok(Value::from(all.collect::<Result<Kwargs, Error>>()?))
    });
    format_filter(FormatStyle::StrFormat, form, &args.collect::<Result<Vec<_>, Error>>()?).map(Value::from)
}

pub(super) fn join(
    values: &Value,
    separator: Option<Value>,
    attribute: Option<Value>,
    options: Kwargs,
) -> Result<String, Error> {
    let attribute = attribute.or(options.get("attribute")?);
    let separator = match separator.or(options.get("d")?) {
        Some(separator) => str(&separator)?,
        None => String::new(),
    };
    options.assert_all_used()?;
    let all = match values.as_str() {
        Some(text) => text.chars().map(Value::from).collect(),
        None => items(values),
    };
    let text = |value: &Value| match &attribute {
        Some(path) => str(&python::attribute(value, path)?),
        None => str(value),
    };
    Ok(all.iter().map(text).collect::<Result<Vec<_>, _>>()?.join(&separator))
}

pub(super) fn length(value: &Value) -> Result<usize, Error> {
    if value.is_undefined() {
        return Ok(0);
    }
    value.len().ok_or_else(|| invalid(&format!("expected a value with a length, found one of type {}", value.kind())))
}

/// Numbers are added, lists joined.
pub(super) fn sum(
    values: &Value,
    attribute: Option<Value>,
    start: Option<Value>,
    options: Kwargs,
) -> Result<Value, Error> {
    let attribute = attribute.or(options.get("attribute")?);
    let start = start.or(options.get("start")?).unwrap_or_else(|| Value::from(0));
    options.assert_all_used()?;
    items(values).iter().try_fold(start, |sum, value| {
        let value = attribute.as_ref().map_or_else(|| Ok(value.clone()), |path| python::attribute(value, path))?;
        if matches!((sum.kind(), value.kind()), (ValueKind::Seq, ValueKind::Seq)) {
            return Ok([items(&sum), items(&value)].concat().into_iter().collect());
        }
        match integers(&sum, &value) {
            Some((a, b)) => a.checked_add(b).map(Value::from).ok_or_else(|| invalid("the sum is out of range")),
            None => Ok(Value::from(float(&sum)? + float(&value)?)),
        }
    })
}

pub(super) fn round(
    value: &Value,
    precision: Option<i32>,
    method: Option<&str>,
    options: Kwargs,
) -> Result<Value, Error> {
    let precision = precision.or(options.get("precision")?).unwrap_or(0);
    let method = method.or(options.get("method")?).unwrap_or("common");
    options.assert_all_used()?;
    let (x, scale) = (float(value)?, 10f64.powi(precision));
    match method {
        "ceil" => Ok(Value::from((x * scale).ceil() / scale)),
        "floor" => Ok(Value::from((x * scale).floor() / scale)),
        "common" if value.is_integer() => {
            let rounded = if precision < 0 { (x * scale).round_ties_even() / scale } else { return Ok(value.clone()) };
            Ok(Value::from(rounded as i64))
        }
        // The digits are exact, and ties of them go to even.
        "common" if precision >= 0 => {
            let digits = precision.min(400) as usize;
            Ok(Value::from(format!("{x:.digits$}").parse::<f64>().unwrap_or(x)))
        }
        "common" => Ok(Value::from((x * scale).round_ties_even() / scale)),
        other => Err(invalid(&format!("expected the method common, ceil or floor, found {other}"))),
    }
}

pub(super) fn int(value: &Value, default: Option<Value>, options: Kwargs) -> Result<Value, Error> {
    let default = default.or(options.get("default")?).unwrap_or_else(|| Value::from(0));
    let base = options.get::<Option<u32>>("base")?.unwrap_or(10).clamp(2, 36);
    options.assert_all_used()?;
    expect_defined(value)?;
    let truncated = |x: f64| if x.is_finite() { Value::from(x as i128) } else { default.clone() };
    Ok(match (value.kind(), value.as_str()) {
        (ValueKind::Bool, _) => Value::from(i64::from(value.is_true())),
        (ValueKind::Number, _) if value.is_integer() => value.clone(),
        (ValueKind::Number, _) => truncated(float(value)?),
        (_, Some(text)) => {
            let text = text.trim();
            let digits = if base == 16 { text.trim_start_matches("0x") } else { text };
            match (i128::from_str_radix(digits, base), text.parse::<f64>()) {
                (Ok(integer), _) => Value::from(integer),
                (_, Ok(x)) => truncated(x),
                _ => default.clone(),
            }
        }
        _ => default.clone(),
    })
}

pub(super) fn to_float(value: &Value, default: Option<Value>, options: Kwargs) -> Result<Value, Error> {
    let default = default.or(options.get("default")?).unwrap_or_else(|| Value::from(0.0));
    options.assert_all_used()?;
    expect_defined(value)?;
    Ok(match value.as_str() {
        Some(text) => text.trim().parse::<f64>().map_or(default, Value::from),
        None => float(value).map_or(default, Value::from),
    })
}

fn expect_defined(value: &Value) -> Result<(), Error> {
    if value.is_undefined() { Err(Error::from(ErrorKind::UndefinedError)) } else { Ok(()) }
}

/// What a loop goes over: texts are their characters, and everything has a length.
pub(super) fn iter(value: Value) -> Value {
    match (value.as_str(), value.kind()) {
        (Some(text), _) => text.chars().map(Value::from).collect(),
        (_, ValueKind::Iterable) if value.len().is_none() => items(&value).into_iter().collect(),
        _ => value,
    }
}

/// The keys and values of a mapping, as tuples.
pub(super) fn pairs_of(value: &Value) -> Vec<Value> {
    python::pairs(value).into_iter().map(|(key, value)| tuple([key, value])).collect()
}

/// Sorts with MiniJinja's filter; pairs are tuples.
pub(super) fn dictsort(value: &Value, options: Kwargs) -> Result<Value, Error> {
    let sorted = minijinja::filters::dictsort(value, options)?;
    Ok(items(&sorted).iter().map(|pair| tuple(items(pair))).collect())
}

/// `getattr`: the entries of a mapping are no attributes.
pub(super) fn attr(value: &Value, name: &str) -> Result<Value, Error> {
    if value.kind() == ValueKind::Map { Ok(Value::UNDEFINED) } else { value.get_attr(name) }
}

pub(super) fn is_sequence(value: &Value) -> bool {
    matches!(value.kind(), ValueKind::String | ValueKind::Seq | ValueKind::Map | ValueKind::Undefined)
        || (value.kind() == ValueKind::Iterable && value.len().is_some())
}

pub(super) fn is_iterable(value: &Value) -> bool {
    matches!(value.kind(), ValueKind::String | ValueKind::Undefined) || value.try_iter().is_ok() && !value.is_none()
}

pub(super) fn is_number(value: &Value) -> bool {
    matches!(value.kind(), ValueKind::Number | ValueKind::Bool)
}

pub(super) fn is_callable(value: &Value) -> bool {
    value.kind() == ValueKind::Plain
}
