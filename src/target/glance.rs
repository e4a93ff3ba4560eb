//! What `/proc` shows of one thread at one moment: where it pauses, and what it has spent. Files stay open from one glance to
//! the next; needs the right to read the target's memory, or else less is seen.

use std::{fs::File, io, os::unix::fs::FileExt};

use crate::{
    model::{
        event::{CpuTime, SeenCpu},
        ids::{Pid, Tid},
        time::Nanos,
    },
    target::process::Pause,
};

/// A line of `syscall` has nine numbers of at most 18 characters, one of `stat` up to its state a name of at most 64.
const LONGEST: usize = 256;

/// What the scheduler has counted of a thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counters {
    /// Time spent.
    pub time: CpuTime,
    /// How often it has got a CPU.
    pub runs: u64,
}

/// Where a thread is, as far as one may know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Glance {
    /// On a CPU or queued for one, or asleep.
    pub cpu: SeenCpu,
    /// What for; `None` where only the scheduler's state may be read.
    pub pause: Option<Pause>,
}

/// The files of one thread.
#[derive(Debug)]
pub struct ThreadFiles {
    place: Place,
    counters: Option<File>,
}

#[derive(Debug)]
enum Place {
    /// `syscall`.
    Call(File),
    /// `stat`, for everybody.
    State(File),
}

impl ThreadFiles {
    /// Opens what may be read of the thread.
    pub fn open(pid: Pid, tid: Tid) -> io::Result<Self> {
        let open = |name| File::open(format!("/proc/{pid}/task/{tid}/{name}"));
        let call = open("syscall").and_then(|file| line(&file).map(|_| Place::Call(file)));
        let place = call.or_else(|_| open("stat").map(Place::State))?;
        Ok(Self { place, counters: open("schedstat").ok() })
    }

    /// Where the thread is now; an error when it has ended.
    pub fn glance(&self) -> io::Result<Glance> {
        match &self.place {
            Place::Call(file) => {
                let pause = Pause::parse(&line(file)?);
                let cpu = if pause == Pause::Running { SeenCpu::Runnable } else { SeenCpu::Asleep };
                Ok(Glance { cpu, pause: Some(pause) })
            }
            Place::State(file) => {
                let text = line(file)?;
                // The name before it may hold any character, also parentheses.
                let state = text.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
                match state.ok_or(io::ErrorKind::InvalidData)? {
                    'Z' | 'X' | 'x' => Err(io::ErrorKind::NotFound.into()),
                    'R' => Ok(Glance { cpu: SeenCpu::Runnable, pause: None }),
                    _ => Ok(Glance { cpu: SeenCpu::Asleep, pause: None }),
                }
            }
        }
    }

    /// What the scheduler has counted so far; `None` where it does not count.
    pub fn counters(&self) -> Option<Counters> {
        parse(&line(self.counters.as_ref()?).ok()?)
    }
}

fn line(file: &File) -> io::Result<String> {
    let mut bytes = [0; LONGEST];
    let length = file.read_at(&mut bytes, 0)?;
    Ok(String::from_utf8_lossy(&bytes[..length]).into_owned())
}

/// `RAN WAITED RUNS`; a kernel that does not count writes `0 0 0`.
fn parse(text: &str) -> Option<Counters> {
    let mut fields = text.split_ascii_whitespace().map(str::parse::<u64>);
    let mut next = || fields.next()?.ok();
    let (ran, delayed, runs) = (next()?, next()?, next()?);
    let time = CpuTime { ran: Nanos::from_nanos(ran), delayed: Nanos::from_nanos(delayed) };
    (ran != 0 || delayed != 0).then_some(Counters { time, runs })
}

#[cfg(test)]
mod tests {
    use super::{ThreadFiles, parse};
    use crate::model::{
        event::SeenCpu,
        ids::{Pid, Tid},
    };

    #[test]
    fn counters_that_do_not_count_are_none() {
        assert_eq!(parse("5 6 7\n").map(|counters| counters.runs), Some(7));
        for text in ["0 0 0\n", "", "5 6", "5 x 7"] {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn this_thread_runs_and_another_sleeps() {
        let pid = i32::try_from(std::process::id()).ok().and_then(Pid::from_raw).unwrap();
        let (tell, told) = std::sync::mpsc::channel();
        let (end, ended) = std::sync::mpsc::channel::<()>();
        let sleeper = std::thread::spawn(move || {
            let own = std::fs::read_link("/proc/thread-self").unwrap();
            tell.send(own.file_name().unwrap().to_str().unwrap().parse::<i32>().unwrap()).unwrap();
            ended.recv().unwrap();
        });
        let tid = Tid::from_raw(told.recv().unwrap()).unwrap();
        let files = ThreadFiles::open(pid, tid).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(20));
        assert_eq!(files.glance().unwrap().cpu, SeenCpu::Asleep);
        assert!(files.counters().unwrap().time.ran.as_nanos() > 0);
        end.send(()).unwrap();
        sleeper.join().unwrap();
        // Its entry in /proc may outlive it for a moment.
        let is_gone = (0..100).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(10));
            files.glance().is_err()
        });
        assert!(is_gone, "it has ended");
    }
}
