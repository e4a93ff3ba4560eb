//! Reports: one [`Profile`] in, one file out.
//!
//! Owns the choice of format and view and the opening of the output file; refuses to compute anything the ledger
//! did not: a report adds up and sorts, it never estimates. The same profile always gives the same bytes.

pub mod diagnosis;
pub mod flamegraph;
pub mod folded;
pub mod json;
pub mod outlet;
mod rescue;
pub mod text;
pub mod view;

mod charge;
mod functions;
mod kind;
mod kinds;
mod matrix;
pub(crate) mod names;
mod native;
mod ratios;
mod scaled;
mod schema;
mod verdict;

use std::{fmt, io, path::Path};

use thiserror::Error;

use crate::{
    model::{family::Family, profile::Profile},
    report::{flamegraph::FlameGraph, folded::Folded, json::Json, text::Text, view::View},
};

/// Turns a profile into one kind of file.
pub trait Report: fmt::Debug {
    /// Writes the whole report.
    fn write(&self, profile: &Profile, out: &mut dyn io::Write) -> Result<(), ReportError>;

    /// Writes the whole report of a program with the processes that it started; where a report knows only one, its root's.
    fn write_family(&self, family: &Family, out: &mut dyn io::Write) -> Result<(), ReportError> {
        self.write(&family.root, out)
    }
}

/// Why a report could not be produced.
#[derive(Debug, Error)]
pub enum ReportError {
    /// The writer refused the bytes.
    #[error("write the report")]
    Write(#[from] io::Error),
    /// The profile could not be put into JSON.
    #[error("write the profile as JSON")]
    Json(#[from] serde_json::Error),
}

/// The kinds of file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// A flame graph for a browser.
    Svg,
    /// The whole profile for programs, schema `gilscope/1`.
    Json,
    /// Tables for a person.
    Text,
    /// One stack a line for other flame graph tools.
    Folded,
}

impl Format {
    /// All formats, the default first.
    pub const ALL: [Self; 4] = [Self::Svg, Self::Json, Self::Text, Self::Folded];

    /// The format that the extension of `path` asks for; `None` when it has none or an unknown one.
    pub fn of_path(path: &Path) -> Option<Self> {
        let extension = path.extension()?.to_str()?.to_ascii_lowercase();
        Self::ALL.into_iter().find(|format| format.extensions().contains(&extension.as_str()))
    }

    /// The name used on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Svg => "svg",
            Self::Json => "json",
            Self::Text => "text",
            Self::Folded => "folded",
        }
    }

    /// The file name extensions that mean this format, without the dot; the customary one first.
    pub const fn extensions(self) -> &'static [&'static str] {
        match self {
            Self::Svg => &["svg"],
            Self::Json => &["json"],
            Self::Text => &["txt", "text"],
            Self::Folded => &["folded", "collapsed"],
        }
    }

    /// Whether the report shows one view, rather than everything.
    pub const fn has_views(self) -> bool {
        matches!(self, Self::Svg | Self::Folded)
    }

    /// The report that writes this format.
    pub fn report(self, view: View) -> Box<dyn Report + Send> {
        match self {
            Self::Svg => Box::new(FlameGraph::of(view)),
            Self::Json => Box::new(Json),
            Self::Text => Box::new(Text::default()),
            Self::Folded => Box::new(Folded::of(view)),
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::Format;

    #[test]
    fn the_extension_chooses_the_format() {
        let of = |path| Format::of_path(Path::new(path));
        assert_eq!(of("a.svg"), Some(Format::Svg));
        assert_eq!(of("dir.json/a.TXT"), Some(Format::Text));
        assert_eq!(of("a.json"), Some(Format::Json));
        assert_eq!(of("a.collapsed"), Some(Format::Folded));
        assert_eq!(of("a.folded"), Some(Format::Folded));
        assert_eq!(of("a.png"), None);
        assert_eq!(of("svg"), None);
        assert_eq!(of(".svg"), None);
    }
}
