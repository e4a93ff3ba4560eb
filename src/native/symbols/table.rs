//! The symbol tables of an object.

use object::read::{Object as _, ObjectSymbol, SymbolKind};

use crate::native::object::Elf;

/// Symbols by address.
#[derive(Debug)]
pub struct Table {
    symbols: Vec<(u64, u64, String)>,
}

impl Table {
    /// The functions of `.symtab` and `.dynsym`.
    pub fn of(bytes: &[u8]) -> Self {
        let Ok(elf) = Elf::parse(bytes) else { return Self { symbols: Vec::new() } };
        let all = elf.symbols().chain(elf.dynamic_symbols());
        let named = all.filter(|symbol| symbol.kind() == SymbolKind::Text && symbol.size() > 0);
        let mut symbols: Vec<_> = named
            .filter_map(|symbol| Some((symbol.address(), symbol.size(), symbol.name().ok()?.to_owned())))
            .collect();
        symbols.sort();
        Self { symbols }
    }

    /// The name at `address`.
    pub fn name(&self, _bytes: &[u8], address: u64) -> Option<String> {
        let after = self.symbols.partition_point(|(start, _, _)| *start <= address);
        let (start, size, name) = self.symbols.get(after.checked_sub(1)?)?;
        (address - start < *size).then(|| name.clone())
    }
}
