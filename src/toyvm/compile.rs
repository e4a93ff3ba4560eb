//! From the syntax tree to bytecode. Names are resolved here: what compiles has no unknown variable or function.

use std::collections::HashMap;

use crate::toyvm::{
    bytecode::{Code, Op, Program, Target},
    error::SyntaxFault,
    parse::{Located, parse},
    script::{Expression, ExpressionKind, Function, Native, PrintPart, Statement, StatementKind},
    value::{BinaryOp, Value},
};

/// Parses and compiles a program.
pub fn compile(text: &str) -> Result<Program, Located> {
    let script = parse(text)?;
    let main = Function { line: 1, name: Program::MAIN_NAME.to_owned(), parameters: Vec::new(), body: script.top };
    let functions: Vec<Function> = std::iter::once(main).chain(script.functions).collect();
    let mut names = HashMap::new();
    for (index, function) in functions.iter().enumerate() {
        let signature = Target { function: index, arguments: function.parameters.len() };
        if names.insert(function.name.clone(), signature).is_some() {
            return Err((function.line, SyntaxFault::Twice(function.name.clone())));
        }
    }
    let mut texts = Vec::new();
    let functions = functions.iter().map(|function| Body::compile(function, &names, &mut texts));
    Ok(Program { functions: functions.collect::<Result<_, _>>()?, texts })
}

/// A function under compilation.
#[derive(Debug)]
struct Body<'a> {
    names: &'a HashMap<String, Target>,
    texts: &'a mut Vec<Box<str>>,
    ops: Vec<Op>,
    /// One list of names and slots for each open block.
    scopes: Vec<Vec<(String, usize)>>,
    locals: usize,
}

impl<'a> Body<'a> {
    fn compile(
        function: &Function,
        names: &'a HashMap<String, Target>,
        texts: &'a mut Vec<Box<str>>,
    ) -> Result<Code, Located> {
        let mut body = Body { names, texts, ops: Vec::new(), scopes: vec![Vec::new()], locals: 0 };
        for parameter in &function.parameters {
            body.declare(function.line, parameter)?;
        }
        body.block(&function.body)?;
        body.ops.extend([Op::Push(Value::Int(0)), Op::Return]);
        Ok(Code { name: function.name.as_str().into(), locals: body.locals, ops: body.ops })
    }

    fn block(&mut self, statements: &[Statement]) -> Result<(), Located> {
        self.scopes.push(Vec::new());
        for statement in statements {
            self.ops.push(Op::Line(statement.line));
            self.statement(statement)?;
        }
        self.scopes.pop();
        Ok(())
    }

    fn statement(&mut self, statement: &Statement) -> Result<(), Located> {
        let line = statement.line;
        match &statement.kind {
            StatementKind::Let(name, value) => {
                self.expression(value)?;
                let slot = self.declare(line, name)?;
                self.ops.push(Op::Store(slot));
            }
            StatementKind::Assign(name, value) => {
                self.expression(value)?;
                let slot = self.slot(line, name)?;
                self.ops.push(Op::Store(slot));
            }
            StatementKind::If(condition, then, otherwise) => self.branch(condition, then, otherwise)?,
            StatementKind::While(condition, body) => self.while_loop(line, condition, body)?,
            StatementKind::Loop(count, body) => self.counted_loop(line, count, body)?,
            StatementKind::Return(value) => {
                self.optional(value.as_ref())?;
                self.ops.push(Op::Return);
            }
            StatementKind::Print(parts) => self.print(parts)?,
            StatementKind::Compute(amount) => self.compute(amount)?,
            StatementKind::Native(native, operands) => self.native(*native, operands)?,
            StatementKind::Pipe(name) => {
                self.ops.push(Op::Native(Native::Pipe));
                let slot = self.declare(line, name)?;
                self.ops.push(Op::Store(slot));
            }
            StatementKind::Expression(value) => {
                self.expression(value)?;
                self.ops.push(Op::Pop);
            }
        }
        Ok(())
    }

    fn branch(&mut self, condition: &Expression, then: &[Statement], otherwise: &[Statement]) -> Result<(), Located> {
        self.expression(condition)?;
        let to_otherwise = self.hole();
        self.block(then)?;
        let to_end = self.hole();
        self.ops[to_otherwise] = Op::JumpIfFalse(self.ops.len());
        self.block(otherwise)?;
        self.ops[to_end] = Op::Jump(self.ops.len());
        Ok(())
    }

    fn while_loop(&mut self, line: u32, condition: &Expression, body: &[Statement]) -> Result<(), Located> {
        let top = self.ops.len();
        self.ops.push(Op::Line(line));
        self.expression(condition)?;
        let to_end = self.hole();
        self.block(body)?;
        self.ops.push(Op::JumpBack(top));
        self.ops[to_end] = Op::JumpIfFalse(self.ops.len());
        Ok(())
    }

    fn counted_loop(&mut self, line: u32, count: &Expression, body: &[Statement]) -> Result<(), Located> {
        self.expression(count)?;
        let left = self.new_slot();
        let top = self.ops.len() + 1;
        self.ops.extend([Op::Store(left), Op::Line(line), Op::Load(left), Op::Push(Value::Int(0))]);
        self.ops.push(Op::Binary(BinaryOp::Greater));
        let to_end = self.hole();
        self.ops.extend([Op::Load(left), Op::Push(Value::Int(1)), Op::Binary(BinaryOp::Subtract), Op::Store(left)]);
        self.block(body)?;
        self.ops.push(Op::JumpBack(top));
        self.ops[to_end] = Op::JumpIfFalse(self.ops.len());
        Ok(())
    }

    fn compute(&mut self, amount: &Expression) -> Result<(), Located> {
        self.expression(amount)?;
        self.ops.push(Op::ComputeBegin);
        let top = self.ops.len();
        self.ops.push(Op::ComputeRound);
        let to_end = self.hole();
        self.ops.push(Op::JumpBack(top));
        self.ops[to_end] = Op::JumpIfFalse(self.ops.len());
        self.ops.push(Op::Pop);
        Ok(())
    }

    fn print(&mut self, parts: &[PrintPart]) -> Result<(), Located> {
        for part in parts {
            match part {
                PrintPart::Text(text) => {
                    self.ops.push(Op::PrintText(self.texts.len()));
                    self.texts.push(text.as_str().into());
                }
                PrintPart::Value(value) => {
                    self.expression(value)?;
                    self.ops.push(Op::PrintValue);
                }
            }
        }
        self.ops.push(Op::PrintEnd);
        Ok(())
    }

    fn native(&mut self, native: Native, operands: &[Expression]) -> Result<(), Located> {
        operands.iter().try_for_each(|operand| self.expression(operand))?;
        self.ops.push(Op::Native(native));
        Ok(())
    }

    fn expression(&mut self, expression: &Expression) -> Result<(), Located> {
        let op = match &expression.kind {
            ExpressionKind::Literal(value) => Op::Push(*value),
            ExpressionKind::Name(name) => Op::Load(self.slot(expression.line, name)?),
            ExpressionKind::Negate(operand) => {
                self.expression(operand)?;
                Op::Negate
            }
            ExpressionKind::Binary(op, left, right) => {
                self.expression(left)?;
                self.expression(right)?;
                Op::Binary(*op)
            }
            ExpressionKind::Call(name, arguments) => Op::Call(self.target(expression.line, name, arguments)?),
            ExpressionKind::Spawn(name, arguments) => Op::Spawn(self.target(expression.line, name, arguments)?),
            ExpressionKind::Read(pipe) => {
                self.expression(pipe)?;
                Op::Native(Native::Read)
            }
        };
        self.ops.push(op);
        Ok(())
    }

    fn optional(&mut self, value: Option<&Expression>) -> Result<(), Located> {
        match value {
            Some(value) => self.expression(value),
            None => {
                self.ops.push(Op::Push(Value::Int(0)));
                Ok(())
            }
        }
    }

    fn target(&mut self, line: u32, name: &str, arguments: &[Expression]) -> Result<Target, Located> {
        let target = *self.names.get(name).ok_or_else(|| (line, SyntaxFault::Function(name.to_owned())))?;
        if target.arguments != arguments.len() {
            let fault =
                SyntaxFault::Arguments { name: name.to_owned(), wanted: target.arguments, found: arguments.len() };
            return Err((line, fault));
        }
        arguments.iter().try_for_each(|argument| self.expression(argument))?;
        Ok(target)
    }

    /// Leaves room for a jump whose target is not known yet.
    fn hole(&mut self) -> usize {
        self.ops.push(Op::Pop);
        self.ops.len() - 1
    }

    fn new_slot(&mut self) -> usize {
        self.locals += 1;
        self.locals - 1
    }

    fn declare(&mut self, line: u32, name: &str) -> Result<usize, Located> {
        let slot = self.new_slot();
        let scope = self.scopes.last_mut().expect("a function has at least the scope of its parameters");
        if scope.iter().any(|(other, _)| other == name) {
            return Err((line, SyntaxFault::Twice(name.to_owned())));
        }
        scope.push((name.to_owned(), slot));
        Ok(slot)
    }

    fn slot(&self, line: u32, name: &str) -> Result<usize, Located> {
        let found = self.scopes.iter().rev().flatten().find(|(other, _)| other == name);
        found.map(|(_, slot)| *slot).ok_or_else(|| (line, SyntaxFault::Variable(name.to_owned())))
    }
}

#[cfg(test)]
mod tests {
    use super::compile;
    use crate::toyvm::{
        bytecode::Op,
        value::{BinaryOp, Value},
    };

    fn message(text: &str) -> String {
        let (line, fault) = compile(text).expect_err("the text is wrong");
        format!("{line}: {fault}")
    }

    #[test]
    fn a_product_is_computed_before_a_sum() {
        let program = compile("let x = 1 + 2 * 3").unwrap();
        let expected = [
            Op::Line(1),
            Op::Push(Value::Int(1)),
            Op::Push(Value::Int(2)),
            Op::Push(Value::Int(3)),
            Op::Binary(BinaryOp::Multiply),
            Op::Binary(BinaryOp::Add),
            Op::Store(0),
            Op::Push(Value::Int(0)),
            Op::Return,
        ];
        assert_eq!(program.functions[0].ops, expected);
    }

    #[test]
    fn a_name_is_known_in_its_block_only() {
        assert_eq!(message("if 1 {\n  let x = 1\n}\nprint x"), "4: unknown variable x (introduce it with let)");
        assert_eq!(message("fn f() {\n  y = 2\n}"), "2: unknown variable y (introduce it with let)");
        assert_eq!(message("let x = 1\nlet x = 2"), "2: x is defined twice");
        assert!(compile("let x = 1\nloop 2 {\n  let x = x + 1\n}").is_ok());
    }

    #[test]
    fn a_call_must_fit_its_function() {
        assert_eq!(message("f(1)"), "1: unknown function f");
        assert_eq!(message("fn f(a) {\n}\nlet h = spawn f()"), "3: f takes 1 arguments, not 0");
        assert_eq!(message("fn f() {\n}\nfn f() {\n}"), "3: f is defined twice");
    }
}
