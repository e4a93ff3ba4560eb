//! Namespaces and root directory of a process, compared with the observer's own.
//!
//! What may not be looked at counts as shared: nothing is claimed that was not seen to differ.

use std::fs;

use crate::{
    model::{
        ids::Pid,
        surroundings::{InnerNumbers, Surroundings},
    },
    target::{
        process::Status,
        runtime::threads::{Numbering, numbering},
    },
};

/// Those that change what numbers, paths, addresses and times mean.
const KINDS: [&str; 5] = ["pid", "mnt", "user", "net", "time"];

/// The surroundings of `pid`; its threads' numbers are for others to add.
pub fn of_process(pid: Pid) -> Surroundings {
    let link = |process: &str, name: &str| fs::read_link(format!("/proc/{process}/{name}")).ok();
    let differs = |name: &str| match (link("self", name), link(&pid.to_string(), name)) {
        (Some(own), Some(its)) => own != its,
        _ => false,
    };
    let root = link(&pid.to_string(), "root").filter(|root| root.as_os_str() != "/");
    let numbers = (numbering(pid) == Numbering::Foreign).then(|| InnerNumbers {
        pid: Status::of_process(pid).ok().map(|status| status.inner_id),
        tids: std::collections::BTreeMap::new(),
    });
    Surroundings {
        namespaces: KINDS.into_iter().filter(|kind| differs(&format!("ns/{kind}"))).collect(),
        root: root.map(|root| root.to_string_lossy().into_owned()),
        numbers,
    }
}

#[cfg(test)]
mod tests {
    use super::of_process;
    use crate::model::{ids::Pid, surroundings::Surroundings};

    #[test]
    fn nothing_about_this_process_is_foreign_to_it() {
        let own = Pid::from_raw(std::process::id().cast_signed()).unwrap();
        assert_eq!(of_process(own), Surroundings::default());
    }
}
