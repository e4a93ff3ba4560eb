//! From tokens to the syntax tree, by recursive descent. One statement a line; blocks stand in braces.

use crate::toyvm::{
    error::SyntaxFault,
    script::{Expression, ExpressionKind, Function, Native, PrintPart, Script, Statement, StatementKind},
    token::{Token, TokenKind, tokens},
    value::BinaryOp,
};

/// A fault and its line.
pub type Located = (u32, SyntaxFault);

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

/// Parses a program.
pub fn parse(text: &str) -> Result<Script, Located> {
    let mut parser = Parser { tokens: tokens(text)?, next: 0, nesting: 0 };
    let mut script = Script { functions: Vec::new(), top: Vec::new() };
    loop {
        parser.skip_line_ends();
        if *parser.kind() == TokenKind::End {
            return Ok(script);
        }
        if parser.eat_word("fn") {
            script.functions.push(parser.function()?);
        } else {
            script.top.push(parser.statement()?);
        }
        parser.end_statement()?;
    }
}

#[derive(Debug)]
struct Parser {
    tokens: Vec<Token>,
    next: usize,
    nesting: usize,
}

impl Parser {
    fn function(&mut self) -> Result<Function, Located> {
        let line = self.line();
        let name = self.name("a function name")?;
        self.expect("(", "\"(\"")?;
        let parameters = self.list(|parser| parser.name("a parameter name"))?;
        let body = self.block()?;
        Ok(Function { line, name, parameters, body })
    }

    fn block(&mut self) -> Result<Vec<Statement>, Located> {
        self.expect("{", "\"{\"")?;
        self.descend()?;
        let mut statements = Vec::new();
        loop {
            self.skip_line_ends();
            if self.eat("}") {
                self.nesting -= 1;
                return Ok(statements);
            }
            statements.push(self.statement()?);
            if *self.kind() != TokenKind::Symbol("}") {
                self.end_statement()?;
            }
        }
    }

    fn statement(&mut self) -> Result<Statement, Located> {
        let line = self.line();
        let word = match self.kind() {
            TokenKind::Name(word) => word.clone(),
            _ => String::new(),
        };
        let kind = match self.keyword_statement(&word)? {
            Some(kind) => kind,
            None => self.plain_statement(word)?,
        };
        Ok(Statement { line, kind })
    }

    fn keyword_statement(&mut self, word: &str) -> Result<Option<StatementKind>, Located> {
        let start = self.next;
        self.next += 1;
        let kind = match word {
            "let" => self.assignment(StatementKind::Let)?,
            "if" => self.branch()?,
            "while" => StatementKind::While(self.expression()?, self.block()?),
            "loop" => StatementKind::Loop(self.expression()?, self.block()?),
            "return" => StatementKind::Return(self.optional_expression()?),
            "print" => StatementKind::Print(self.print_parts()?),
            "compute" => StatementKind::Compute(self.expression()?),
            "sleep" => StatementKind::Native(Native::Sleep, vec![self.expression()?]),
            "sleep_holding" => StatementKind::Native(Native::SleepHolding, vec![self.expression()?]),
            "native_released" => StatementKind::Native(Native::BusyReleased, vec![self.expression()?]),
            "native_holding" => StatementKind::Native(Native::BusyHolding, vec![self.expression()?]),
            "pipe" => StatementKind::Pipe(self.name("a name for the pipe")?),
            "write" => StatementKind::Native(Native::Write, vec![self.primary()?, self.expression()?]),
            "join" if self.eat_word("all") => StatementKind::Native(Native::JoinAll, Vec::new()),
            "join" => StatementKind::Native(Native::Join, vec![self.expression()?]),
            _ => {
                self.next = start;
                return Ok(None);
            }
        };
        Ok(Some(kind))
    }

    fn plain_statement(&mut self, word: String) -> Result<StatementKind, Located> {
        let is_assignment = self.tokens.get(self.next + 1).is_some_and(|after| after.kind == TokenKind::Symbol("="));
        if is_assignment && !word.is_empty() {
            return self.assignment(StatementKind::Assign);
        }
        match self.kind() {
            TokenKind::Name(_) => Ok(StatementKind::Expression(self.expression()?)),
            _ => self.unexpected("a statement"),
        }
    }

    fn assignment(&mut self, make: fn(String, Expression) -> StatementKind) -> Result<StatementKind, Located> {
        let name = self.name("a variable name")?;
        self.expect("=", "\"=\"")?;
        Ok(make(name, self.expression()?))
    }

    fn branch(&mut self) -> Result<StatementKind, Located> {
        let condition = self.expression()?;
        let then = self.block()?;
        let line = self.line();
        let otherwise = match self.eat_word("else") {
            false => Vec::new(),
            true if self.eat_word("if") => {
                self.descend()?;
                let kind = self.branch()?;
                self.nesting -= 1;
                vec![Statement { line, kind }]
            }
            true => self.block()?,
        };
        Ok(StatementKind::If(condition, then, otherwise))
    }

    fn print_parts(&mut self) -> Result<Vec<PrintPart>, Located> {
        let mut parts = Vec::new();
        loop {
            if let TokenKind::Text(text) = self.kind().clone() {
                self.next += 1;
                parts.push(PrintPart::Text(text));
            } else {
                parts.push(PrintPart::Value(self.expression()?));
            }
            if !self.eat(",") {
                return Ok(parts);
            }
        }
    }

    fn optional_expression(&mut self) -> Result<Option<Expression>, Located> {
        let ends = matches!(self.kind(), TokenKind::LineEnd | TokenKind::End | TokenKind::Symbol("}"));
        if ends { Ok(None) } else { self.expression().map(Some) }
    }

    fn expression(&mut self) -> Result<Expression, Located> {
        self.descend()?;
        let left = self.sum()?;
        let result = match self.operator(&COMPARISONS) {
            Some(op) => binary(op, left, self.sum()?),
            None => left,
        };
        self.nesting -= 1;
        Ok(result)
    }

    fn sum(&mut self) -> Result<Expression, Located> {
        let before = self.nesting;
        let mut left = self.product()?;
        while let Some(op) = self.operator(&SUMS) {
            self.descend()?;
            left = binary(op, left, self.product()?);
        }
        self.nesting = before;
        Ok(left)
    }

    fn product(&mut self) -> Result<Expression, Located> {
        let before = self.nesting;
        let mut left = self.primary()?;
        while let Some(op) = self.operator(&PRODUCTS) {
            self.descend()?;
            left = binary(op, left, self.primary()?);
        }
        self.nesting = before;
        Ok(left)
    }

    fn primary(&mut self) -> Result<Expression, Located> {
        self.descend()?;
        let line = self.line();
        let kind = match self.kind().clone() {
            TokenKind::Literal(value) => {
                self.next += 1;
                ExpressionKind::Literal(value)
            }
            TokenKind::Symbol("-") => {
                self.next += 1;
                ExpressionKind::Negate(Box::new(self.primary()?))
            }
            TokenKind::Symbol("(") => {
                self.next += 1;
                let inner = self.expression()?;
                self.expect(")", "\")\"")?;
                inner.kind
            }
            TokenKind::Name(_) => self.named()?,
            _ => return self.unexpected("a value"),
        };
        self.nesting -= 1;
        Ok(Expression { line, kind })
    }

    fn named(&mut self) -> Result<ExpressionKind, Located> {
        if self.eat_word("read") {
            return Ok(ExpressionKind::Read(Box::new(self.primary()?)));
        }
        if self.eat_word("spawn") {
            let name = self.name("a function name")?;
            self.expect("(", "\"(\"")?;
            return Ok(ExpressionKind::Spawn(name, self.list(Self::expression)?));
        }
        let name = self.name("a value")?;
        if self.eat("(") {
            return Ok(ExpressionKind::Call(name, self.list(Self::expression)?));
        }
        Ok(ExpressionKind::Name(name))
    }

    /// What stands between an opening parenthesis, already eaten, and the closing one.
    fn list<T>(&mut self, mut item: impl FnMut(&mut Self) -> Result<T, Located>) -> Result<Vec<T>, Located> {
        let mut items = Vec::new();
        if self.eat(")") {
            return Ok(items);
        }
        loop {
            items.push(item(self)?);
            if self.eat(")") {
                return Ok(items);
            }
            self.expect(",", "\",\" or \")\"")?;
        }
    }

    fn operator(&mut self, table: &[(&str, BinaryOp)]) -> Option<BinaryOp> {
        let TokenKind::Symbol(symbol) = *self.kind() else { return None };
        let (_, op) = table.iter().find(|(text, _)| *text == symbol)?;
        self.next += 1;
        Some(*op)
    }

    fn name(&mut self, wanted: &'static str) -> Result<String, Located> {
        match self.kind().clone() {
            TokenKind::Name(name) if !KEYWORDS.contains(&name.as_str()) => {
                self.next += 1;
                Ok(name)
            }
            _ => self.unexpected(wanted),
        }
    }

    fn descend(&mut self) -> Result<(), Located> {
        self.nesting += 1;
        if self.nesting > MAX_NESTING { Err((self.line(), SyntaxFault::Nesting(MAX_NESTING))) } else { Ok(()) }
    }

    fn end_statement(&mut self) -> Result<(), Located> {
        match self.kind() {
            TokenKind::LineEnd | TokenKind::End => Ok(()),
            _ => self.unexpected("the end of the line"),
        }
    }

    fn skip_line_ends(&mut self) {
        while *self.kind() == TokenKind::LineEnd {
            self.next += 1;
        }
    }

    fn eat(&mut self, symbol: &str) -> bool {
        let found = matches!(self.kind(), TokenKind::Symbol(text) if *text == symbol);
        self.next += usize::from(found);
        found
    }

    fn eat_word(&mut self, word: &str) -> bool {
        let found = matches!(self.kind(), TokenKind::Name(name) if name == word);
        self.next += usize::from(found);
        found
    }

    fn expect(&mut self, symbol: &str, wanted: &'static str) -> Result<(), Located> {
        if self.eat(symbol) { Ok(()) } else { self.unexpected(wanted) }
    }

    fn unexpected<T>(&self, wanted: &'static str) -> Result<T, Located> {
        Err((self.line(), SyntaxFault::Unexpected { wanted, found: self.kind().describe() }))
    }

    fn kind(&self) -> &TokenKind {
        &self.token().kind
    }

    fn line(&self) -> u32 {
        self.token().line
    }

    fn token(&self) -> &Token {
        let last = self.tokens.len() - 1;
        &self.tokens[self.next.min(last)]
    }
}

const COMPARISONS: [(&str, BinaryOp); 6] = [
    ("==", BinaryOp::Equal),
    ("!=", BinaryOp::NotEqual),
    ("<", BinaryOp::Less),
    ("<=", BinaryOp::LessOrEqual),
    (">", BinaryOp::Greater),
    (">=", BinaryOp::GreaterOrEqual),
];
const SUMS: [(&str, BinaryOp); 2] = [("+", BinaryOp::Add), ("-", BinaryOp::Subtract)];
const PRODUCTS: [(&str, BinaryOp); 3] =
    [("*", BinaryOp::Multiply), ("/", BinaryOp::Divide), ("%", BinaryOp::Remainder)];

fn binary(op: BinaryOp, left: Expression, right: Expression) -> Expression {
    let line = left.line;
    Expression { line, kind: ExpressionKind::Binary(op, Box::new(left), Box::new(right)) }
}

#[cfg(test)]
mod tests {
    use super::parse;
    use crate::toyvm::script::StatementKind;

    fn message(text: &str) -> String {
        let (line, fault) = parse(text).expect_err("the text is wrong");
        format!("{line}: {fault}")
    }

    #[test]
    fn every_statement_knows_its_line() {
        let script = parse("fn f(a) {\n  sleep 1ms\n}\n\nlet h = spawn f(1)\njoin h\n").unwrap();
        assert_eq!(script.functions[0].body[0].line, 2);
        let lines: Vec<_> = script.top.iter().map(|statement| statement.line).collect();
        assert_eq!(lines, [5, 6]);
        assert!(matches!(script.top[0].kind, StatementKind::Let(_, _)));
    }

    #[test]
    fn a_wrong_text_is_reported_with_its_line() {
        assert_eq!(message("let x 3"), "1: expected \"=\", found 3");
        assert_eq!(
            message("sleep 1ms\nloop 3 {\nsleep 1ms\n"),
            "3: expected a statement, found the end of the program"
        );
        assert_eq!(message("\n\nlet while = 3"), "3: expected a variable name, found while");
        assert_eq!(message("sleep 1ms sleep 1ms"), "1: expected the end of the line, found sleep");
        assert_eq!(message("f(1,"), "1: expected a value, found the end of the line");
        assert_eq!(message("}"), "1: expected a statement, found \"}\"");
    }

    #[test]
    fn no_depth_of_nesting_exhausts_the_stack() {
        assert_eq!(message(&format!("let x = {}1", "(".repeat(100_000))), "1: nested more than 64 levels deep");
        assert_eq!(message(&"if 1 {\n".repeat(100_000)), "64: nested more than 64 levels deep");
        assert_eq!(message(&format!("let x = 1{}", "+1".repeat(100_000))), "1: nested more than 64 levels deep");
    }
}
