//! What becomes of a recording when gilscope is killed outright.
//!
//! A second process, the heir, waits at the other end of a pipe that only gilscope holds open. From time to time gilscope
//! writes the reports as they would be now into a memory file that both share, and one line into the pipe. When the pipe
//! closes without a farewell, the heir puts the last reports where they were to go, says so, and ends. It has a session
//! of its own, so that no signal meant for gilscope or its terminal reaches it. Before anything else it has the probes fall silent that
//! gilscope has left in the program.
//!
//! Invariant: of the two memory files one always holds whole reports, whenever gilscope dies.
#![expect(unsafe_code, reason = "a session of one's own and inherited descriptors are arranged between fork and exec")]

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read, Write},
    os::{
        fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
        unix::{fs::FileExt, process::CommandExt},
    },
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use crate::{
    report::outlet::{Destination, Outlet},
    source::preload::{file, quiet},
    target::spawn,
};

/// The hidden subcommand under which [`inherit`] is to be run.
pub const SUBCOMMAND: &str = "__heir";
/// Probes are told so often to fall silent, with such pauses after it: a process may just be setting out to record, and a thread of the
/// target may be in the middle of a record.
const PAUSES: [Duration; 3] = [Duration::from_millis(5), Duration::from_millis(20), Duration::from_millis(200)];
/// What gilscope says when there is nothing to inherit.
const FAREWELL: &str = "done\n";

/// The process that waits.
#[derive(Debug)]
pub struct Heir {
    process: Child,
    pipe: File,
}

/// What it will inherit; may be kept up in another thread.
#[derive(Debug)]
pub struct Legacy {
    pipe: File,
    files: [File; 2],
    /// The file that does not hold the last reports.
    spare: usize,
}

impl Heir {
    /// Starts the heir to reports that are to go to `destinations`, and to the memory that probes write to.
    pub fn appoint(destinations: &[Destination], shared: &[BorrowedFd<'_>]) -> io::Result<(Self, Legacy)> {
        let files = [file::create(c"gilscope-heir")?, file::create(c"gilscope-heir")?];
        let numbers = files.each_ref().map(AsRawFd::as_raw_fd);
        let shared: Vec<RawFd> = shared.iter().map(AsRawFd::as_raw_fd).collect();
        // Through /proc it works even when the file has been replaced or removed meanwhile.
        let mut command = Command::new("/proc/self/exe");
        command.arg(SUBCOMMAND).args(numbers.map(|number| number.to_string()));
        if !shared.is_empty() {
            command.arg("--shared").args(shared.iter().map(RawFd::to_string));
        }
        command.arg("--");
        for destination in destinations {
            match destination {
                Destination::Stdout => command.arg("-"),
                // It may not keep gilscope's folder in use.
                Destination::File(path) => command.arg(std::path::absolute(path)?),
            };
        }
        let wants_stdout = destinations.contains(&Destination::Stdout);
        command
            .stdin(Stdio::piped())
            .stdout(if wants_stdout { Stdio::inherit() } else { Stdio::null() })
            .current_dir("/");
        // SAFETY: the closure makes async-signal-safe calls only and allocates nothing.
        unsafe { command.pre_exec(move || prepare(&[&numbers, &shared[..]])) };
        let mut process = command.spawn()?;
        let pipe = process.stdin.take().ok_or_else(|| io::Error::other("the heir has no pipe"))?;
        let pipe = File::from(OwnedFd::from(pipe));
        let legacy = Legacy { pipe: pipe.try_clone()?, files, spare: 0 };
        Ok((Self { process, pipe }, legacy))
    }

    /// There is nothing to inherit: the reports are written. The heir reads no further, whatever may still be handed over.
    pub fn dismiss(mut self) {
        // A heir that is gone needs no farewell.
        let _ = self.pipe.write_all(FAREWELL.as_bytes());
        let _ended = self.process.wait();
    }
}

impl Legacy {
    /// Hands over the reports as they are now, in the order of the destinations.
    pub fn entrust(&mut self, reports: &[Vec<u8>]) -> io::Result<()> {
        let file = &self.files[self.spare];
        let mut line = self.spare.to_string();
        let mut at = 0;
        for report in reports {
            file.write_all_at(report, at)?;
            at += report.len() as u64;
            line += &format!(" {}", report.len());
        }
        file.set_len(at)?;
        line.push('\n');
        // One write: it goes into the pipe whole or not at all.
        self.pipe.write_all(line.as_bytes())?;
        self.spare = 1 - self.spare;
        // What the heir would not read any more need not take memory.
        self.files[self.spare].set_len(0)
    }
}

fn prepare(files: &[&[RawFd]]) -> io::Result<()> {
    spawn::begin_own_session()?;
    files.iter().copied().flatten().copied().try_for_each(spawn::pass_on)
}

/// Waits for the end of standard input, which is the end of gilscope, and writes the last reports unless it has said
/// farewell; returns what there is to say about that. To be called by the hidden subcommand [`SUBCOMMAND`].
pub fn inherit((files, shared): ([RawFd; 2], &[RawFd]), destinations: &[Destination]) -> io::Result<Option<String>> {
    // SAFETY: gilscope has given us the numbers of files that nothing else in this process owns.
    let shared: Vec<File> = shared.iter().map(|number| unsafe { File::from_raw_fd(*number) }).collect();
    let last = match last_line(BufReader::new(io::stdin().lock()))? {
        Ending::Farewell => return Ok(None),
        Ending::Killed { last } => last,
    };
    fall_silent(&shared);
    let Some(last) = last else { return Ok(None) };
    let numbers: Vec<u64> = last.split(' ').map_while(|word| word.parse().ok()).collect();
    let Some((slot, lengths)) = numbers.split_first().filter(|(_, lengths)| lengths.len() == destinations.len()) else {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("not a line of gilscope's: {last:?}")));
    };
    // SAFETY: gilscope has given us the number of a file that nothing else in this process owns.
    let file = unsafe { File::from_raw_fd(files[usize::from(*slot == 1)]) };
    let mut reports = BufReader::new(file);
    io::Seek::rewind(&mut reports)?;
    for (destination, length) in destinations.iter().zip(lengths) {
        let mut report = Vec::new();
        (&mut reports).take(*length).read_to_end(&mut report)?;
        Outlet::open(destination).and_then(|outlet| outlet.put(&report)).map_err(io::Error::other)?;
    }
    Ok(destinations
        .first()
        .map(|first| format!("the recorder was killed; the report as of its last seconds is in {first}")))
}

/// Has probes pass every call on, those of processes too that begin at this moment. What cannot be done is left undone: there is
/// nobody to tell.
fn fall_silent(shared: &[File]) {
    for pause in PAUSES {
        shared.iter().for_each(|memory| drop(quiet::silence(memory)));
        thread::sleep(pause);
    }
    shared.iter().for_each(|memory| drop(quiet::let_go(memory)));
}

/// How gilscope ended.
#[derive(Debug, PartialEq, Eq)]
enum Ending {
    Farewell,
    /// Outright; what it wrote last, if anything.
    Killed {
        last: Option<String>,
    },
}

/// The last whole line; what comes after it was cut off by gilscope's end.
fn last_line(mut lines: impl BufRead) -> io::Result<Ending> {
    let (mut line, mut last) = (String::new(), None);
    while lines.read_line(&mut line)? > 0 {
        if line == FAREWELL {
            return Ok(Ending::Farewell);
        }
        if let Some(whole) = line.strip_suffix('\n') {
            last = Some(whole.to_owned());
        }
        line.clear();
    }
    Ok(Ending::Killed { last })
}

#[cfg(test)]
mod tests {
    use super::{Ending, last_line};

    #[test]
    fn a_line_that_was_cut_off_does_not_count() {
        let last = |text: &str| match last_line(text.as_bytes()).unwrap() {
            Ending::Killed { last } => last,
            Ending::Farewell => panic!("there is none"),
        };
        assert_eq!(last(""), None);
        assert_eq!(last("0 12"), None);
        assert_eq!(last("0 12\n1 3"), Some("0 12".to_owned()));
        assert_eq!(last("0 12\n1 3\n"), Some("1 3".to_owned()));
    }

    #[test]
    fn nothing_is_inherited_after_a_farewell() {
        assert_eq!(last_line("0 12\ndone\n".as_bytes()).unwrap(), Ending::Farewell);
        // A report that was on its way is out of date.
        assert_eq!(last_line("done\n1 3\n".as_bytes()).unwrap(), Ending::Farewell);
    }
}
