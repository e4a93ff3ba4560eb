//! Where fields lie in the kernel's own structures, from the description that the kernel gives of itself (BTF).
//!
//! Format: Documentation/bpf/btf.rst of the kernel. Safe against any bytes; what is malformed is not found.

use std::{fs, path::Path};

/// Where the running kernel shows its description.
const OWN: &str = "/sys/kernel/btf/vmlinux";
const MAGIC: u16 = 0xeb9f;
/// Bytes in front of what depends on a type's kind.
const TYPE: usize = 12;
const STRUCT: u32 = 4;
const UNION: u32 = 5;
/// Bytes of a member of a structure: name, type, offset.
const MEMBER: usize = 12;

/// The kernel's description of its types.
#[derive(Debug)]
pub struct KernelTypes(Vec<u8>);

impl KernelTypes {
    /// Those of the running kernel; `None` if it does not show them.
    pub fn own() -> Option<Self> {
        fs::read(OWN).ok().map(Self)
    }

    /// Whether the running kernel shows them.
    pub fn are_shown() -> bool {
        Path::new(OWN).exists()
    }

    /// Bytes from the start of the structure to the member, both by name; `None` for one that is not there or no whole bytes away.
    pub fn offset(&self, structure: &str, member: &str) -> Option<u64> {
        let bytes = &self.0[..];
        let head = usize::try_from(u32_at(bytes, 4)?).ok()?;
        let part = |at: usize| {
            let (start, length) = (u32_at(bytes, at)?, u32_at(bytes, at + 4)?);
            let start = head.checked_add(usize::try_from(start).ok()?)?;
            bytes.get(start..)?.get(..usize::try_from(length).ok()?)
        };
        let (mut types, names) = (part(8)?, part(16)?);
        let is_ours = u16::from_ne_bytes(*bytes.first_chunk()?) == MAGIC;
        while is_ours && !types.is_empty() {
            let (name, info) = (u32_at(types, 0)?, u32_at(types, 4)?);
            let (kind, count) = (info >> 24 & 0x1f, usize::try_from(info & 0xffff).ok()?);
            let rest = types.get(TYPE..)?;
            let (own, later) = rest.split_at_checked(length_of(kind, count)?)?;
            if kind == STRUCT && is_named(names, name, structure) {
                return member_of((own, info >> 31 != 0), names, member);
            }
            types = later;
        }
        None
    }
}

/// Bytes behind the head of a type; `None` for a kind that is not known.
fn length_of(kind: u32, count: usize) -> Option<usize> {
    Some(match kind {
        // Integer, variable, tag of a declaration.
        1 | 14 | 17 => 4,
        // Pointer, forward declaration, other name, qualifiers, function, float, tag of a type.
        2 | 7..=12 | 16 | 18 => 0,
        // Array.
        3 => 12,
        // Enumeration, parameters.
        6 | 13 => count * 8,
        // Variables of a section, enumeration of long numbers.
        STRUCT | UNION | 15 | 19 => count * MEMBER,
        _ => return None,
    })
}

/// `packed`: the highest byte of an offset is the length of a bit field.
fn member_of((members, packed): (&[u8], bool), names: &[u8], wanted: &str) -> Option<u64> {
    let found =
        members.chunks_exact(MEMBER).find(|member| u32_at(member, 0).is_some_and(|at| is_named(names, at, wanted)));
    let bits = u32_at(found?, 8)?;
    let bits = if packed { bits & 0x00ff_ffff } else { bits };
    bits.is_multiple_of(8).then_some(u64::from(bits / 8))
}

fn is_named(names: &[u8], at: u32, wanted: &str) -> bool {
    let rest = usize::try_from(at).ok().and_then(|at| names.get(at..));
    rest.and_then(|rest| rest.strip_prefix(wanted.as_bytes())).is_some_and(|rest| rest.first() == Some(&0))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().copied().map(u32::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, proptest};

    use super::KernelTypes;

    fn description(types: &[u32], names: &[u8]) -> KernelTypes {
        let length = |bytes: usize| u32::try_from(bytes).unwrap();
        let mut bytes = 0xeb9f_u16.to_ne_bytes().to_vec();
        bytes.extend([1, 0]);
        let parts = [24, 0, length(types.len() * 4), length(types.len() * 4), length(names.len())];
        bytes.extend(parts.iter().chain(types).flat_map(|word| word.to_ne_bytes()));
        bytes.extend(names);
        KernelTypes(bytes)
    }

    #[test]
    fn members_are_found_by_name_and_whole_bytes() {
        // An integer, then a structure with two members and one with a bit field.
        let types = [
            1,
            1 << 24,
            4,
            32,
            5,
            4 << 24 | 2,
            16,
            10,
            1,
            32,
            14,
            1,
            64,
            20,
            1 << 31 | 4 << 24 | 1,
            4,
            10,
            1,
            3 << 24 | 3,
        ];
        let names = b"\0int\0task\0pid\0tgid\0\0flags\0";
        let kernel = description(&types, names);
        assert_eq!((kernel.offset("task", "pid"), kernel.offset("task", "tgid")), (Some(4), Some(8)));
        assert_eq!((kernel.offset("task", "gid"), kernel.offset("tas", "pid")), (None, None));
        // Three bits from the start.
        assert_eq!(kernel.offset("flags", "pid"), None);
    }

    #[test]
    fn this_kernel_describes_its_threads() {
        // One that shows nothing has nothing to be compared.
        let Some(kernel) = KernelTypes::own() else { return };
        let (pid, tgid) = (kernel.offset("task_struct", "pid").unwrap(), kernel.offset("task_struct", "tgid").unwrap());
        assert_eq!(tgid, pid + 4);
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut framed = description(&[], &[]).0;
            framed.truncate(4);
            framed.extend(bytes);
            KernelTypes(framed).offset("a", "b");
        }
    }
}
