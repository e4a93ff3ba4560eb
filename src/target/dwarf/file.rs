//! The file that has an image's debug information: the image itself, or one that was split off and is found by the
//! identity that the linker gave both.

use std::path::{Path, PathBuf};

use crate::{
    model::ids::Pid,
    target::{elf::ElfImage, image::Image, regular},
};

const DEBUG_ROOT: &str = "usr/lib/debug";

/// The debug information of `image`, if it is on this machine.
#[derive(Debug)]
pub enum DebugFile<'a> {
    /// The image has it.
    Own(&'a ElfImage),
    /// A file beside it has it.
    Split(Box<ElfImage>),
}

impl<'a> DebugFile<'a> {
    /// Looks for the debug information of `image`, which `pid` maps.
    pub fn of(pid: Pid, image: &'a Image) -> Option<Self> {
        if has_debug_info(&image.elf) {
            return Some(Self::Own(&image.elf));
        }
        let identity = image.elf.build_id().ok()??;
        let link = image.elf.debug_link().ok().flatten();
        let split = candidates(pid, &image.shown_path, &identity, link.as_deref());
        let split = split.iter().find_map(|path| sound_split(path, &identity));
        split.map(|elf| Self::Split(Box::new(elf)))
    }

    /// The file.
    pub fn elf(&self) -> &ElfImage {
        match self {
            Self::Own(elf) => elf,
            Self::Split(elf) => elf,
        }
    }
}

fn has_debug_info(elf: &ElfImage) -> bool {
    matches!(elf.section_address(".debug_info"), Ok(Some(_)))
}

fn sound_split(path: &Path, identity: &[u8]) -> Option<ElfImage> {
    let elf = ElfImage::new(path, regular::open(path).ok()?).ok()?;
    let same = elf.build_id().ok()?.is_some_and(|found| found == identity);
    (same && has_debug_info(&elf)).then_some(elf)
}

/// Where a split file may lie: in the target's own file system, then in the observer's.
fn candidates(pid: Pid, image: &str, identity: &[u8], link: Option<&str>) -> Vec<PathBuf> {
    let roots = [PathBuf::from(format!("/proc/{pid}/root")), PathBuf::from("/")];
    let mut paths: Vec<PathBuf> =
        roots.iter().filter_map(|root| Some(root.join(DEBUG_ROOT).join(by_identity(identity)?))).collect();
    let folder = Path::new(image).parent().and_then(|folder| folder.strip_prefix("/").ok());
    // A name with a separator would lead out of the folders that are meant.
    if let (Some(folder), Some(link)) = (folder, link.filter(|link| !link.contains('/'))) {
        for root in &roots {
            paths.push(root.join(folder).join(link));
            paths.push(root.join(folder).join(".debug").join(link));
            paths.push(root.join(DEBUG_ROOT).join(folder).join(link));
        }
    }
    paths
}

fn by_identity(identity: &[u8]) -> Option<String> {
    let (first, rest) = identity.split_first()?;
    let rest: String = rest.iter().map(|byte| format!("{byte:02x}")).collect();
    Some(format!(".build-id/{first:02x}/{rest}.debug"))
}

#[cfg(test)]
mod tests {
    use super::{by_identity, candidates};
    use crate::model::ids::Pid;

    #[test]
    fn the_identity_names_a_file() {
        assert_eq!(by_identity(&[0x57, 0x1d, 0x0e]).as_deref(), Some(".build-id/57/1d0e.debug"));
        assert_eq!(by_identity(&[]), None);
    }

    #[test]
    fn a_link_stays_in_its_folders() {
        let pid = Pid::from_raw(7).unwrap();
        let paths = candidates(pid, "/usr/bin/python3", &[1, 2], Some("p.debug"));
        assert_eq!(paths.len(), 8);
        assert!(paths.iter().any(|path| path.to_str() == Some("/proc/7/root/usr/lib/debug/usr/bin/p.debug")));
        assert_eq!(candidates(pid, "/usr/bin/python3", &[1, 2], Some("../p.debug")).len(), 2);
    }
}
