//! From registers and a copy of the stack to the addresses of all calls that are under way, by the unwind tables of the
//! mapped objects.
//!
//! Where one stack cannot be followed, another one can: that a step failed is not remembered as the way to take it.

use std::{
    fmt,
    ops::{Deref, Range},
};

use framehop::{
    Error, ExplicitModuleSectionInfo, FrameAddress, Module, Unwinder as _,
    x86_64::{CacheX86_64, UnwindRegsX86_64, UnwinderX86_64},
};
use object::{
    elf::PT_LOAD,
    read::{Object as _, ObjectSection as _, elf::ProgramHeader as _},
};
use rustc_hash::FxHashSet;

use crate::{
    model::machine::{MachineState, Registers},
    native::{
        bytes::SharedBytes,
        call_site::CallSite,
        expressions,
        merge::Extent,
        object::{Elf, Object},
    },
    target::elf,
};

/// Calls followed of one stack.
const DEEPEST: usize = 512;
/// How far beyond the innermost byte of the stack an unknown frame pointer is looked for.
const SEARCHED: u64 = 4 << 10;
const WORD: u64 = 8;
/// The first address that no process has on x86-64 with four levels of page tables.
const END_OF_ADDRESSES: u64 = 1 << 47;
/// Places for a frame pointer from which one stack is followed to its end; a right one is among the first few.
const MOST_TRIED: usize = 16;
/// Addresses remembered at which a step has failed.
const MOST_FAILED: usize = 1 << 16;
/// Stands for a frame pointer that is not known: whatever needs it must fail, where 0 would pass for the end of the stack.
const NO_FRAME: u64 = 1;

/// Follows stacks of one process.
pub struct Unwinder {
    modules: UnwinderX86_64<Part>,
    /// How to go on at each address.
    cache: CacheX86_64,
    /// Addresses at which a step has failed. The cache has a guess for them since, which is of no use to other stacks.
    failed: FxHashSet<u64>,
    /// How to go on at those, as long as no step fails again.
    cache_of_failed: CacheX86_64,
}

/// What the call before a return address, given second, is, if it can have led to the function at the address given first.
pub type Calls<'a> = &'a dyn Fn(u64, u64) -> Option<CallSite>;

/// One section of an object.
struct Part {
    bytes: SharedBytes,
    range: Range<usize>,
}

impl Deref for Part {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.bytes.get(self.range.clone()).unwrap_or_default()
    }
}

impl Default for Part {
    fn default() -> Self {
        Self { bytes: SharedBytes::of_memory(Vec::new()), range: 0..0 }
    }
}

impl Unwinder {
    /// Knows no object yet.
    pub fn new() -> Self {
        Self {
            modules: UnwinderX86_64::new(),
            cache: CacheX86_64::new(),
            failed: FxHashSet::default(),
            cache_of_failed: CacheX86_64::new(),
        }
    }

    /// Learns the unwind tables of an object; without effect for one that cannot be parsed, or has expressions without end.
    pub fn add(&mut self, object: &Object) {
        if let Some(module) = module_of(object) {
            self.modules.add_module(module);
            self.failed.clear();
        }
    }

    /// Forgets an object's.
    pub fn remove(&mut self, object: &Object) {
        if let Some(start) = object.ranges().iter().map(|range| range.start).min() {
            self.modules.remove_module(start);
            self.failed.clear();
        }
    }

    /// The addresses in code of the calls under way, innermost first: where the next instruction is, and then within the
    /// instruction of each call.
    ///
    /// `calls` tells of a callee's address and a return address what the call is, if there is one that can lead there.
    pub fn follow(&mut self, state: &MachineState, into: &mut Vec<u64>, calls: Calls<'_>) -> Extent {
        into.clear();
        let Registers { instruction, stack, frame } = state.registers;
        let frame = if frame == 0 { NO_FRAME } else { frame };
        let mut registers = UnwindRegsX86_64::new(instruction, stack, frame);
        let mut address = FrameAddress::from_instruction_pointer(instruction);
        while into.len() < DEEPEST {
            let at = address.address_for_lookup();
            into.push(at);
            let before = registers;
            let mut caller = self.step(address, &mut registers, state);
            if caller.is_err() {
                if self.failed.len() >= MOST_FAILED {
                    self.failed.clear();
                }
                self.failed.insert(at);
                self.cache_of_failed = CacheX86_64::new();
            }
            if before.bp() == NO_FRAME
                && caller.is_err()
                && let Some(found) = self.try_frames((address, before), state, calls)
            {
                registers = found;
                caller = Ok(Some(registers.ip()));
            }
            address = match caller.map(|caller| caller.map(FrameAddress::from_return_address)) {
                Ok(Some(Some(caller))) => caller,
                Ok(None) => return Extent::Whole,
                Ok(Some(None)) | Err(_) => return Extent::Cut,
            };
        }
        Extent::Cut
    }

    /// The registers of the caller, where the frame pointer is not known but must point into the stack: the first place that
    /// leads to a call of this very function, or to any call from which the stack can be followed to its end.
    fn try_frames(
        &self,
        (address, registers): (FrameAddress, UnwindRegsX86_64),
        state: &MachineState,
        calls: Calls<'_>,
    ) -> Option<UnwindRegsX86_64> {
        let mut read = |at| state.word(at).ok_or(());
        let mut cache = CacheX86_64::new();
        let mut tried = 0;
        let lowest = registers.sp().next_multiple_of(WORD);
        (lowest..lowest.saturating_add(SEARCHED)).step_by(WORD as usize).find_map(|frame| {
            let mut caller = registers;
            caller.set_bp(frame);
            let step = self.modules.unwind_frame(address, &mut caller, &mut cache, &mut read);
            if step.is_err() {
                cache = CacheX86_64::new();
            }
            let is_right = match calls(address.address_for_lookup(), step.ok()??)? {
                CallSite::Direct(_) => true,
                CallSite::Indirect => {
                    tried += 1;
                    tried <= MOST_TRIED && self.leads_to_the_end(caller, state)
                }
            };
            is_right.then_some(caller)
        })
    }

    fn leads_to_the_end(&self, mut registers: UnwindRegsX86_64, state: &MachineState) -> bool {
        let mut cache = CacheX86_64::new();
        let mut read = |at| state.word(at).ok_or(());
        for _ in 0..DEEPEST {
            let Some(address) = FrameAddress::from_return_address(registers.ip()) else { return false };
            match self.modules.unwind_frame(address, &mut registers, &mut cache, &mut read) {
                Ok(Some(_)) => {}
                Ok(None) => return true,
                Err(_) => return false,
            }
        }
        false
    }

    /// The return address of the call at `address`, and the registers behind it; `None` where the stack ends.
    fn step(
        &mut self,
        address: FrameAddress,
        registers: &mut UnwindRegsX86_64,
        state: &MachineState,
    ) -> Result<Option<u64>, Error> {
        let has_failed = self.failed.contains(&address.address_for_lookup());
        let cache = if has_failed { &mut self.cache_of_failed } else { &mut self.cache };
        self.modules.unwind_frame(address, registers, cache, &mut |at| state.word(at).ok_or(()))
    }
}

impl Default for Unwinder {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Unwinder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unwinder").field("modules", &self.modules.max_known_code_address()).finish_non_exhaustive()
    }
}

fn module_of(object: &Object) -> Option<Module<Part>> {
    let elf = elf::parse(object.bytes()).ok().filter(expressions::all_end)?;
    let start = object.ranges().iter().map(|range| range.start).min()?;
    let end = object.ranges().iter().map(|range| range.end).max()?;
    let section = |name: &str| {
        let section = elf.section_by_name(name)?;
        let stated = section.address()..section.address().checked_add(section.size())?;
        let (offset, length) = section.file_range()?;
        let range = usize::try_from(offset).ok()?..usize::try_from(offset.checked_add(length)?).ok()?;
        Some((stated, Part { bytes: object.shared_bytes(), range }))
    };
    let split = |found: Option<(Range<u64>, Part)>| found.unzip();
    let (text_svma, text) = split(section(".text"));
    let (eh_frame_svma, eh_frame) = split(section(".eh_frame"));
    let (eh_frame_hdr_svma, eh_frame_hdr) = split(section(".eh_frame_hdr"));
    // Addresses are looked up relative to this one, by sums that must not overflow.
    let base = Some(stated_base(&elf)).filter(|base| *base < END_OF_ADDRESSES)?;
    let sections = ExplicitModuleSectionInfo {
        base_svma: base,
        text_svma,
        text,
        got_svma: section(".got").map(|(stated, _)| stated),
        eh_frame_svma,
        eh_frame,
        eh_frame_hdr_svma,
        eh_frame_hdr,
        ..ExplicitModuleSectionInfo::default()
    };
    Some(Module::new(object.path().to_owned(), start..end, base.wrapping_add(object.bias()), sections))
}

/// Where the file's first byte is meant to be; not 0 in programs that are linked to a fixed place.
fn stated_base(elf: &Elf<'_>) -> u64 {
    let endian = elf.endian();
    let mut loaded = elf.elf_program_headers().iter().filter(|header| header.p_type(endian) == PT_LOAD);
    loaded.find(|header| header.p_offset(endian) == 0).map_or(0, |header| header.p_vaddr(endian))
}
