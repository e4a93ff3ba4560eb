//! Whether the expressions in unwind tables come to an end: the follower of stacks computes them without a limit, and one
//! that jumps back may go on for ever. Compilers and assemblers write none that do.

use gimli::{
    BaseAddresses, CallFrameInstruction, CallFrameInstructionIter, CieOrFde, CommonInformationEntry, EhFrame,
    EhFrameHdr, Encoding, EndianSlice, FrameDescriptionEntry, NativeEndian, Operation, Pointer, UnwindExpression,
    UnwindSection as _,
};
use object::read::{Object as _, ObjectSection as _};

use crate::native::object::Elf;

type Bytes<'a> = EndianSlice<'a, NativeEndian>;
type Fde<'a> = FrameDescriptionEntry<Bytes<'a>>;
type Cie<'a> = CommonInformationEntry<Bytes<'a>>;

const ADDRESS_SIZE: u8 = 8;
/// Entries that are looked at; of more, nothing is believed.
const MOST_ENTRIES: usize = 4 << 20;

/// The table of an object, as far as it is looked at.
struct Table<'a> {
    section: EhFrame<Bytes<'a>>,
    bases: BaseAddresses,
    /// Where the rules are that were looked at last, which most entries share.
    sound_rules: Option<usize>,
}

/// Whether no expression that can be reached in `.eh_frame` jumps back.
pub fn all_end(elf: &Elf<'_>) -> bool {
    let part = |name| {
        let section = elf.section_by_name(name)?;
        Some((section.address(), section.data().ok()?))
    };
    let Some((address, bytes)) = part(".eh_frame") else { return true };
    let mut bases = BaseAddresses::default().set_eh_frame(address);
    bases = part(".text").map_or(bases.clone(), |(text, _)| bases.set_text(text));
    let mut table = Table { section: EhFrame::new(bytes, NativeEndian), bases, sound_rules: None };
    table.entries_end() && part(".eh_frame_hdr").is_none_or(|(at, header)| table.listed_end(at, header))
}

impl<'a> Table<'a> {
    /// All entries in a row, up to the first that is damaged.
    fn entries_end(&mut self) -> bool {
        let (section, bases) = (self.section, self.bases.clone());
        let mut rows = section.entries(&bases);
        let mut seen = 0;
        while let Ok(Some(row)) = rows.next() {
            seen += 1;
            let ends = match row {
                CieOrFde::Cie(rules) => self.rules_end(&rules),
                CieOrFde::Fde(entry) => {
                    entry.parse(EhFrame::cie_from_offset).map_or(true, |entry| self.entry_ends(&entry))
                }
            };
            if !ends || seen > MOST_ENTRIES {
                return false;
            }
        }
        true
    }

    /// Those that the header leads to, which may be others.
    fn listed_end(&mut self, at: u64, header: &'a [u8]) -> bool {
        let (section, bases) = (self.section, self.bases.clone().set_eh_frame_hdr(at));
        let Ok(header) = EhFrameHdr::new(header, NativeEndian).parse(&bases, ADDRESS_SIZE) else { return true };
        let Some(list) = header.table() else { return true };
        let mut rows = list.iter(&bases);
        let mut seen = 0;
        while let Ok(Some((_, Pointer::Direct(entry)))) = rows.next() {
            seen += 1;
            let offset = list.pointer_to_offset(Pointer::Direct(entry));
            let entry = offset.and_then(|offset| section.fde_from_offset(&bases, offset, EhFrame::cie_from_offset));
            if seen > MOST_ENTRIES || !entry.map_or(true, |entry| self.entry_ends(&entry)) {
                return false;
            }
        }
        true
    }

    fn entry_ends(&mut self, entry: &Fde<'a>) -> bool {
        let rules = entry.cie();
        self.rules_end(rules) && self.all_end(entry.instructions(&self.section, &self.bases), rules.encoding())
    }

    fn rules_end(&mut self, rules: &Cie<'a>) -> bool {
        if self.sound_rules == Some(rules.offset()) {
            return true;
        }
        let end = self.all_end(rules.instructions(&self.section, &self.bases), rules.encoding());
        self.sound_rules = end.then_some(rules.offset());
        end
    }

    fn all_end(&self, mut instructions: CallFrameInstructionIter<'_, Bytes<'a>>, encoding: Encoding) -> bool {
        while let Ok(Some(instruction)) = instructions.next() {
            let ends = match instruction {
                CallFrameInstruction::DefCfaExpression { expression }
                | CallFrameInstruction::Expression { expression, .. }
                | CallFrameInstruction::ValExpression { expression, .. } => self.ends(expression, encoding),
                _ => true,
            };
            if !ends {
                return false;
            }
        }
        true
    }

    fn ends(&self, expression: UnwindExpression<usize>, encoding: Encoding) -> bool {
        let Ok(expression) = expression.get(&self.section) else { return true };
        let mut operations = expression.operations(encoding);
        while let Ok(Some(operation)) = operations.next() {
            if let Operation::Bra { target: ..0 } | Operation::Skip { target: ..0 } = operation {
                return false;
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::all_end;
    use crate::target::elf;

    /// A library with a function that has this directive in its unwind table.
    fn library(directive: &str) -> Option<Vec<u8>> {
        let folder = tempfile::tempdir().unwrap();
        let (source, library) = (folder.path().join("a.s"), folder.path().join("a.so"));
        let text = format!(".globl f\nf:\n.cfi_startproc\nnop\n{directive}\nret\n.cfi_endproc\n");
        std::fs::write(&source, text).unwrap();
        let mut gcc = Command::new("gcc");
        gcc.args(["-shared", "-nostdlib", "-o"]).args([&library, &source]).stderr(Stdio::null());
        if !gcc.status().is_ok_and(|status| status.success()) {
            eprintln!("skipped: no gcc");
            return None;
        }
        std::fs::read(library).ok()
    }

    /// The kinds of rules with an expression, and the jumps: `def_cfa_expression`, `expression`, `val_expression`; `skip`, `bra`.
    #[test]
    fn expressions_that_jump_back_are_noticed() {
        for (rule, jump) in [("0x0f", "0x2f"), ("0x10, 6", "0x2f"), ("0x16, 6", "0x28")] {
            for (distance, ends) in [("0xfd, 0xff", false), ("0, 0", true)] {
                let Some(bytes) = library(&format!(".cfi_escape {rule}, 3, {jump}, {distance}")) else { return };
                assert_eq!(all_end(&elf::parse(&*bytes).unwrap()), ends, "{rule} {jump} {distance}");
            }
        }
    }

    #[test]
    fn the_c_librarys_end() {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let path = maps.lines().find_map(|line| line.split_whitespace().nth(5).filter(|path| path.contains("libc")));
        let Some(path) = path else { return };
        let bytes = std::fs::read(path).unwrap();
        assert!(all_end(&elf::parse(&*bytes).unwrap()));
    }
}
