//! The tokens of a template's tags, as far as rewriting needs them.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A name, keyword or number.
    Word,
    /// A quoted text.
    Text,
    Operator,
    /// Brackets with what is inside.
    Group,
}

#[derive(Clone, Debug)]
pub(super) struct Token {
    pub(super) kind: Kind,
    /// The whitespace before it.
    pub(super) space: String,
    /// The token; of a group, the opening bracket.
    pub(super) text: String,
    pub(super) inner: Vec<Token>,
    /// The end of a group, with the whitespace before it.
    pub(super) close: String,
}

/// Brackets within each other; MiniJinja's parser stops soon after.
const MAX_DEPTH: usize = 128;

/// Words after which an operand begins.
const KEYWORDS: [&str; 17] = [
    "and",
    "or",
    "not",
    "if",
    "else",
    "elif",
    "in",
    "is",
    "for",
    "recursive",
    "set",
    "print",
    "do",
    "with",
    "filter",
    "include",
    "import",
];

impl Token {
    pub(super) fn is_operator(&self, text: &str) -> bool {
        self.kind == Kind::Operator && self.text == text
    }

    /// Whether a value ends here, so that brackets after it are a call's or an index.
    pub(super) fn is_value(&self) -> bool {
        match self.kind {
            Kind::Word => !KEYWORDS.contains(&&*self.text),
            Kind::Text | Kind::Group => true,
            Kind::Operator => false,
        }
    }

    /// Whether a group in round brackets has no value, or several.
    pub(super) fn is_tuple(&self) -> bool {
        self.inner.is_empty() || self.inner.iter().any(|token| token.is_operator(","))
    }

    /// Whether the operands on either side belong to different products; `first` where no operand is before it.
    pub(super) fn separates(&self, before: Option<&Self>, first: bool) -> bool {
        let after_is = before.is_some_and(|t| t.kind == Kind::Word && t.text == "is");
        match self.kind {
            Kind::Word => KEYWORDS.contains(&&*self.text) && self.text != "is" && !after_is,
            Kind::Operator => match &*self.text {
                // A sign, where no operand is before it.
                "+" | "-" => !first && before.is_some_and(Self::is_value),
                "~" | "*" | "/" | "//" | "%" | "**" | "|" | "." => false,
                _ => true,
            },
            Kind::Text | Kind::Group => false,
        }
    }

    /// As it was.
    pub(super) fn write(&self, out: &mut String) {
        *out += &self.space;
        *out += &self.text;
        self.inner.iter().for_each(|token| token.write(out));
        *out += &self.close;
    }
}

/// The tokens up to `close`, and the length up to its end; `None` where a tag, text or bracket is not closed.
pub(super) fn tokens(source: &str, close: &str) -> Option<(Vec<Token>, usize)> {
    let (mut groups, mut top, mut rest) = (Vec::<(Token, Vec<Token>)>::new(), Vec::new(), source);
    loop {
        let trimmed = rest.trim_start();
        let space = rest[..rest.len() - trimmed.len()].to_owned();
        if groups.is_empty() {
            let end = trimmed.strip_prefix(['-', '+']).unwrap_or(trimmed);
            if let Some(after) = end.strip_prefix(close).or_else(|| trimmed.strip_prefix(close)) {
                return Some((top, source.len() - after.len()));
            }
        }
        let (kind, length) = lex(trimmed)?;
        let text = trimmed[..length].to_owned();
        rest = &trimmed[length..];
        let token = Token { kind, space, text, inner: Vec::new(), close: String::new() };
        match &*token.text {
            "(" | "[" | "{" if groups.len() == MAX_DEPTH => return None,
            "(" | "[" | "{" => groups.push((Token { kind: Kind::Group, ..token }, std::mem::take(&mut top))),
            ")" | "]" | "}" => {
                let (group, outer) = groups.pop()?;
                let inner = std::mem::replace(&mut top, outer);
                top.push(Token { inner, close: token.space + &token.text, ..group });
            }
            _ => top.push(token),
        }
    }
}

fn lex(rest: &str) -> Option<(Kind, usize)> {
    let first = rest.chars().next()?;
    let word = |c: char| c.is_alphanumeric() || c == '_';
    if first == '\'' || first == '"' {
        let mut escaped = false;
        let end = rest.char_indices().skip(1).find(|(_, c)| {
            let ends = !escaped && *c == first;
            escaped = !escaped && *c == '\\';
            ends
        });
        return end.map(|(at, _)| (Kind::Text, at + 1));
    }
    if word(first) {
        let mut end = rest.find(|c| !word(c)).unwrap_or(rest.len());
        // A fraction.
        let after = &rest[end..];
        if first.is_ascii_digit() && after.starts_with('.') && after[1..].starts_with(|c: char| c.is_ascii_digit()) {
            end += 1 + after[1..].find(|c| !word(c)).unwrap_or(after.len() - 1);
        }
        // A sign in an exponent.
        let after = &rest[end..];
        if first.is_ascii_digit() && rest[..end].ends_with(['e', 'E']) && after.starts_with(['+', '-']) {
            end += 1 + after[1..].find(|c| !word(c)).unwrap_or(after.len() - 1);
        }
        return Some((Kind::Word, end));
    }
    let long = ["//", "**", "==", "!=", "<=", ">="].iter().find(|op| rest.starts_with(**op));
    Some((Kind::Operator, long.map_or(first.len_utf8(), |op| op.len())))
}
