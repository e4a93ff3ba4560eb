//! Whether `/proc` numbers processes as this process and its system calls do.
//!
//! In a pid namespace that was entered without a `/proc` of its own, every number in it means another process. Nothing is
//! observed there: a wrong thread watched is worse than none.

use std::{fs, io};

/// Why `/proc` is of no use.
#[derive(Debug, thiserror::Error)]
pub enum ProcMountError {
    /// There is none.
    #[error("/proc is not mounted here")]
    Absent(#[source] io::Error),
    /// It shows the processes of another pid namespace.
    #[error("/proc shows the processes of another pid namespace than gilscope's own")]
    OfOthers,
}

/// Compares the number that `/proc` has for this process with the kernel's answer.
pub fn check() -> Result<(), ProcMountError> {
    // In a namespace that this process is not in, there is no such link.
    let shown = fs::read_link("/proc/self");
    match shown {
        Ok(shown) if shown.to_str() == Some(std::process::id().to_string().as_str()) => Ok(()),
        Err(_) if fs::exists("/proc/version").is_ok_and(|exists| exists) => Err(ProcMountError::OfOthers),
        Err(source) => Err(ProcMountError::Absent(source)),
        Ok(_) => Err(ProcMountError::OfOthers),
    }
}

/// Whether this user is root, but of a user namespace: root's rights over the kernel are not among its own.
pub fn is_root_of_user_namespace() -> bool {
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    is_partial_root(&map, &status)
}

/// Outside, all user ids are mapped to themselves in one line.
fn is_partial_root(map: &str, status: &str) -> bool {
    let whole: Vec<&str> = map.split_whitespace().collect();
    let effective = status.lines().find_map(|line| line.strip_prefix("Uid:")?.split_whitespace().nth(1));
    whole != ["0", "0", "4294967295"] && effective == Some("0")
}

#[cfg(test)]
mod tests {
    use super::{check, is_partial_root};

    #[test]
    fn tests_run_where_proc_is_their_own() {
        check().unwrap();
    }

    #[test]
    fn root_of_a_namespace_is_told_from_root() {
        assert!(!is_partial_root("         0          0 4294967295\n", "Uid:\t0\t0\t0\t0\n"));
        assert!(is_partial_root("0 1000 1\n", "Name:\tx\nUid:\t0\t0\t0\t0\n"));
        assert!(!is_partial_root("1000 1000 1\n", "Uid:\t1000\t1000\t1000\t1000\n"));
    }
}
