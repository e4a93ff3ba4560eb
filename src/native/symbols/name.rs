//! From a symbol's name to what people call the function.
//!
//! What the compiler or the linker added is taken off: versions, and the suffixes of copies that optimizers make. C++
//! names come without parameters; template arguments are left out only of names that would be longer than
//! [`LONGEST_WITH_ARGUMENTS`]. Demangling may multiply the length of a name without end, so it stops at [`LONGEST`].

use std::fmt::{self, Write};

use cpp_demangle::{BorrowedSymbol, DemangleNodeType, DemangleOptions, DemangleWrite, ParseOptions};

/// Bytes of a name that are shown at most.
pub const LONGEST: usize = 2048;

/// Bytes past which template arguments are left out.
pub const LONGEST_WITH_ARGUMENTS: usize = 200;

/// Bytes of a mangled name past which it is not demangled.
pub const LONGEST_MANGLED: usize = 16 << 10;

/// Suffixes of copies and parts that optimizers make of a function.
const COPIES: &[&str] =
    &["constprop", "isra", "part", "cold", "lto_priv", "llvm", "localalias", "clone", "unlikely", "warm", "hot"];

/// Whether the name is one of C++ or Rust.
pub fn is_mangled(name: &[u8]) -> bool {
    name.starts_with(b"_Z") || name.starts_with(b"_R")
}

/// What people call the function with this symbol; `None` for an empty name.
pub fn shown(symbol: &[u8]) -> Option<String> {
    let lossy = String::from_utf8_lossy(&symbol[..symbol.len().min(LONGEST_MANGLED)]);
    let symbol = without_copies(without_version(&lossy));
    let name = demangled(symbol).unwrap_or_else(|| symbol.to_owned());
    plain(name.as_bytes())
}

/// A name as it is, but for characters that would break a line or a terminal; `None` for an empty one.
pub fn plain(name: &[u8]) -> Option<String> {
    let lossy = String::from_utf8_lossy(&name[..name.len().min(LONGEST)]);
    let clean = |c: char| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c };
    let mut text: String = lossy.chars().map(clean).collect();
    let end = (0..=text.len().min(LONGEST)).rev().find(|at| text.is_char_boundary(*at)).unwrap_or_default();
    text.truncate(end);
    (!text.is_empty()).then_some(text)
}

/// `memcpy` of `memcpy@@GLIBC_2.14` and of `__GI_memcpy`, as libc calls it within itself.
fn without_version(name: &str) -> &str {
    let plain = name.split_once('@').map_or(name, |(plain, _)| plain);
    plain.strip_prefix("__GI_").unwrap_or(plain)
}

/// `take_gil` of `take_gil.constprop.0.cold`.
fn without_copies(name: &str) -> &str {
    let mut plain = name;
    while let Some((rest, suffix)) = plain.rsplit_once('.') {
        let number = !suffix.is_empty() && suffix.bytes().all(|byte| byte.is_ascii_digit());
        if rest.is_empty() || !(number || COPIES.contains(&suffix)) {
            break;
        }
        plain = rest;
    }
    plain
}

fn demangled(name: &str) -> Option<String> {
    if name.starts_with("_R") || is_old_rust(name) {
        let mut limited = Limited::default();
        // An error says only that the limit was met; what fits is kept.
        let _ = write!(limited, "{:#}", rustc_demangle::try_demangle(name).ok()?);
        return Some(limited.text);
    }
    if !name.starts_with("_Z") {
        return None;
    }
    let full = of_cpp(name, Arguments::Shown)?;
    let shown = if full.len() > LONGEST_WITH_ARGUMENTS { of_cpp(name, Arguments::Hidden)? } else { full };
    Some(without_qualifiers(&shown).to_owned())
}

/// Without what a method says of its object: a part of the parameters that is left when they go.
fn without_qualifiers(name: &str) -> &str {
    const QUALIFIERS: &[&str] = &[" const", " volatile", " &&", " &"];
    let mut plain = name;
    while let Some(rest) = QUALIFIERS.iter().find_map(|word| plain.strip_suffix(word)) {
        plain = rest;
    }
    plain
}

/// Rust's names of old look like C++, but for a hash at the end.
fn is_old_rust(name: &str) -> bool {
    let hash = name.strip_suffix('E').and_then(|rest| rest.get(rest.len().checked_sub(19)?..));
    let digits = hash.and_then(|hash| hash.strip_prefix("17h"));
    name.starts_with("_ZN") && digits.is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// What becomes of template arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Arguments {
    #[default]
    Shown,
    Hidden,
}

fn of_cpp(name: &str, arguments: Arguments) -> Option<String> {
    let depth = ParseOptions::default().recursion_limit(96);
    let symbol = BorrowedSymbol::new_with_options(name.as_bytes(), &depth).ok()?;
    let options = DemangleOptions::new().no_params().no_return_type().hide_expression_literal_types();
    let mut text = CppText { arguments, ..CppText::default() };
    match symbol.structured_demangle(&mut text, &options.recursion_limit(128)) {
        Err(_) if !text.shown.full => None,
        _ => Some(text.shown.text),
    }
}

/// Text of a limited length, and how much was left out of it.
#[derive(Default)]
struct Limited {
    text: String,
    full: bool,
}

impl Write for Limited {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = LONGEST - self.text.len();
        self.full |= text.len() > room;
        let end = (0..=room.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or_default();
        self.text.push_str(&text[..end]);
        if self.full { Err(fmt::Error) } else { Ok(()) }
    }
}

/// A C++ name as it is put together.
#[derive(Default)]
struct CppText {
    shown: Limited,
    arguments: Arguments,
    /// The parts that are being written; `true` for a list of template arguments.
    open: Vec<bool>,
    /// Bytes left out, which take time, too.
    hidden: usize,
}

impl DemangleWrite for CppText {
    fn push_demangle_node(&mut self, node: DemangleNodeType) {
        let list = node == DemangleNodeType::TemplateArgs;
        if list && self.arguments == Arguments::Hidden && !self.open.contains(&true) {
            // The limit is met again with the next part.
            let _ = self.shown.write_str("…");
        }
        self.open.push(list);
    }

    fn write_string(&mut self, text: &str) -> fmt::Result {
        if self.arguments == Arguments::Shown || !self.open.contains(&true) {
            return self.shown.write_str(text);
        }
        self.hidden += text.len();
        if self.hidden > 100 * LONGEST { Err(fmt::Error) } else { Ok(()) }
    }

    fn pop_demangle_node(&mut self) {
        self.open.pop();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop, proptest};

    use super::{LONGEST, LONGEST_WITH_ARGUMENTS, shown};

    fn check(pairs: &[(&str, &str)]) {
        for (symbol, expected) in pairs {
            assert_eq!(shown(symbol.as_bytes()).as_deref(), Some(*expected), "{symbol}");
        }
    }

    #[test]
    fn additions_of_compiler_and_linker_are_taken_off() {
        check(&[
            ("take_gil.constprop.0", "take_gil"),
            ("take_gil.constprop.0.cold", "take_gil"),
            ("parse.part.0.isra.12", "parse"),
            ("free_list.lto_priv.3", "free_list"),
            ("memcpy@@GLIBC_2.14", "memcpy"),
            ("__GI___libc_read", "__libc_read"),
            ("inner.0", "inner"),
            (".text_label", ".text_label"),
            ("v8.run", "v8.run"),
            ("_start", "_start"),
        ]);
    }

    #[test]
    fn mangled_names_are_read() {
        check(&[
            ("_ZN7library4work5innerEl", "library::work::inner"),
            ("_ZN4core3fmt5Write9write_fmt17h0123456789abcdefE", "core::fmt::Write::write_fmt"),
            ("_ZN4core3fmt5Write9write_fmt17h0123456789abcdefE.llvm.123", "core::fmt::Write::write_fmt"),
            ("_RNvNtCs1234_6kitbag3foo3bar", "kitbag::foo::bar"),
            ("_ZSt4sortIPiEvT_S1_.cold", "std::sort<int*>"),
            ("_ZNSt6vectorIiSaIiEE9push_backERKi", "std::vector<int, std::allocator<int> >::push_back"),
            ("_ZZN6keeper4Work3runEvENKUllE_clEl", "keeper::Work::run()::{lambda(long)#1}::operator()"),
            ("_Znot mangled", "_Znot mangled"),
        ]);
    }

    #[test]
    fn only_long_names_lose_their_template_arguments() {
        let argument = "3std".to_owned() + &"20abcdefghijklmnopqrst".repeat(10);
        let symbol = format!("_ZN3boxIN{argument}EE4openEv");
        assert!(symbol.len() > LONGEST_WITH_ARGUMENTS);
        assert_eq!(shown(symbol.as_bytes()).as_deref(), Some("box<…>::open"));
    }

    #[test]
    fn bad_bytes_become_harmless() {
        assert_eq!(shown(b"a\xff\nb").as_deref(), Some("a\u{fffd}\u{fffd}b"));
        assert_eq!(shown(b""), None);
        assert_eq!(shown(&[b'x'; 1 << 20]).map(|name| name.len()), Some(LONGEST));
    }

    proptest! {
        #[test]
        fn any_bytes_have_a_name(start in prop::sample::select(vec!["_Z", "_ZN", "_R", "_RN", ""]), rest: Vec<u8>) {
            let name = shown(&[start.as_bytes(), &rest].concat());
            assert!(name.is_none_or(|name| !name.is_empty() && name.len() <= LONGEST));
        }

        #[test]
        fn damaged_names_are_survived(at in any::<prop::sample::Index>(), byte: u8) {
            let mut symbol = b"_ZNSt10_HashtableISsSt4pairIKSsiESaIS2_ENSt8__detail10_Select1stESt8equal_toISsEE5eraseERKSs".to_vec();
            let at = at.index(symbol.len());
            symbol[at] = byte;
            assert!(shown(&symbol).is_none_or(|name| name.len() <= LONGEST));
        }
    }
}
