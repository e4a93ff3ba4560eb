//! Whether this kernel suits programs on the probes of one process, and how a process's place in it numbers threads.

use std::{fs, io, os::unix::fs::MetadataExt};

use crate::{
    bpf::{error::BpfError, syscall},
    model::ids::Pid,
};

/// Before that, a link for one process missed the calls of all its threads but one.
pub const OLDEST: (u32, u32) = (6, 10);

/// An error if something before the kernel's own code answers the system call `bpf`: a filter, or a kernel without it. Kernels
/// before 5.19 ask for rights first, so that their refusal looks the same.
pub fn reaches_kernel() -> io::Result<()> {
    syscall::reaches_kernel()
}

/// The pid namespace by which a process numbers others, as programs know it: by its file. All zero for the kernel's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Home {
    /// The device, as the kernel writes it inside.
    pub device: u64,
    /// The inode; 0 for the kernel's own namespace.
    pub inode: u64,
}

/// Refuses a kernel that is too old, and says how threads are numbered here.
pub fn check() -> Result<Home, BpfError> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    if version(&release).is_none_or(|version| version < OLDEST) {
        return Err(BpfError::OldKernel(release.trim().to_owned()));
    }
    Home::own()
}

impl Home {
    /// This process's own.
    fn own() -> Result<Self, BpfError> {
        Self::of("self").map_err(BpfError::Home)
    }

    /// That by which the process numbers itself.
    pub fn of_process(pid: Pid) -> io::Result<Self> {
        Self::of(&pid.to_string())
    }

    fn of(process: &str) -> io::Result<Self> {
        /// `PROC_PID_INIT_INO`, the first pid namespace.
        const FIRST: u64 = 0xeffffffc;
        let file = fs::metadata(format!("/proc/{process}/ns/pid"))?;
        // User space writes a device's number otherwise than the kernel does.
        let [major, minor] = [libc::major(file.dev()), libc::minor(file.dev())].map(u64::from);
        Ok(if file.ino() == FIRST { Self::default() } else { Self { device: major << 20 | minor, inode: file.ino() } })
    }

    /// Whether it is the kernel's own, which sees every thread.
    pub fn is_first(self) -> bool {
        self == Self::default()
    }
}

/// Whether this process lives in another pid namespace than the kernel's own.
pub fn in_pid_namespace() -> bool {
    Home::own().is_ok_and(|home| !home.is_first())
}

/// The two numbers that a release begins with.
pub fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
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
