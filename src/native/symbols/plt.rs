//! Stubs of the procedure linkage table, each named after the function to which it jumps.
//!
//! A stub of x86-64 jumps through a word of memory, and a relocation says whose address the loader writes there: that holds
//! for every form of the table (lazy, bound, with `endbr64`), so the stub's own instruction is read. Those of other
//! architectures stay without names.

use object::{
    SectionKind,
    elf::{EM_X86_64, SHT_RELA},
    read::{
        Object as _, ObjectSection,
        elf::{FileHeader, Rela, SectionHeader},
    },
};
use rustc_hash::FxHashMap;

use crate::native::object::Elf;

/// Stubs of an object, and relocations of one of its tables, that are looked at.
const MOST_STUBS: usize = 1 << 20;

/// One stub.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stub {
    /// Its first byte.
    pub start: u64,
    /// Its length in bytes.
    pub size: u64,
    /// The function's index in `.dynsym`.
    pub symbol: u32,
}

/// All stubs of an object.
pub fn stubs(elf: &Elf<'_>) -> Vec<Stub> {
    if elf.elf_header().e_machine(elf.endian()) != EM_X86_64 {
        return Vec::new();
    }
    let tables = elf.sections().filter(|section| section.kind() == SectionKind::Text);
    let tables: Vec<_> = tables.filter(|section| section.name().is_ok_and(|name| name.starts_with(".plt"))).collect();
    if tables.is_empty() {
        return Vec::new();
    }
    let slots = slots(elf);
    let mut stubs = Vec::new();
    for table in tables {
        let size = if table.elf_section_header().sh_entsize(elf.endian()) == 8 { 8 } else { 16 };
        let code = table.data().unwrap_or_default();
        let room = MOST_STUBS.saturating_sub(stubs.len());
        for (offset, stub) in (0..).step_by(size).zip(code.chunks(size)).take(room) {
            let Some(start) = table.address().checked_add(offset) else { break };
            let symbol = jump_slot(start, stub).and_then(|slot| slots.get(&slot).copied());
            stubs.extend(symbol.map(|symbol| Stub { start, size: stub.len() as u64, symbol }));
        }
    }
    stubs
}

/// The dynamic symbol whose address the loader writes into each word.
fn slots(elf: &Elf<'_>) -> FxHashMap<u64, u32> {
    let (endian, bytes) = (elf.endian(), elf.data());
    let sections = elf.elf_section_table();
    let dynamic = elf.elf_dynamic_symbol_table().section();
    let mut slots = FxHashMap::default();
    for section in sections.iter().filter(|section| section.sh_type(endian) == SHT_RELA) {
        let Ok(Some((relocations, symbols))) = section.rela(endian, bytes) else { continue };
        if symbols != dynamic {
            continue;
        }
        let room = MOST_STUBS.saturating_sub(slots.len());
        let named = relocations.iter().take(room).filter(|relocation| relocation.r_sym(endian, false) != 0);
        slots.extend(named.map(|relocation| (relocation.r_offset(endian), relocation.r_sym(endian, false))));
    }
    slots
}

/// The word through which the stub at `start` jumps: `jmp *displacement(%rip)`.
fn jump_slot(start: u64, stub: &[u8]) -> Option<u64> {
    let at = stub.windows(2).position(|bytes| bytes == [0xff, 0x25])?;
    let displacement = i32::from_le_bytes(*stub.get(at + 2..)?.first_chunk()?);
    Some(start.wrapping_add(at as u64 + 6).wrapping_add_signed(displacement.into()))
}

#[cfg(test)]
mod tests {
    use super::jump_slot;

    #[test]
    fn the_slot_is_found_in_every_form_of_a_stub() {
        let lazy = [0xff, 0x25, 0xe2, 0x2f, 0, 0, 0x68, 0, 0, 0, 0, 0xe9, 0xe0, 0xff, 0xff, 0xff];
        assert_eq!(jump_slot(0x1030, &lazy), Some(0x4018));
        let marked = [0xf3, 0x0f, 0x1e, 0xfa, 0xff, 0x25, 0xb6, 0x2f, 0, 0, 0x66, 0x0f, 0x1f, 0x44, 0, 0];
        assert_eq!(jump_slot(0x1050, &marked), Some(0x4010));
        assert_eq!(jump_slot(0x1050, &marked[..8]), None);
        assert_eq!(jump_slot(0x1050, &[0x90; 16]), None);
    }
}
