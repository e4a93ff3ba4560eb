//! Where in its bytecode a frame is.

use crate::{
    model::{address::LiveAddress, recorded::RecordedFrame},
    target::{
        layout::{Instruction, PythonLayout},
        memory::{Memory, MemoryError},
    },
};

/// The position of a frame in bytes from the start of the bytecode; negative before it has begun.
pub fn byte_offset(memory: &dyn Memory, layout: &PythonLayout, frame: &RecordedFrame) -> Result<i64, MemoryError> {
    match layout.frame.instruction {
        Instruction::Index { scale, .. } => {
            let index = u32::try_from(frame.instruction).map_or(-1, u32::cast_signed);
            Ok(i64::from(index).saturating_mul(i64::try_from(scale).unwrap_or(1)))
        }
        Instruction::Pointer { .. } => {
            let start = bytecode_start(memory, layout, frame)?;
            Ok(frame.instruction.wrapping_sub(start.raw()).cast_signed())
        }
    }
}

/// The bytecode that the frame runs: the one in the code object, or the thread's own copy of it.
fn bytecode_start(
    memory: &dyn Memory,
    layout: &PythonLayout,
    frame: &RecordedFrame,
) -> Result<LiveAddress, MemoryError> {
    let code = LiveAddress::in_target(frame.code);
    if let Some(copies) = layout.code.local_bytecode.filter(|_| frame.bytecode_copy > 0) {
        let copies = memory.read_pointer(code.plus(copies))?;
        if u64::from(frame.bytecode_copy) < memory.read_u64(copies)? {
            return memory.read_pointer(copies.plus(8 + 8 * u64::from(frame.bytecode_copy)));
        }
    }
    Ok(code.plus(layout.code.bytecode.unwrap_or(0)))
}
