//! Python's version numbers and build kinds, parsed from what an interpreter says about itself.

use std::fmt;

/// Whether a build can run without its global lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Build {
    /// The lock is always in use.
    Default,
    /// Built with `--disable-gil`: the lock may be off.
    FreeThreaded,
}

/// A version such as `3.12.1` or `3.15.0rc2`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PythonVersion {
    /// The first number.
    pub major: u8,
    /// The second number.
    pub minor: u8,
    /// The third number.
    pub micro: u8,
    stage: Stage,
}

/// How far a version had come when it was built.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Stage {
    Alpha(u8),
    Beta(u8),
    Candidate(u8),
    Release,
}

impl PythonVersion {
    /// A released version.
    pub const fn release(major: u8, minor: u8, micro: u8) -> Self {
        Self { major, minor, micro, stage: Stage::Release }
    }

    /// From `PY_VERSION_HEX`; `None` when the number is no version.
    pub fn from_hex(hex: u32) -> Option<Self> {
        let [major, minor, micro, stage] = hex.to_be_bytes();
        let serial = stage & 0xf;
        let stage = match stage >> 4 {
            0xa => Stage::Alpha(serial),
            0xb => Stage::Beta(serial),
            0xc => Stage::Candidate(serial),
            0xf => Stage::Release,
            _ => return None,
        };
        (2..=4).contains(&major).then_some(Self { major, minor, micro, stage })
    }

    /// From the start of a text such as `3.8.18` or `3.9.0rc1 (default, …`; `None` when it starts otherwise.
    pub fn from_text(text: &str) -> Option<Self> {
        let (major, rest) = leading_number(text)?;
        let (minor, rest) = leading_number(rest.strip_prefix('.')?)?;
        let (micro, rest) = leading_number(rest.strip_prefix('.')?)?;
        let stage = Stage::from_text(rest)?;
        Some(Self { major, minor, micro, stage })
    }
}

impl Stage {
    fn from_text(text: &str) -> Option<Self> {
        if let Some(rest) = text.strip_prefix("rc") {
            return Some(Self::Candidate(leading_number(rest)?.0));
        }
        if let Some(rest) = text.strip_prefix('a') {
            return Some(Self::Alpha(leading_number(rest)?.0));
        }
        if let Some(rest) = text.strip_prefix('b') {
            return Some(Self::Beta(leading_number(rest)?.0));
        }
        (!text.starts_with(|next: char| next.is_ascii_alphanumeric() || next == '.')).then_some(Self::Release)
    }
}

fn leading_number(text: &str) -> Option<(u8, &str)> {
    let end = text.find(|digit: char| !digit.is_ascii_digit()).unwrap_or(text.len());
    let number = text.get(..end)?.parse().ok()?;
    Some((number, text.get(end..)?))
}

impl fmt::Display for PythonVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { major, minor, micro, stage } = self;
        write!(f, "{major}.{minor}.{micro}")?;
        match stage {
            Stage::Alpha(serial) => write!(f, "a{serial}"),
            Stage::Beta(serial) => write!(f, "b{serial}"),
            Stage::Candidate(serial) => write!(f, "rc{serial}"),
            Stage::Release => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::PythonVersion;

    #[test]
    fn numbers_and_texts_agree() {
        for (hex, text) in [(0x030c_01f0, "3.12.1"), (0x0308_12f0, "3.8.18"), (0x030f_00c2, "3.15.0rc2")] {
            let version = PythonVersion::from_hex(hex).unwrap();
            assert_eq!(version.to_string(), text);
            assert_eq!(PythonVersion::from_text(text), Some(version));
        }
    }

    #[test]
    fn the_version_may_be_followed_by_the_build() {
        assert_eq!(PythonVersion::from_text("3.8.18 (default, "), Some(PythonVersion::release(3, 8, 18)));
    }

    #[test]
    fn other_numbers_are_no_versions() {
        assert_eq!(PythonVersion::from_hex(0), None);
        assert_eq!(PythonVersion::from_hex(0x030c_0100), None);
        for text in ["", "3", "3.8", "3.8.", "3.8.x", "3.8.18.1", "3.8.999"] {
            assert_eq!(PythonVersion::from_text(text), None, "{text}");
        }
    }
}
