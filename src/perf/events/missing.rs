//! What the kernel's answer means when an event cannot be counted.

use std::{fs, io};

/// Why there is no such counter, in words. `error` is the answer of `perf_event_open`.
pub fn missing(error: &io::Error) -> String {
    explained(error, &Place::here())
}

/// What an answer depends on.
struct Place {
    virtual_machine: bool,
    /// `kernel.perf_event_paranoid`.
    paranoid: Option<i32>,
}

impl Place {
    fn here() -> Self {
        let flags = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let virtual_machine = flags.lines().any(|line| line.starts_with("flags") && line.contains(" hypervisor"));
        let level = fs::read_to_string("/proc/sys/kernel/perf_event_paranoid");
        Self { virtual_machine, paranoid: level.ok().and_then(|level| level.trim().parse().ok()) }
    }
}

/// A processor without the event answers ENOENT, EOPNOTSUPP or ENODEV, as its driver has it.
fn explained(error: &io::Error, place: &Place) -> String {
    match error.raw_os_error() {
        Some(libc::ENOENT | libc::EOPNOTSUPP | libc::ENODEV) if place.virtual_machine => {
            "the virtual machine has none (its host would have to give it a PMU)".to_owned()
        }
        Some(libc::ENOENT | libc::EOPNOTSUPP | libc::ENODEV) => {
            "this processor, or this kernel, does not offer it".to_owned()
        }
        Some(libc::EACCES | libc::EPERM) => match place.paranoid {
            Some(level @ 3..) => format!("kernel.perf_event_paranoid is {level}"),
            Some(level) => format!("this user may not count it while kernel.perf_event_paranoid is {level}"),
            None => format!("refused: {error}"),
        },
        Some(libc::EINVAL) => "the processor or the kernel does not take it as it was given".to_owned(),
        Some(libc::EBUSY) => "somebody else has taken it for himself".to_owned(),
        Some(libc::EMFILE | libc::ENFILE) => "too many files are open".to_owned(),
        Some(libc::ENOSPC) => "all counters that could count it are taken".to_owned(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::{Place, explained};

    #[test]
    fn each_answer_means_what_it_means() {
        let place = |virtual_machine, paranoid| Place { virtual_machine, paranoid };
        for (number, place, words) in [
            (libc::ENOENT, place(true, None), "virtual machine"),
            (libc::ENOENT, place(false, None), "does not offer"),
            (libc::EOPNOTSUPP, place(true, None), "virtual machine"),
            (libc::EOPNOTSUPP, place(false, None), "does not offer"),
            (libc::ENODEV, place(false, None), "does not offer"),
            (libc::EACCES, place(true, Some(3)), "kernel.perf_event_paranoid is 3"),
            (libc::EACCES, place(false, Some(2)), "may not count"),
            (libc::EPERM, place(false, None), "refused"),
            (libc::EINVAL, place(true, Some(2)), "as it was given"),
            (libc::EBUSY, place(false, None), "somebody else"),
        ] {
            let told = explained(&io::Error::from_raw_os_error(number), &place);
            assert!(told.contains(words), "{number}: {told}");
        }
    }
}
