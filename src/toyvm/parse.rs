//! From tokens to the syntax tree, by recursive descent. One statement a line; blocks stand in braces.

use crate::toyvm::{
    cursor::Cursor,
    error::SyntaxFault,
    script::{Expression, ExpressionKind, Function, Native, PrintPart, Script, Statement, StatementKind},
    token::{TokenKind, tokens},
    value::BinaryOp,
};

/// A fault and its line.
pub type Located = (u32, SyntaxFault);

/// Parses a program.
pub fn parse(text: &str) -> Result<Script, Located> {
    let mut cursor = Cursor::new(tokens(text)?);
    let mut script = Script { functions: Vec::new(), top: Vec::new() };
    loop {
        cursor.skip_line_ends();
        if *cursor.kind() == TokenKind::End {
            return Ok(script);
        }
        if cursor.eat_word("fn") {
            script.functions.push(cursor.function()?);
        } else {
            script.top.push(cursor.statement()?);
        }
        cursor.end_statement()?;
    }
}

impl Cursor {
    fn function(&mut self) -> Result<Function, Located> {
        let line = self.line();
        let name = self.name("a function name")?;
        self.expect("(", "\"(\"")?;
        let parameters = self.list(|cursor| cursor.name("a parameter name"))?;
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
                self.ascend(1);
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
        self.advance();
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
                self.retreat();
                return Ok(None);
            }
        };
        Ok(Some(kind))
    }

    fn plain_statement(&mut self, word: String) -> Result<StatementKind, Located> {
        if self.is_followed_by("=") && !word.is_empty() {
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
                self.ascend(1);
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
                self.advance();
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
        self.ascend(1);
        Ok(result)
    }

    fn sum(&mut self) -> Result<Expression, Located> {
        let mut operators = 0;
        let mut left = self.product()?;
        while let Some(op) = self.operator(&SUMS) {
            self.descend()?;
            operators += 1;
            left = binary(op, left, self.product()?);
        }
        self.ascend(operators);
        Ok(left)
    }

    fn product(&mut self) -> Result<Expression, Located> {
        let mut operators = 0;
        let mut left = self.primary()?;
        while let Some(op) = self.operator(&PRODUCTS) {
            self.descend()?;
            operators += 1;
            left = binary(op, left, self.primary()?);
        }
        self.ascend(operators);
        Ok(left)
    }

    fn primary(&mut self) -> Result<Expression, Located> {
        self.descend()?;
        let line = self.line();
        let kind = match self.kind().clone() {
            TokenKind::Literal(value) => {
                self.advance();
                ExpressionKind::Literal(value)
            }
            TokenKind::Symbol("-") => {
                self.advance();
                ExpressionKind::Negate(Box::new(self.primary()?))
            }
            TokenKind::Symbol("(") => {
                self.advance();
                let inner = self.expression()?;
                self.expect(")", "\")\"")?;
                inner.kind
            }
            TokenKind::Name(_) => self.named()?,
            _ => return self.unexpected("a value"),
        };
        self.ascend(1);
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
