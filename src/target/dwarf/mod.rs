//! Layouts from debug information, for builds that no file describes.

pub mod abbreviations;
pub mod file;
pub mod layout;
pub mod structure;

use crate::{
    model::ids::Pid,
    target::{
        dwarf::{file::DebugFile, structure::DebugSections},
        image::Image,
        layout::PythonLayout,
        version::PythonVersion,
    },
};

/// The layout of the CPython in `image`, by its debug information; `None` when there is none on this machine, or not of
/// a form that is understood.
pub fn described_layout(pid: Pid, image: &Image, version: PythonVersion) -> Option<PythonLayout> {
    let file = DebugFile::of(pid, image)?;
    let sections = DebugSections::read(file.elf()).ok()?;
    layout::layout_of(&sections.structures(&layout::NAMES)?, version)
}
