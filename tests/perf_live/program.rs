//! Programs to be observed.

use std::{
    env,
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdout, Command, Stdio},
    thread,
    time::Duration,
};

use gilscope::{
    model::{event::Event, ids::Pid, time::MonoNanos},
    perf::clock,
    source::Source,
};

/// A Python program that is told to go on line by line.
#[derive(Debug)]
pub struct Program {
    pub child: Child,
    lines: BufReader<ChildStdout>,
}

impl Program {
    pub fn start(text: &str) -> Self {
        let python = env::var("PYTHON").unwrap_or_else(|_| "/usr/bin/python3".into());
        let mut command = Command::new(python);
        command.args(["-u", "-c", text]);
        Self::run(command)
    }

    pub fn run(mut command: Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Self { child, lines }
    }

    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed()).unwrap()
    }

    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        line.trim().to_owned()
    }

    pub fn go(&mut self) {
        self.child.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
    }

    pub fn numbers(&mut self) -> Vec<i64> {
        self.line().split_whitespace().map(|word| word.parse().unwrap()).collect()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _killed = self.child.kill();
        let _ended = self.child.wait();
    }
}

/// Drains until the program prints `word`, then ends the recording; events in order of time.
pub fn record_until(source: &mut dyn Source, program: &mut Program, word: &str) -> Vec<Event> {
    let (mut events, mut seen) = (Vec::new(), String::new());
    let mut watermark = MonoNanos::from_monotonic(0);
    thread::scope(|scope| {
        let reader = scope.spawn(|| {
            while {
                seen = program.line();
                seen != word && !seen.is_empty()
            } {}
        });
        while !reader.is_finished() {
            let now = clock::now();
            let next = source.drain(now, &mut events);
            assert!(next >= watermark && next <= now);
            watermark = next;
            thread::sleep(Duration::from_millis(5));
        }
    });
    source.finish(&mut events);
    events.sort_by_key(|event| event.at);
    events
}
