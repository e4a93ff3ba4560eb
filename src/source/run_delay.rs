//! How long threads have waited for a CPU, as the kernel counts it: `/proc/P/task/T/schedstat`, second field.
//!
//! Switch records tell when a thread got its CPU but not when it was woken; the growth of this counter over a sleep tells
//! how much of it was latency. A thread that cannot be read is left out, never reported as zero.

use std::{fs::File, io, os::unix::fs::FileExt};

use rustc_hash::{FxHashMap, FxHashSet};

use crate::{
    model::{
        event::{Event, What},
        ids::{Pid, Tid},
        time::Nanos,
    },
    perf::clock,
};

/// Counters kept open; those of further threads are opened for each reading.
const MOST_OPEN: usize = 512;

/// The counters of one process's threads.
#[derive(Debug)]
pub struct RunDelays {
    pid: Pid,
    due: FxHashSet<Tid>,
    open: FxHashMap<Tid, File>,
}

impl RunDelays {
    /// The counters of the threads of `pid`.
    pub fn new(pid: Pid) -> Self {
        Self { pid, due: FxHashSet::default(), open: FxHashMap::default() }
    }

    /// The counter of `tid` is to be read.
    pub fn request(&mut self, tid: Tid) {
        self.due.insert(tid);
    }

    /// `tid` has ended.
    pub fn forget(&mut self, tid: Tid) {
        self.due.remove(&tid);
        self.open.remove(&tid);
    }

    /// Reads every counter requested since the last call.
    pub fn read(&mut self, out: &mut Vec<Event>) {
        let due = std::mem::take(&mut self.due);
        for tid in &due {
            let at = clock::now();
            match self.read_one(*tid) {
                Ok(Some(delay)) => out.push(Event { at, tid: *tid, what: What::RunDelay(delay) }),
                // The thread has ended, or this kernel does not count.
                Ok(None) | Err(_) => drop(self.open.remove(tid)),
            }
        }
    }

    fn read_one(&mut self, tid: Tid) -> io::Result<Option<Nanos>> {
        if let Some(file) = self.open.get(&tid) {
            return second_field(file);
        }
        let file = File::open(format!("/proc/{}/task/{tid}/schedstat", self.pid))?;
        let delay = second_field(&file)?;
        if self.open.len() < MOST_OPEN {
            self.open.insert(tid, file);
        }
        Ok(delay)
    }
}

fn second_field(file: &File) -> io::Result<Option<Nanos>> {
    // Three decimal numbers of 64 bits and their separators.
    let mut text = [0; 64];
    let length = file.read_at(&mut text, 0)?;
    Ok(parse(&text[..length]))
}

/// `<ns on a CPU> <ns waiting for one> <times>`; a kernel that does not count writes `0 0 0`.
pub(crate) fn parse(text: &[u8]) -> Option<Nanos> {
    let mut fields = std::str::from_utf8(text).ok()?.split_ascii_whitespace();
    let (running, delay) = (fields.next()?, fields.next()?.parse().ok()?);
    let counted = running != "0" || delay != 0;
    counted.then_some(Nanos::from_nanos(delay))
}

#[cfg(test)]
mod tests {
    use super::{RunDelays, parse};
    use crate::model::{
        event::What,
        ids::{Pid, Tid},
        time::Nanos,
    };

    #[test]
    fn the_delay_is_the_second_field_and_unknown_where_nothing_is_counted() {
        assert_eq!(parse(b"5000 1234 7\n"), Some(Nanos::from_nanos(1234)));
        assert_eq!(parse(b"5000 0 7\n"), Some(Nanos::ZERO));
        for unknown in [&b"0 0 0\n"[..], b"", b"12", b"12 x 1", b"\xff 1 1"] {
            assert_eq!(parse(unknown), None);
        }
    }

    #[test]
    fn a_requested_counter_is_read_once_and_a_vanished_thread_not_at_all() {
        let pid = Pid::from_raw(std::process::id().cast_signed()).unwrap();
        let mut delays = RunDelays::new(pid);
        let mut out = Vec::new();
        delays.request(pid.main_thread());
        delays.request(Tid::from_raw(i32::MAX).unwrap());
        delays.read(&mut out);
        delays.read(&mut out);
        assert_eq!(out.len(), 1);
        assert!(matches!(out[0].what, What::RunDelay(_)));
    }
}
