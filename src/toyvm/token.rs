//! From text to tokens. Line ends are tokens, because a statement ends with its line.

use crate::toyvm::{error::SyntaxFault, value::Value};

/// A token and the line it stands on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// The line, from 1 on.
    pub line: u32,
    /// What stands there.
    pub kind: TokenKind,
}

/// The kinds of token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenKind {
    /// A name or keyword.
    Name(String),
    /// An integer or a duration.
    Literal(Value),
    /// A text in double quotes.
    Text(String),
    /// Punctuation.
    Symbol(&'static str),
    /// The end of a line.
    LineEnd,
    /// The end of the program.
    End,
}

impl TokenKind {
    /// The token in the words of an error message.
    pub fn describe(&self) -> String {
        match self {
            Self::Name(name) => name.clone(),
            Self::Literal(value) => value.to_string(),
            Self::Text(text) => format!("{text:?}"),
            Self::Symbol(symbol) => format!("{symbol:?}"),
            Self::LineEnd => "the end of the line".to_owned(),
            Self::End => "the end of the program".to_owned(),
        }
    }
}

/// Longer symbols come before their own beginnings.
const SYMBOLS: [&str; 17] = ["==", "!=", "<=", ">=", "(", ")", "{", "}", ",", "=", "<", ">", "+", "-", "*", "/", "%"];

/// Splits a program into tokens, the last of which is [`TokenKind::End`].
pub fn tokens(text: &str) -> Result<Vec<Token>, (u32, SyntaxFault)> {
    let mut found = Vec::new();
    let mut last = 1;
    for (line, content) in (1u32..).zip(text.lines()) {
        last = line;
        let mut rest = content.trim_start();
        while !rest.is_empty() && !rest.starts_with('#') {
            let (kind, after) = one(rest).map_err(|fault| (line, fault))?;
            found.push(Token { line, kind });
            rest = after.trim_start();
        }
        found.push(Token { line, kind: TokenKind::LineEnd });
    }
    found.push(Token { line: last, kind: TokenKind::End });
    Ok(found)
}

fn one(rest: &str) -> Result<(TokenKind, &str), SyntaxFault> {
    let first = rest.chars().next().expect("the caller passes a text that is not empty");
    if first.is_ascii_digit() {
        return literal(rest);
    }
    if first.is_ascii_alphabetic() || first == '_' {
        let (name, after) = split_while(rest, |c| c.is_ascii_alphanumeric() || c == '_');
        return Ok((TokenKind::Name(name.to_owned()), after));
    }
    if let Some(inner) = rest.strip_prefix('"') {
        let (content, after) = inner.split_once('"').ok_or(SyntaxFault::OpenText)?;
        return Ok((TokenKind::Text(content.to_owned()), after));
    }
    let symbol = SYMBOLS.into_iter().find(|symbol| rest.starts_with(symbol)).ok_or(SyntaxFault::Character(first))?;
    Ok((TokenKind::Symbol(symbol), &rest[symbol.len()..]))
}

fn literal(rest: &str) -> Result<(TokenKind, &str), SyntaxFault> {
    let (digits, after) = split_while(rest, |c| c.is_ascii_digit() || c == '_');
    let (unit, after) = split_while(after, |c| c.is_ascii_alphanumeric() || c == '_');
    let range = || SyntaxFault::Range(format!("{digits}{unit}"));
    let number: i64 = digits.replace('_', "").parse().map_err(|_| range())?;
    let nanos_per_unit = match unit {
        "" => return Ok((TokenKind::Literal(Value::Int(number)), after)),
        "ns" => 1,
        "us" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        other => return Err(SyntaxFault::Unit(other.to_owned())),
    };
    let nanos = number.checked_mul(nanos_per_unit).ok_or_else(range)?;
    Ok((TokenKind::Literal(Value::Duration(nanos)), after))
}

fn split_while(text: &str, belongs: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(|c| !belongs(c)).unwrap_or(text.len()))
}

#[cfg(test)]
mod tests {
    use super::{TokenKind, tokens};
    use crate::toyvm::{error::SyntaxFault, value::Value};

    #[test]
    fn a_line_becomes_tokens_and_a_comment_does_not() {
        let kinds: Vec<_> = tokens("x <= 20ms # why").unwrap().into_iter().map(|token| token.kind).collect();
        let expected = [
            TokenKind::Name("x".to_owned()),
            TokenKind::Symbol("<="),
            TokenKind::Literal(Value::Duration(20_000_000)),
            TokenKind::LineEnd,
            TokenKind::End,
        ];
        assert_eq!(kinds, expected);
    }

    #[test]
    fn what_is_no_token_is_reported_with_its_line() {
        assert_eq!(tokens("1\n2 ?"), Err((2, SyntaxFault::Character('?'))));
        assert_eq!(tokens("sleep 3min"), Err((1, SyntaxFault::Unit("min".to_owned()))));
        assert_eq!(tokens("print \"abc"), Err((1, SyntaxFault::OpenText)));
        assert_eq!(tokens("99999999999s"), Err((1, SyntaxFault::Range("99999999999s".to_owned()))));
    }
}
