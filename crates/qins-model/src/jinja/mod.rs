//! Jinja as Transformers sets it up: MiniJinja, with what it lacks of Python.

mod cycler;
mod filters;
mod python;
mod source;
mod strings;
mod texts;
mod token;

use std::{fmt::Write, iter};

use chrono::{Local, NaiveDateTime, format::StrftimeItems};
use minijinja::{
    AutoEscape, Environment, Error, ErrorKind, Output, State, UndefinedBehavior, Value,
    value::{Kwargs, Rest},
};
use minijinja_contrib::{filters::striptags, globals::joiner};

use crate::guard::guarded;

/// Instructions that a template may take: a bound for those that would not end.
const FUEL: u64 = 50_000_000;

/// The longest list that a template makes by a number: the bound of Jinja's sandbox.
const MAX_ITEMS: usize = 100_000;

/// Renders a template.
pub(crate) fn render(template: &str, context: Value) -> Result<String, String> {
    guarded("template", || {
        let (source, jinja) = (source::rewrite(template), environment());
        let template = jinja.template_from_named_str("chat_template", &source);
        template.and_then(|template| template.render(context)).map_err(|e| e.to_string())
    })
}

fn environment() -> Environment<'static> {
    let mut jinja = Environment::new();
    jinja.set_trim_blocks(true);
    jinja.set_lstrip_blocks(true);
    jinja.set_undefined_behavior(UndefinedBehavior::Lenient);
    jinja.set_auto_escape_callback(|_| AutoEscape::None);
    jinja.set_fuel(Some(FUEL));
    jinja.set_formatter(|out: &mut Output, _: &State, value: &Value| {
        out.write_str(&python::str(value)?).map_err(|_| Error::new(ErrorKind::WriteFailure, "out of memory"))
    });
    jinja.set_unknown_method_callback(strings::method);
    jinja
        .add_function("raise_exception", |message: String| -> Result<String, Error> { Err(python::invalid(&message)) });
    jinja.add_function("strftime_now", |format: &str| strftime(Local::now().naive_local(), format));
    jinja.add_function("cycler", cycler::cycler);
    jinja.add_function("joiner", joiner);
    jinja.add_function("range", range);
    jinja.add_function("_tuple", |values: Rest<Value>| python::tuple(values.0));
    jinja.add_filter("tojson", |value: &Value, indent: Option<Value>, options: Kwargs| {
        python::tojson(value, indent, options)
    });
    jinja.add_filter("string", python::str);
    jinja.add_filter("_iter", filters::iter);
    jinja.add_filter("_mod", filters::modulo);
    jinja.add_filter("_div", filters::div);
    jinja.add_filter("_pow", filters::pow);
    jinja.add_filter("_floordiv", filters::floordiv);
    jinja.add_filter("format", filters::format);
    jinja.add_filter("join", filters::join);
    jinja.add_filter("length", filters::length);
    jinja.add_filter("count", filters::length);
    jinja.add_filter("round", filters::round);
    jinja.add_filter("int", filters::int);
    jinja.add_filter("float", filters::to_float);
    jinja.add_filter("dictsort", filters::dictsort);
    jinja.add_filter("items", filters::pairs_of);
    jinja.add_filter("batch", |state: &State, values: Value, count: usize, fill: Option<Value>| {
        minijinja::filters::batch(state, values, few(count)?, fill)
    });
    jinja.add_filter("slice", |state: &State, values: Value, count: usize, fill: Option<Value>| {
        minijinja::filters::slice(state, values, few(count)?, fill)
    });
    jinja.add_filter("center", texts::center);
    jinja.add_filter("wordcount", texts::wordcount);
    jinja.add_filter("truncate", texts::truncate);
    jinja.add_filter("indent", texts::indent);
    jinja.add_filter("replace", texts::replace);
    jinja.add_filter("escape", texts::escape);
    jinja.add_filter("e", texts::escape);
    jinja.add_filter("sum", filters::sum);
    jinja.add_filter("attr", filters::attr);
    jinja.add_filter("striptags", striptags);
    jinja.add_test("sequence", filters::is_sequence);
    jinja.add_test("iterable", filters::is_iterable);
    jinja.add_test("callable", filters::is_callable);
    jinja.add_test("number", filters::is_number);
    jinja
}

/// A number of items that are made at once.
fn few(count: usize) -> Result<usize, Error> {
    let error = || python::invalid(&format!("expected a number of at most {MAX_ITEMS}, found {count}"));
    if count <= MAX_ITEMS { Ok(count) } else { Err(error()) }
}

/// `range`, also downwards.
fn range(first: i64, second: Option<i64>, step: Option<i64>) -> Result<Value, Error> {
    let (start, end) = second.map_or((0, first), |end| (first, end));
    let step = step.unwrap_or(1);
    if step == 0 {
        return Err(python::invalid("range() arg 3 must not be zero"));
    }
    // Wider, as the distance of two numbers may not be one of their type.
    let (distance, stride) = (i128::from(end) - i128::from(start), i128::from(step));
    let length = ((distance + stride - stride.signum()) / stride).max(0);
    if length > MAX_ITEMS as i128 {
        return Err(python::invalid(&format!("expected a range of at most {MAX_ITEMS} numbers, found {length}")));
    }
    // Every number lies between start and end; the product of place and step need not.
    let numbers = (0..length).map(|i| Value::from((i128::from(start) + i * stride) as i64));
    Ok(python::sequence(python::Kind::Range(start, end, step), numbers))
}

/// A time in a format of C's `strftime`; what it does not know stays as it is, and what needs a time zone, which this time has not, is empty,
/// as in Python.
fn strftime(time: NaiveDateTime, format: &str) -> String {
    let mut text = String::new();
    for item in StrftimeItems::new_lenient(format) {
        let mut part = String::new();
        if write!(part, "{}", time.format_with_items(iter::once(&item))).is_ok() {
            text += &part;
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn range_of_any_numbers_is_a_list_or_an_error() {
        let list = |first, second, step| range(first, second, step).map(|list| list.len().unwrap());
        for (first, second, step, length) in [
            (3, None, None, 3),
            (3, Some(0), Some(-1), 3),
            (0, Some(7), Some(3), 3),
            (5, Some(2), None, 0),
            (i64::MIN, Some(i64::MAX), Some(i64::MAX), 3),
            (i64::MAX, Some(i64::MIN), Some(i64::MIN), 2),
        ] {
            assert_eq!(list(first, second, step).unwrap(), length, "{first} {second:?} {step:?}");
        }
        for (first, second, step) in [
            (i64::MAX, Some(i64::MIN), Some(-1)),
            (i64::MIN, Some(i64::MAX), None),
            (0, Some(1), Some(0)),
            (100_001, None, None),
        ] {
            assert!(list(first, second, step).is_err(), "{first} {second:?} {step:?}");
        }
    }

    /// The texts are those of `datetime.datetime(2025, 3, 7, 9, 5, 3).strftime(…)` in Python.
    #[test]
    fn times_are_formatted_as_in_python() {
        let time = chrono::NaiveDate::from_ymd_opt(2025, 3, 7).and_then(|day| day.and_hms_opt(9, 5, 3)).unwrap();
        for (format, expected) in [
            ("%d %b %Y", "07 Mar 2025"),
            ("%Y-%m-%d %H:%M:%S", "2025-03-07 09:05:03"),
            ("%A, %B %-d, %y", "Friday, March 7, 25"),
            ("%I:%M %p %a %j %%", "09:05 AM Fri 066 %"),
            ("%", "%"),
            ("%H:%M %Z|%z", "09:05 |"),
            ("%e|%k|%D|%F|%T|%U|%w|%u|%W", " 7| 9|03/07/25|2025-03-07|09:05:03|09|5|5|09"),
        ] {
            assert_eq!(strftime(time, format), expected);
        }
    }
}
