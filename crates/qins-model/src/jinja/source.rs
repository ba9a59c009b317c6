//! Template sources, rewritten where MiniJinja reads less than Jinja in Python, or computes otherwise.
//!
//! `{% generation %}` of Transformers becomes a scope. `a ~ b` joins its operands as Python prints them; `%`, `/`, `//` and `**` are computed
//! by filters, as Python does for strings and negative numbers; `(a, b)` is a tuple; loops go over characters too, and know their length.
//! Everything else stays as it is, to the byte.

use super::token::{Kind, Token, tokens};

/// The source with everything rewritten.
pub(super) fn rewrite(source: &str) -> String {
    let (mut out, mut rest) = (String::with_capacity(source.len()), source);
    let opens = |rest: &str, at: usize| rest[at + 1..].starts_with(['{', '%', '#']);
    while let Some((at, _)) = rest.match_indices('{').find(|(at, _)| opens(rest, *at)) {
        out += &rest[..at];
        rest = &rest[at..];
        let end = match &rest[..2] {
            "{#" => rest.find("#}").map_or(rest.len(), |end| end + 2),
            open => tag(open, rest, &mut out),
        };
        if rest.starts_with("{#") {
            out += &rest[..end];
        }
        rest = &rest[end..];
    }
    out + rest
}

/// Writes the tag that `rest` begins with, and everything up to the end of a raw block; returns its length.
fn tag(open: &str, rest: &str, out: &mut String) -> usize {
    let start = 2 + usize::from(rest[2..].starts_with(['-', '+']));
    let close = if open == "{{" { "}}" } else { "%}" };
    let Some((inner, length)) = tokens(&rest[start..], close) else {
        // Not closed: left to the parser.
        *out += rest;
        return rest.len();
    };
    let end = start + length;
    let name = inner.first().filter(|_| open == "{%").map_or("", |token| &*token.text);
    match name {
        "raw" => {
            let end = end_of_raw(rest, end);
            *out += &rest[..end];
            return end;
        }
        "generation" | "endgeneration" => {
            let scope = rest[start..end].replacen("generation", "with", 1);
            *out += &rest[..start];
            *out += &scope;
        }
        // What comes before is assigned to.
        "set" | "for" => {
            let assigns = |t: &Token| t.text == if name == "set" { "=" } else { "in" };
            let targets = inner.iter().position(assigns).map_or(inner.len(), |at| at + 1);
            *out += &rest[..start];
            inner[..targets].iter().for_each(|token| token.write(out));
            let value = &inner[targets..];
            if name == "for" {
                let ends = |t: &Token| t.kind == Kind::Word && (t.text == "if" || t.text == "recursive");
                let (over, others) = value.split_at(value.iter().position(ends).unwrap_or(value.len()));
                *out += &format!(" ({})|_iter{}", expression(over), expression(others));
            } else {
                *out += &expression(value);
            }
            *out += &rest[end - tail(&rest[..end], close)..end];
        }
        _ => {
            *out += &rest[..start];
            *out += &expression(&inner);
            *out += &rest[end - tail(&rest[..end], close)..end];
        }
    }
    end
}

/// The length of what follows the last token of a tag.
fn tail(tag: &str, close: &str) -> usize {
    let body = &tag[..tag.len() - close.len()];
    let body = body.strip_suffix(['-', '+']).unwrap_or(body);
    tag.len() - body.trim_end().len()
}

fn end_of_raw(rest: &str, mut at: usize) -> usize {
    while let Some(open) = rest[at..].find("{%") {
        let name = at + open + 2;
        let inner = rest[name..].trim_start_matches(['-', '+']).trim_start();
        let closed = inner.strip_prefix("endraw").map(|end| end.trim_start().trim_start_matches(['-', '+']));
        if let Some(end) = closed.and_then(|end| end.strip_prefix("%}")) {
            return rest.len() - end.len();
        }
        at = name;
    }
    rest.len()
}

/// An expression, or several with words and commas between them.
fn expression(tokens: &[Token]) -> String {
    let mut out = String::new();
    let mut start = 0;
    for (at, token) in tokens.iter().enumerate() {
        if token.separates(tokens[..at].last(), at == start) {
            out += &concatenation(&tokens[start..at]);
            token.write(&mut out);
            start = at + 1;
        }
    }
    out + &concatenation(&tokens[start..])
}

/// `a ~ b ~ c`, of which each may have products and quotients.
fn concatenation(tokens: &[Token]) -> String {
    let parts: Vec<String> = tokens.split(|token| token.is_operator("~")).map(product).collect();
    match &parts[..] {
        [one] => one.clone(),
        parts => parts.iter().map(|part| format!(" ({part})|string")).collect::<Vec<_>>().join(" ~"),
    }
}

/// `a * b / c`, from left to right.
fn product(tokens: &[Token]) -> String {
    folded(tokens, &[("*", None), ("%", Some("_mod")), ("/", Some("_div")), ("//", Some("_floordiv"))], power)
}

/// `a ** b`, from left to right as well.
fn power(tokens: &[Token]) -> String {
    folded(tokens, &[("**", Some("_pow"))], |tokens| {
        let mut out = String::new();
        (0..tokens.len()).for_each(|at| write_term(tokens, at, &mut out));
        out
    })
}

/// Operands between operators of one precedence; those with a filter become its calls.
fn folded(tokens: &[Token], operators: &[(&str, Option<&str>)], operand: impl Fn(&[Token]) -> String) -> String {
    let operator = |token: &Token| operators.iter().find(|(text, _)| token.is_operator(text));
    let next = |from: usize| (from..tokens.len()).find(|at| operator(&tokens[*at]).is_some()).unwrap_or(tokens.len());
    let mut at = next(0);
    let mut out = operand(&tokens[..at]);
    while let Some(token) = tokens.get(at) {
        let end = next(at + 1);
        let right = operand(&tokens[at + 1..end]);
        match operator(token) {
            Some((_, Some(filter))) => out = format!(" ({out})|{filter}({right})"),
            _ => {
                token.write(&mut out);
                out += &right;
            }
        }
        at = end;
    }
    out
}

fn write_term(tokens: &[Token], at: usize, out: &mut String) {
    let token = &tokens[at];
    let before = at.checked_sub(1).map(|before| &tokens[before]);
    match token.kind {
        Kind::Group => {
            *out += &token.space;
            // A group after a value is a call's, or an index.
            if token.text == "(" && token.is_tuple() && !before.is_some_and(Token::is_value) {
                *out += "_tuple";
            }
            *out += &token.text;
            *out += &expression(&token.inner);
            *out += &token.close;
        }
        // Texts side by side are one text.
        Kind::Text if before.is_some_and(|t| t.kind == Kind::Text) => {}
        Kind::Text => {
            let texts = tokens[at..].iter().take_while(|t| t.kind == Kind::Text);
            let texts: Vec<String> = texts.map(|t| unescaped(&t.text)).collect();
            *out += &token.space;
            *out += &if let [one] = &texts[..] { one.clone() } else { format!("({})", texts.join(" + ")) };
        }
        Kind::Word | Kind::Operator => token.write(out),
    }
}

/// A quoted text without the escapes that only Python knows: a line continued after a backslash, and `\U` with eight digits.
fn unescaped(quoted: &str) -> String {
    let (mut out, mut rest) = (String::with_capacity(quoted.len()), quoted);
    while let Some(at) = rest.find('\\') {
        out += &rest[..at];
        let escape = &rest[at..];
        let code = escape.strip_prefix("\\U").and_then(|hex| u32::from_str_radix(hex.get(..8)?, 16).ok());
        if let Some(c) = code.and_then(char::from_u32) {
            out.push(c);
            rest = &escape[10..];
        } else if let Some(after) = escape.strip_prefix("\\\n") {
            rest = after;
        } else {
            // The backslash and what it escapes.
            let length = 1 + escape[1..].chars().next().map_or(0, char::len_utf8);
            out += &escape[..length];
            rest = &escape[length..];
        }
    }
    out + rest
}
