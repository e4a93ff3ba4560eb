//! Names as shown: threads with their tid, and foreign text made safe for terminals, XML and folded lines.

use std::collections::HashMap;

use crate::model::{ids::Tid, profile::Profile};

/// Longer command lines are cut.
const PROCESS_LIMIT: usize = 100;

/// How each thread of a profile is called.
#[derive(Debug)]
pub(super) struct ThreadNames<'a>(HashMap<Tid, &'a str>);

impl<'a> ThreadNames<'a> {
    /// The names in `profile`.
    pub(super) fn of(profile: &'a Profile) -> Self {
        Self(profile.threads.iter().map(|thread| (thread.tid, thread.name.as_str())).collect())
    }

    /// `worker (tid 12)`, or `tid 12` when the thread has no known name: interpreters give all threads one name.
    pub(super) fn label(&self, tid: impl Into<Option<Tid>>) -> String {
        let Some(tid) = tid.into() else {
            return "other threads".to_owned();
        };
        match self.0.get(&tid) {
            Some(name) if !name.is_empty() => format!("{} (tid {tid})", clean(name)),
            _ => format!("tid {tid}"),
        }
    }
}

impl ThreadNames<'_> {
    /// The same in little room: the name, cut after `limit` characters, `between`, and the tid.
    pub(super) fn short(&self, tid: Option<Tid>, limit: usize, between: &str) -> String {
        let Some(tid) = tid else {
            return "others".to_owned();
        };
        match self.0.get(&tid) {
            Some(name) if !name.is_empty() => format!("{}{between}{tid}", shortened(&clean(name), limit)),
            _ => format!("tid{between}{tid}"),
        }
    }
}

/// `pid 12: python3 app.py`.
pub(super) fn process_label(profile: &Profile) -> String {
    shortened(&format!("pid {}: {}", profile.target.pid, said(&profile.target.command)), PROCESS_LIMIT)
}

/// `text` with every character replaced that could steer a terminal, break XML or collide with our own marks.
pub(crate) fn clean(text: &str) -> String {
    text.chars().map(|shown| if is_unsafe(shown) { '\u{fffd}' } else { shown }).collect()
}

/// The same for a text of several lines.
pub(crate) fn clean_lines(text: &str) -> String {
    text.split('\n').map(clean).collect::<Vec<_>>().join("\n")
}

/// `text` as one frame of a folded line, where `;` separates frames.
pub(super) fn clean_frame(text: &str) -> String {
    clean(text).replace(';', ":")
}

/// A command line as a person would say it: absolute paths by their last component.
pub(super) fn said(command: &str) -> String {
    let last = |word: &str| word.rsplit('/').find(|part| !part.is_empty()).unwrap_or(word).to_owned();
    let words = command.split(' ').map(|word| if word.starts_with('/') { last(word) } else { word.to_owned() });
    clean(&words.collect::<Vec<_>>().join(" "))
}

/// `text`, cut after `limit` characters.
pub(super) fn shortened(text: &str, limit: usize) -> String {
    if text.chars().count() <= limit {
        return text.to_owned();
    }
    let kept: String = text.chars().take(limit.saturating_sub(1)).collect();
    format!("{kept}…")
}

fn is_unsafe(shown: char) -> bool {
    let steers = matches!(shown, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let private = matches!(shown, '\u{e000}'..='\u{f8ff}');
    let no_xml = matches!(shown, '\u{fffe}' | '\u{ffff}');
    shown.is_control() || steers || private || no_xml
}

#[cfg(test)]
mod tests {
    use super::{clean, clean_frame, said, shortened};

    #[test]
    fn a_command_is_said_without_its_folders() {
        assert_eq!(said("/usr/bin/python3 /srv/shop/app.py --port 80 / a/b"), "python3 app.py --port 80 / a/b");
    }

    #[test]
    fn foreign_text_cannot_steer_a_terminal_or_split_a_line() {
        assert_eq!(clean("a\x1b[31mb\nc\u{202e}"), "a\u{fffd}[31mb\u{fffd}c\u{fffd}");
        assert_eq!(clean("naïve <größe> & \"x\""), "naïve <größe> & \"x\"");
        assert_eq!(clean_frame("[u8; 4]"), "[u8: 4]");
    }

    #[test]
    fn long_text_is_cut_between_characters() {
        assert_eq!(shortened("größer", 6), "größer");
        assert_eq!(shortened("größer", 4), "grö…");
    }
}
