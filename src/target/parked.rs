//! What a thread that sleeps in the kernel does there, and where it will go on: `/proc/P/task/T/syscall`, and how often it
//! has got a CPU: `schedstat`.
//!
//! Needs the right to read the target's memory, like everything else that is read from outside. A thread that runs shows
//! nothing.

use std::{
    collections::HashMap,
    fs::{self, File},
    io,
    os::unix::fs::FileExt,
};

use syscalls::Sysno;

use crate::{
    model::{
        address::LiveAddress,
        ids::{Pid, Tid},
        machine::{KernelWork, MachineState, Registers},
    },
    target::memory::Memory,
};

/// Threads whose files are kept open.
const MOST_THREADS: usize = 256;
/// A line has nine numbers of at most 18 characters.
const LONGEST_LINE: usize = 256;
/// Bytes of stack copied at the most, and how many at a time: the end of the stack is not known.
const STACK_COPIED: usize = 24 << 10;
const PAGE: u64 = 4096;

/// Looks at sleeping threads of one process.
#[derive(Debug)]
pub struct ParkedThreads {
    pid: Pid,
    files: HashMap<Tid, Files>,
}

/// What is kept open of a thread.
#[derive(Debug)]
struct Files {
    call: File,
    runs: File,
}

/// A thread asleep in the kernel; equal as long as it sleeps on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parked {
    /// What it asked the kernel for.
    pub work: KernelWork,
    arguments: [u64; 6],
    stack: u64,
    instruction: u64,
    /// How often it has got a CPU.
    runs: u64,
}

impl ParkedThreads {
    /// Looks at nothing yet.
    pub fn of(pid: Pid) -> Self {
        Self { pid, files: HashMap::new() }
    }

    /// What `tid` does in the kernel; `None` when it runs, has ended, or may not be looked at.
    pub fn look(&mut self, tid: Tid) -> Option<Parked> {
        let [call, runs] = self.lines(tid).inspect_err(|_| drop(self.files.remove(&tid))).ok()?;
        let mut parked = parse(&call, &runs)?;
        if parked.work == KernelWork::Fault && self.is_stopped(tid) {
            parked.work = KernelWork::Stopped;
        }
        Some(parked)
    }

    fn lines(&mut self, tid: Tid) -> io::Result<[String; 2]> {
        if !self.files.contains_key(&tid) {
            // Those of ended threads are among them; the others are opened again as they are needed.
            if self.files.len() >= MOST_THREADS {
                self.files.clear();
            }
            let open = |name| File::open(format!("/proc/{}/task/{tid}/{name}", self.pid));
            self.files.insert(tid, Files { call: open("syscall")?, runs: open("schedstat")? });
        }
        let files = &self.files[&tid];
        Ok([line(&files.call)?, line(&files.runs)?])
    }

    /// Whether a signal or a debugger has stopped the thread, which `syscall` shows like a page fault.
    fn is_stopped(&self, tid: Tid) -> bool {
        let stat = fs::read_to_string(format!("/proc/{}/task/{tid}/stat", self.pid)).unwrap_or_default();
        let state = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
        state.starts_with(['T', 't'])
    }
}

fn line(file: &File) -> io::Result<String> {
    let mut bytes = [0; LONGEST_LINE];
    let length = file.read_at(&mut bytes, 0)?;
    Ok(String::from_utf8_lossy(&bytes[..length]).into_owned())
}

impl Parked {
    /// The thread's registers and the inner part of its stack, as far as they are known: it has no frame pointer.
    pub fn machine_state(&self, memory: &dyn Memory) -> MachineState {
        let registers = Registers { instruction: self.instruction, stack: self.stack, frame: 0 };
        MachineState { registers, stack: copy(memory, self.stack).into(), kernel: Some(self.work) }
    }
}

/// The name of what a thread does in the kernel; `None` when the kernel is newer than the list of names.
pub fn name_of_call(number: u32) -> Option<&'static str> {
    usize::try_from(number).ok().and_then(Sysno::new).map(|call| call.name())
}

/// Up to the end of the stack, whose last page is the last that can be read.
fn copy(memory: &dyn Memory, start: u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(STACK_COPIED);
    while bytes.len() < STACK_COPIED {
        let at = start.wrapping_add(bytes.len() as u64);
        let length = usize::try_from(PAGE - at % PAGE).expect("a page fits a word");
        let before = bytes.len();
        bytes.resize(before + length, 0);
        if memory.read(LiveAddress::in_target(at), &mut bytes[before..]).is_err() {
            bytes.truncate(before);
            break;
        }
    }
    bytes
}

/// `NUMBER ARGUMENTS… STACK INSTRUCTION`, number -1 and no arguments when the thread sleeps for a page or is stopped; and
/// `RAN WAITED RUNS`.
pub(crate) fn parse(line: &str, schedstat: &str) -> Option<Parked> {
    let hex = |word: &str| u64::from_str_radix(word.strip_prefix("0x")?, 16).ok();
    let mut words = line.split_whitespace();
    let number: i64 = words.next()?.parse().ok()?;
    let mut arguments = [0; 6];
    let work = if number < 0 {
        KernelWork::Fault
    } else {
        for argument in &mut arguments {
            *argument = hex(words.next()?)?;
        }
        KernelWork::Call(u32::try_from(number).ok()?)
    };
    let runs = schedstat.split_whitespace().nth(2)?.parse().ok()?;
    Some(Parked { work, arguments, stack: hex(words.next()?)?, instruction: hex(words.next()?)?, runs })
}

#[cfg(test)]
mod tests {
    use super::{Parked, name_of_call, parse};
    use crate::model::machine::KernelWork;

    #[test]
    fn the_kernels_lines() {
        let line = "230 0x0 0x0 0x7ffd 0x0 0x0 0x1 0x7ffd3650 0x7f26";
        let sleeping = parse(line, "5 6 7").unwrap();
        let arguments = [0, 0, 0x7ffd, 0, 0, 1];
        let expected =
            Parked { work: KernelWork::Call(230), arguments, stack: 0x7ffd_3650, instruction: 0x7f26, runs: 7 };
        assert_eq!(sleeping, expected);
        assert_eq!(parse("-1 0x7ffd3650 0x7f26\n", "1 2 3\n").unwrap().work, KernelWork::Fault);
        assert_eq!(parse(line, "1 2"), None);
        for other in ["running", "", "230 0x0", "-1", "x 0x1 0x2"] {
            assert_eq!(parse(other, "1 2 3"), None, "{other:?}");
        }
    }

    #[test]
    fn calls_have_names() {
        assert_eq!(name_of_call(230), Some("clock_nanosleep"));
        assert_eq!(name_of_call(202), Some("futex"));
        assert_eq!(name_of_call(999_999), None);
    }
}
