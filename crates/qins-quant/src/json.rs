//! JSON files, read so that they mean one thing, with errors that name the field.
//!
//! As Python's `json`, this rejects a byte order mark; unlike it, also `NaN`, `Infinity`, numbers beyond the range of `f64`, and a key that is
//! there twice, of which Python would silently take the last.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, Error as _, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Value};

/// The value of a JSON text.
///
/// # Errors
/// One sentence with the field, what was expected and what was found.
pub fn parse(bytes: &[u8]) -> Result<Value, String> {
    let text = std::str::from_utf8(bytes)
        .map_err(|e| format!("expected JSON in UTF-8, found other bytes at byte {}", e.valid_up_to()))?;
    if text.starts_with('\u{feff}') {
        return Err("expected JSON without a byte order mark, found one at the start".to_owned());
    }
    let mut json = serde_json::Deserializer::from_str(text);
    let Unique(value) = serde_path_to_error::deserialize(&mut json).map_err(|e| {
        let (at, e) = (e.path().to_string(), e.into_inner());
        let (line, word) = (e.line(), word_at(text, &e));
        at_field(
            &at,
            match word.trim_start_matches('-') {
                "NaN" | "Infinity" => format!("expected a finite number, found {word} at line {line}"),
                _ if e.to_string().starts_with("number out of range") => {
                    format!("expected a number within the range of f64, found {word} at line {line}")
                }
                _ if e.is_eof() => {
                    format!("expected more JSON, found the end of the file at line {line} column {}", e.column())
                }
                _ => e.to_string(),
            },
        )
    })?;
    json.end().map_err(|e| e.to_string())?;
    Ok(value)
}

/// The object that a JSON text is.
///
/// # Errors
/// As [`parse`], and when it is another value.
pub fn object(bytes: &[u8]) -> Result<Value, String> {
    match parse(bytes)? {
        object @ Value::Object(_) => Ok(object),
        Value::Array(items) if !items.is_empty() => Err("expected a JSON object, found a list".to_owned()),
        other => Err(format!("expected a JSON object, found {other}")),
    }
}

/// A value as a type.
///
/// # Errors
/// As [`parse`].
pub fn typed<T: DeserializeOwned>(value: &Value) -> Result<T, String> {
    serde_path_to_error::deserialize(value)
        .map_err(|e| at_field(&e.path().to_string(), expected_found(&e.into_inner().to_string())))
}

fn at_field(field: &str, message: String) -> String {
    // A field a hundred lists deep has no name of use.
    match field.char_indices().nth(100) {
        _ if matches!(field, "." | "?") => message,
        None => format!("{field}: {message}"),
        Some((end, _)) => format!("{}…: {message}", &field[..end]),
    }
}

/// The number or word of `text` at which an error is.
fn word_at<'a>(text: &'a str, error: &serde_json::Error) -> &'a str {
    let line = text.split('\n').nth(error.line().saturating_sub(1)).unwrap_or("");
    // The column counts bytes, and may be that of the byte before the word, or of any byte of it.
    let mut at = error.column().min(line.len());
    while !line.is_char_boundary(at) {
        at -= 1;
    }
    let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
    let from = line[..at].rfind(|c| !is_part(c)).map_or(0, |i| i + line[i..].chars().next().map_or(1, char::len_utf8));
    let word = &line[from..];
    &word[..word.find(|c| !is_part(c)).unwrap_or(word.len())]
}

/// Serde's `invalid type: A, expected B` in the order of all other messages.
fn expected_found(message: &str) -> String {
    let sides = message.strip_prefix("invalid ").and_then(|m| m.split_once(": ")?.1.rsplit_once(", expected "));
    let Some((found, expected)) = sides else { return message.to_owned() };
    let expected = match expected {
        "u32" => "a whole number from 0 to 2^32 − 1",
        "usize" | "u64" => "a whole number of at least 0",
        "f32" | "f64" => "a number",
        other => other,
    };
    format!("expected {expected}, found {found}")
}

/// A value in which no key is there twice.
struct Unique(Value);

impl<'de> Deserialize<'de> for Unique {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(UniqueVisitor).map(Self)
    }
}

struct UniqueVisitor;

impl<'de> Visitor<'de> for UniqueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut all = Vec::new();
        while let Some(Unique(item)) = items.next_element()? {
            all.push(item);
        }
        Ok(all.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut all = Map::new();
        while let Some((key, Unique(value))) = entries.next_entry::<String, _>()? {
            if all.contains_key(&key) {
                return Err(A::Error::custom(format!("expected each key once, found `{key}` twice")));
            }
            all.insert(key, value);
        }
        Ok(all.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_name_the_field_and_what_was_found() {
        let cases: [(&str, &str); 17] = [
            ("\u{feff}{}", "without a byte order mark"),
            ("", "expected more JSON, found the end of the file at line 1"),
            ("{\"a\": NaN}", "a: expected a finite number, found NaN at line 1"),
            ("{\"a\":\n {\"b\": [1, -Infinity]}}", "a.b[1]: expected a finite number, found -Infinity at line 2"),
            ("{\"a\": Infinity, \"b\": 1}", "a: expected a finite number, found Infinity"),
            ("{\"é\": NaN}", "é: expected a finite number, found NaN"),
            ("NaN", "expected a finite number, found NaN"),
            ("{\"a\": 1e999}", "a: expected a number within the range of f64, found 1e999"),
            ("{\"a\": -1E+400 }", "a: expected a number within the range of f64, found -1E+400"),
            ("{\"a\": 1, \"a\": 2}", "expected each key once, found `a` twice"),
            ("{\"a\": {\"b\": 1, \"c\": 2, \"b\": 1}}", "a: expected each key once, found `b` twice"),
            ("{\"a\": None}", "a: expected value"),
            ("{\"a\": \"x", "a: expected more JSON"),
            ("{\"a\": 1", "expected more JSON"),
            ("{} {}", "trailing characters"),
            ("{\"a\": 'x'}", "a: expected value"),
            ("{\"a\": 1,}", "trailing comma"),
        ];
        for (text, expected) in cases {
            let error = parse(text.as_bytes()).expect_err(text);
            assert!(error.contains(expected), "{text}: {error}");
        }
        let error = parse(b"\xff\xfe{").unwrap_err();
        assert_eq!(error, "expected JSON in UTF-8, found other bytes at byte 0");
        // Nesting has a limit, and is an error beyond it.
        assert!(parse("[".repeat(100_000).as_bytes()).unwrap_err().len() < 400);
    }

    #[test]
    fn valid_json_equals_what_serde_reads() {
        let text = r#"{"a": [1, -2, 0.1, 1e-400, 18446744073709551616, true, null, "\u00e9\n"], "b": {"c": {}, "d": []}, "": -0}"#;
        assert_eq!(parse(text.as_bytes()).unwrap(), serde_json::from_str::<Value>(text).unwrap());
    }

    #[test]
    fn wrong_type_names_field_expected_and_found() {
        #[derive(Debug, Deserialize)]
        #[allow(dead_code)]
        struct Fields {
            n: Vec<usize>,
        }
        for (text, expected) in [
            (r#"{"n": [1, -1]}"#, "n[1]: expected a whole number of at least 0, found integer `-1`"),
            (r#"{"n": "x"}"#, "n: expected a sequence, found string \"x\""),
            (r#"{}"#, "missing field `n`"),
        ] {
            assert_eq!(typed::<Fields>(&parse(text.as_bytes()).unwrap()).unwrap_err(), expected);
        }
    }
}
