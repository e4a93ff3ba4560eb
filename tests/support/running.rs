//! A program that runs while a test looks at it, and talks with the test line by line.

#![allow(dead_code, reason = "each test program uses a part of this")]

use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use gilscope::model::ids::Pid;
use tempfile::TempPath;

/// A running program. Dropping it ends it.
#[derive(Debug)]
pub struct Running {
    /// Its process.
    pub child: Child,
    input: ChildStdin,
    lines: BufReader<ChildStdout>,
    script: Option<TempPath>,
}

impl Running {
    pub fn start(mut command: Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the program starts");
        let input = child.stdin.take().expect("a pipe");
        let lines = BufReader::new(child.stdout.take().expect("a pipe"));
        Self { child, input, lines, script: None }
    }

    /// Removes `script` when the program has ended.
    pub(super) fn keeping(mut self, script: TempPath) -> Self {
        self.script = Some(script);
        self
    }

    /// The next line that it prints; empty when there is none any more.
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).expect("the program prints text");
        line.trim_end().to_owned()
    }

    /// The numbers in the next line.
    pub fn numbers(&mut self) -> Vec<i64> {
        self.line().split_whitespace().map(|word| word.parse().expect("a number")).collect()
    }

    /// Sends it an empty line.
    pub fn go(&mut self) {
        self.input.write_all(b"\n").expect("the program reads its standard input");
    }

    /// Sends it a line, which it can read at once.
    pub fn say(&mut self, words: &str) {
        self.input.write_all(format!("{words}\n").as_bytes()).expect("the program reads its standard input");
    }

    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed()).expect("a process has an id")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _killed = self.child.kill();
        let _ended = self.child.wait();
    }
}
