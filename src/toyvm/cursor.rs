//! The parser's place in the tokens: what comes next, and how deeply nested it is.

use crate::toyvm::{
    error::SyntaxFault,
    parse::Located,
    token::{Token, TokenKind},
    value::BinaryOp,
};

/// Blocks and expressions may be nested this deeply, so that no text can exhaust the stack.
const MAX_NESTING: usize = 64;

/// Words that cannot name a function or variable.
const KEYWORDS: [&str; 19] = [
    "fn",
    "let",
    "if",
    "else",
    "while",
    "loop",
    "return",
    "print",
    "compute",
    "sleep",
    "sleep_holding",
    "native_released",
    "native_holding",
    "pipe",
    "read",
    "write",
    "spawn",
    "join",
    "all",
];

/// A place in the tokens. Past the end it stays at the last token, which is [`TokenKind::End`].
#[derive(Debug)]
pub struct Cursor {
    tokens: Vec<Token>,
    next: usize,
    nesting: usize,
}

impl Cursor {
    /// The first of the tokens, of which there is at least the end.
    pub fn new(tokens: Vec<Token>) -> Self {
        Self { tokens, next: 0, nesting: 0 }
    }

    /// Goes to the next token.
    pub fn advance(&mut self) {
        self.next += 1;
    }

    /// Goes back to the token before.
    pub fn retreat(&mut self) {
        self.next -= 1;
    }

    /// Whether this symbol comes after the next token.
    pub fn is_followed_by(&self, symbol: &str) -> bool {
        let after = self.tokens.get(self.next + 1).map(|token| &token.kind);
        matches!(after, Some(TokenKind::Symbol(text)) if *text == symbol)
    }

    /// So many levels back up.
    pub fn ascend(&mut self, levels: usize) {
        self.nesting -= levels;
    }

    /// Eats an operator of the table, when one stands here.
    pub fn operator(&mut self, table: &[(&str, BinaryOp)]) -> Option<BinaryOp> {
        let TokenKind::Symbol(symbol) = *self.kind() else { return None };
        let (_, op) = table.iter().find(|(text, _)| *text == symbol)?;
        self.next += 1;
        Some(*op)
    }

    /// Eats a name that is no keyword.
    pub fn name(&mut self, wanted: &'static str) -> Result<String, Located> {
        match self.kind().clone() {
            TokenKind::Name(name) if !KEYWORDS.contains(&name.as_str()) => {
                self.next += 1;
                Ok(name)
            }
            _ => self.unexpected(wanted),
        }
    }

    /// One level deeper; a fault when that is too deep.
    pub fn descend(&mut self) -> Result<(), Located> {
        self.nesting += 1;
        if self.nesting > MAX_NESTING { Err((self.line(), SyntaxFault::Nesting(MAX_NESTING))) } else { Ok(()) }
    }

    /// Makes sure that the statement ends with its line; the line end stays.
    pub fn end_statement(&mut self) -> Result<(), Located> {
        match self.kind() {
            TokenKind::LineEnd | TokenKind::End => Ok(()),
            _ => self.unexpected("the end of the line"),
        }
    }

    /// Goes to the next token that is no line end.
    pub fn skip_line_ends(&mut self) {
        while *self.kind() == TokenKind::LineEnd {
            self.next += 1;
        }
    }

    /// Eats this symbol, when it stands here.
    pub fn eat(&mut self, symbol: &str) -> bool {
        let found = matches!(self.kind(), TokenKind::Symbol(text) if *text == symbol);
        self.next += usize::from(found);
        found
    }

    /// Eats this word, when it stands here.
    pub fn eat_word(&mut self, word: &str) -> bool {
        let found = matches!(self.kind(), TokenKind::Name(name) if name == word);
        self.next += usize::from(found);
        found
    }

    /// Eats this symbol, or says what is wanted.
    pub fn expect(&mut self, symbol: &str, wanted: &'static str) -> Result<(), Located> {
        if self.eat(symbol) { Ok(()) } else { self.unexpected(wanted) }
    }

    /// The fault that something else stands here.
    pub fn unexpected<T>(&self, wanted: &'static str) -> Result<T, Located> {
        Err((self.line(), SyntaxFault::Unexpected { wanted, found: self.kind().describe() }))
    }

    /// What stands here.
    pub fn kind(&self) -> &TokenKind {
        &self.token().kind
    }

    /// The line it stands on.
    pub fn line(&self) -> u32 {
        self.token().line
    }

    fn token(&self) -> &Token {
        let last = self.tokens.len() - 1;
        &self.tokens[self.next.min(last)]
    }
}
