//! What `/proc` says about a process as a whole, and about its threads.
//!
//! Everything may vanish between two reads, so every answer is a result of its own and nothing is cached.

use std::{
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
};

use crate::model::{
    address::LiveAddress,
    ids::{Pid, Tid},
};

/// Bytes of a command line that are read: a process may say that any part of its memory is it.
const LONGEST_COMMAND: u64 = 64 << 10;

/// A process's state in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Life {
    /// It runs a program.
    Alive,
    /// It ended and waits for its parent to notice.
    Zombie,
    /// It is a part of the kernel.
    Kernel,
}

/// The lines of `/proc/P/status` that matter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Whether there is a program to look at.
    pub life: Life,
    /// The real user id.
    pub uid: u32,
    /// How many pid namespaces deep the process lives, counted from the observer's as 1.
    pub namespaces: usize,
    /// The id of the process (or thread) in its own, innermost pid namespace.
    pub inner_id: i32,
}

impl Status {
    /// Reads the status of a process.
    pub fn of_process(pid: Pid) -> io::Result<Self> {
        Self::read(Path::new(&format!("/proc/{pid}/status")))
    }

    /// Reads the status of one thread of a process.
    pub fn of_thread(pid: Pid, tid: Tid) -> io::Result<Self> {
        Self::read(Path::new(&format!("/proc/{pid}/task/{tid}/status")))
    }

    fn read(path: &Path) -> io::Result<Self> {
        let text = fs::read(path)?;
        Self::parse(&String::from_utf8_lossy(&text))
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "status of an unknown form"))
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        let field = |name: &str| {
            text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::split_whitespace)
        };
        let state = field("State")?.next()?;
        let ids: Vec<i32> = match field("NSpid").or_else(|| field("Pid")) {
            Some(words) => words.filter_map(|word| word.parse().ok()).collect(),
            None => Vec::new(),
        };
        let kernel = match field("Kthread").and_then(|mut words| words.next()) {
            Some(mark) => mark == "1",
            // Kernels before 6.8 have no such line; there a process without memory is the kernel's, if not dead.
            None => field("VmSize").is_none(),
        };
        let life = match state {
            "Z" | "X" | "x" => Life::Zombie,
            _ if kernel => Life::Kernel,
            _ => Life::Alive,
        };
        let uid = field("Uid")?.next()?.parse().ok()?;
        Some(Self { life, uid, namespaces: ids.len(), inner_id: *ids.last()? })
    }
}

/// The command line, arguments joined by spaces; empty when the process has none.
pub fn command(pid: Pid) -> io::Result<String> {
    let mut bytes = Vec::new();
    File::open(format!("/proc/{pid}/cmdline"))?.take(LONGEST_COMMAND).read_to_end(&mut bytes)?;
    let words: Vec<_> = bytes.split(|byte| *byte == 0).map(String::from_utf8_lossy).collect();
    Ok(words.join(" ").trim_end().to_owned())
}

/// The path of the executable in the target's own mount namespace.
pub fn executable(pid: Pid) -> io::Result<PathBuf> {
    fs::read_link(format!("/proc/{pid}/exe"))
}

/// The threads of a process, in the observer's pid namespace, in ascending order.
pub fn threads(pid: Pid) -> io::Result<Vec<Tid>> {
    let mut tids = Vec::new();
    for entry in fs::read_dir(format!("/proc/{pid}/task"))? {
        let name = entry?.file_name();
        tids.extend(name.to_str().and_then(|name| name.parse().ok()).and_then(Tid::from_raw));
    }
    tids.sort_unstable();
    Ok(tids)
}

/// Whether the process has this thread now.
pub fn exists(pid: Pid, tid: Tid) -> bool {
    fs::exists(format!("/proc/{pid}/task/{tid}")).unwrap_or(false)
}

/// A thread's name.
pub fn thread_name(pid: Pid, tid: Tid) -> io::Result<String> {
    let bytes = fs::read(format!("/proc/{pid}/task/{tid}/comm"))?;
    Ok(String::from_utf8_lossy(&bytes).trim_end_matches('\n').to_owned())
}

/// A thread's scheduling state as `/proc` abbreviates it, such as `R` or `S`.
pub fn thread_state(pid: Pid, tid: Tid) -> io::Result<char> {
    let text = fs::read(format!("/proc/{pid}/task/{tid}/stat"))?;
    let text = String::from_utf8_lossy(&text);
    // The name before it may hold any character, also parentheses.
    let state = text.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
    state.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "thread state of an unknown form"))
}

/// Where a thread pauses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Pause {
    /// Nowhere: it is on a CPU or queued for one.
    Running,
    /// It sleeps on the futex at this address.
    Futex(LiveAddress),
    /// It sleeps in another system call, or in none.
    Elsewhere,
}

/// Where a thread pauses now.
pub fn pause(pid: Pid, tid: Tid) -> io::Result<Pause> {
    fs::read_to_string(format!("/proc/{pid}/task/{tid}/syscall")).map(|text| Pause::parse(&text))
}

impl Pause {
    /// The pause that a line of `/proc/P/task/T/syscall` tells.
    pub fn parse(text: &str) -> Self {
        let mut words = text.split_whitespace();
        let number = match words.next() {
            None | Some("running") => return Self::Running,
            Some(number) => number.parse(),
        };
        let first = words.next().and_then(|word| u64::from_str_radix(word.trim_start_matches("0x"), 16).ok());
        match (number, first) {
            (Ok(libc::SYS_futex), Some(address)) => Self::Futex(LiveAddress::in_target(address)),
            _ => Self::Elsewhere,
        }
    }
}

/// The login name of a user, or `uid 1000` when the user has none here.
pub fn user_name(uid: u32) -> String {
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let wanted = uid.to_string();
    users
        .lines()
        .find_map(|line| {
            let mut words = line.split(':');
            let name = words.next()?;
            (words.nth(1)? == wanted).then(|| name.to_owned())
        })
        .unwrap_or_else(|| format!("uid {uid}"))
}

#[cfg(test)]
mod tests {
    use super::{Life, Pause, Status, command, thread_state, threads, user_name};
    use crate::model::{address::LiveAddress, ids::Pid};

    fn own_pid() -> Pid {
        Pid::from_raw(i32::try_from(std::process::id()).unwrap()).unwrap()
    }

    #[test]
    fn this_process_is_alive_and_has_its_main_thread() {
        let status = Status::of_process(own_pid()).unwrap();
        assert_eq!(status.life, Life::Alive);
        assert!(threads(own_pid()).unwrap().contains(&own_pid().main_thread()));
        assert!(!command(own_pid()).unwrap().is_empty());
    }

    #[test]
    fn states_without_a_program_are_told_apart() {
        let zombie = Status::parse("State:\tZ (zombie)\nPid:\t7\nUid:\t0\t0\n").unwrap();
        assert_eq!(zombie.life, Life::Zombie);
        let kernel = Status::parse("State:\tI (idle)\nNSpid:\t7\nUid:\t0\t0\nKthread:\t1\n").unwrap();
        assert_eq!(kernel.life, Life::Kernel);
        let older = Status::parse("State:\tS (sleeping)\nNSpid:\t7\nUid:\t0\t0\n").unwrap();
        assert_eq!(older.life, Life::Kernel);
        let contained = Status::parse("State:\tR\nNSpid:\t700\t7\nUid:\t5\t5\nVmSize: 9 kB\n").unwrap();
        assert_eq!((contained.life, contained.namespaces, contained.inner_id), (Life::Alive, 2, 7));
    }

    #[test]
    fn a_pause_is_a_futex_or_elsewhere() {
        let futex = format!("{} 0x7f001234 0x189 0x0 0x0 0x0 0xffffffff 0x7ffe 0x7f00\n", libc::SYS_futex);
        assert_eq!(Pause::parse(&futex), Pause::Futex(LiveAddress::in_target(0x7f00_1234)));
        assert_eq!(Pause::parse("running\n"), Pause::Running);
        assert_eq!(Pause::parse("-1 0x7ffe 0x7f00\n"), Pause::Elsewhere);
        assert_eq!(Pause::parse("0 0x3 0x7f00\n"), Pause::Elsewhere);
        let threads = threads(own_pid()).unwrap();
        assert!(threads.iter().any(|tid| thread_state(own_pid(), *tid).is_ok_and(|state| state == 'R')));
    }

    #[test]
    fn users_have_names() {
        assert_eq!(user_name(0), "root");
        assert_eq!(user_name(4_000_000_000), "uid 4000000000");
    }
}
