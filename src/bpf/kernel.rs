//! Whether this kernel, and this process's place in it, suit programs on the probes of one process.

use std::{fs, io};

use crate::bpf::{error::BpfError, syscall};

/// Before that, a link for one process missed the calls of all its threads but one.
pub const OLDEST: (u32, u32) = (6, 10);

/// An error if something before the kernel's own code answers the system call `bpf`: a filter, or a kernel without it. Kernels
/// before 5.19 ask for rights first, so that their refusal looks the same.
pub fn reaches_kernel() -> io::Result<()> {
    syscall::reaches_kernel()
}

/// Refuses a kernel that is too old, and a pid namespace whose thread ids are not the kernel's own.
pub fn check() -> Result<(), BpfError> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    if version(&release).is_none_or(|version| version < OLDEST) {
        return Err(BpfError::OldKernel(release.trim().to_owned()));
    }
    if in_pid_namespace() { Err(BpfError::OtherThreadIds) } else { Ok(()) }
}

/// Whether this process lives in a pid namespace of its own, so that programs see other ids than we do.
pub fn in_pid_namespace() -> bool {
    is_nested(&fs::read_to_string("/proc/self/status").unwrap_or_default())
}

/// The two numbers that a release begins with.
pub fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

/// `NSpid` lists a process's id in its namespace and in those nested in it. Its own, seen from inside, is the only one
/// there is; that the namespace is not the first one shows by its number.
fn is_nested(status: &str) -> bool {
    /// `PROC_PID_INIT_INO`, the first pid namespace.
    const FIRST: &str = "pid:[4026531836]";
    let ids = status.lines().find_map(|line| line.strip_prefix("NSpid:")).map(|ids| ids.split_whitespace().count());
    let own = fs::read_link("/proc/self/ns/pid");
    ids.is_some_and(|ids| ids > 1) || own.is_ok_and(|own| own.as_os_str() != FIRST)
}

#[cfg(test)]
mod tests {
    use super::{OLDEST, version};

    #[test]
    fn releases_are_compared_by_number() {
        assert_eq!(version("6.18.44-fc-v657\n"), Some((6, 18)));
        assert_eq!(version("6.9.0"), Some((6, 9)));
        assert!(version("6.9.0") < Some(OLDEST) && version("7.0-rc1") > Some(OLDEST));
        assert_eq!(version("unknown"), None);
    }
}
