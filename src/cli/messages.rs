//! The one place that prints, and where characters that could steer a terminal are taken out: messages name files and
//! programs of others. Everything goes to standard error, because standard output belongs to the launched
//! program or to the report; a reader that has gone away is no reason to fail.

use std::{
    io::{self, Write},
    os::fd::AsFd,
};

use clap::error::ErrorKind;

use crate::{
    cli::{error::PlanError, exit::Exit},
    report::{
        names::{clean, clean_lines},
        outlet::OutletError,
    },
    session::error::SessionError,
};

/// Columns when nothing is known about the terminal.
const USUAL_COLUMNS: u16 = 100;

/// How much to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Verbosity {
    /// Errors only.
    Quiet,
    /// And the summary, and where the report went.
    #[default]
    Normal,
    /// And what is being done and why.
    Verbose,
}

/// gilscope's voice.
#[derive(Debug, Clone, Copy, Default)]
pub struct Messages {
    verbosity: Verbosity,
}

impl Messages {
    /// A voice that says as much as `verbosity` allows.
    pub fn with(verbosity: Verbosity) -> Self {
        Self { verbosity }
    }

    /// Whether a summary would be printed.
    pub fn wants_summary(self) -> bool {
        self.verbosity >= Verbosity::Normal
    }

    /// Prints a finished text as it stands: somebody wants it, or it would be lost otherwise.
    pub fn summary(self, text: &str) {
        print(text);
    }

    /// Says something worth knowing, unless quiet.
    pub fn say(self, text: &str) {
        if self.verbosity >= Verbosity::Normal {
            print(&format!("gilscope: {text}\n"));
        }
    }

    /// Says something that only the curious want to know.
    pub fn detail(self, text: &str) {
        if self.verbosity >= Verbosity::Verbose {
            print(&format!("gilscope: {text}\n"));
        }
    }

    /// Says what may make the report worth less, unless quiet.
    pub fn warn(self, text: &str) {
        if self.verbosity >= Verbosity::Normal {
            print(&format!("gilscope: warning: {text}\n"));
        }
    }

    /// Says why gilscope fails and, where known, what to type next; never silenced.
    pub fn error(self, error: &anyhow::Error) {
        print(&failure(error, &hints(error)));
    }

    /// The same with hints that only the caller knows.
    pub fn error_with_hints(self, error: &anyhow::Error, hints: &[String]) {
        print(&failure(error, hints));
    }
}

/// Prints what the parser has to say: help and version to standard output, complaints to standard error.
pub fn parser_words(error: &clap::Error) -> Exit {
    if error.use_stderr() && error.kind() != ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        print(&complaint(&error.render().to_string()));
        return Exit::Usage;
    }
    match (error.use_stderr(), error.print()) {
        (true, _) => Exit::Usage,
        (false, Err(error)) if error.kind() != io::ErrorKind::BrokenPipe => Exit::Failed,
        (false, _) => Exit::Done,
    }
}

/// The parser's complaint in the form of all others: one sentence, then hints. Its first paragraph is the sentence; the
/// others are tips, the usage, and where to read more.
fn complaint(rendered: &str) -> String {
    let mut paragraphs = rendered.trim().split("\n\n");
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let sentence = words(paragraphs.next().unwrap_or_default());
    let sentence = sentence.strip_prefix("error: ").unwrap_or(&sentence);
    let lines = paragraphs.flat_map(str::lines).map(words).filter(|line| !line.is_empty());
    let hints: String = lines.map(|line| format!("hint: {}\n", as_hint(&line))).collect();
    format!("gilscope: error: {sentence}\n{hints}")
}

/// The width of the terminal behind standard error: `COLUMNS`, else what the terminal says, else 100.
pub fn columns() -> u16 {
    columns_of(io::stderr())
}

/// The same of standard output.
pub fn stdout_columns() -> u16 {
    columns_of(io::stdout())
}

fn columns_of(stream: impl AsFd) -> u16 {
    let wished = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok()).filter(|columns| *columns > 0);
    let real = || terminal_size::terminal_size_of(stream).map(|(width, _)| width.0);
    wished.or_else(real).unwrap_or(USUAL_COLUMNS)
}

/// A line of the parser's in the style of hints: lower case, no full stop. The dots of `[ARGS]...` mean something.
fn as_hint(line: &str) -> String {
    let line = line.trim_start_matches("tip: ");
    let line = line.strip_suffix('.').filter(|rest| !rest.ends_with('.')).unwrap_or(line);
    let mut chars = line.chars();
    chars.next().map(|first| first.to_ascii_lowercase()).into_iter().chain(chars).collect()
}

fn failure(error: &anyhow::Error, hints: &[String]) -> String {
    let hints: String = hints.iter().map(|hint| format!("hint: {hint}\n")).collect();
    let sentence = clean(&format!("{error:#}"));
    format!("gilscope: error: {sentence}\n{hints}")
}

/// What to do about `error`, as far as this module knows its kind.
fn hints(error: &anyhow::Error) -> Vec<String> {
    let plan = error.chain().find_map(|cause| cause.downcast_ref::<PlanError>()).and_then(PlanError::hint);
    let outlet = error.chain().find_map(|cause| cause.downcast_ref::<OutletError>()).and_then(outlet_hint);
    let session = error.chain().find_map(|cause| cause.downcast_ref::<SessionError>()).map(SessionError::hints);
    plan.into_iter().chain(outlet).chain(session.unwrap_or_default()).collect()
}

fn outlet_hint(error: &OutletError) -> Option<String> {
    match error {
        OutletError::IsFolder { path } => {
            Some(format!("name a file in it: -o {}", path.join("gilscope.svg").display()))
        }
        OutletError::NoFolder { folder, .. } => Some(format!("mkdir -p {}", folder.display())),
        OutletError::Open { .. } => Some("-o FILE puts the report elsewhere".to_owned()),
        OutletError::Write { kept: Some(path), .. } => Some(format!("the report is kept in {}", path.display())),
        OutletError::Write { kept: None, .. } => {
            Some("nor was there room for it in the folder for temporary files".into())
        }
        OutletError::Render { .. } => None,
    }
}

fn print(text: &str) {
    // There is nowhere left to complain when standard error is gone.
    let _ = io::stderr().lock().write_all(clean_lines(text).as_bytes());
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::{complaint, failure, hints};
    use crate::cli::error::PlanError;

    #[test]
    fn the_parsers_complaint_has_the_form_of_all_others() {
        let rendered = "error: the following arguments are missing:\n  <PID>\n\n  tip: try x\n\nUsage: a\n       b...\n\nFor more.\n";
        let expected = "gilscope: error: the following arguments are missing: <PID>\n\
                        hint: try x\nhint: usage: a\nhint: b...\nhint: for more\n";
        assert_eq!(complaint(rendered), expected);
    }

    #[test]
    fn an_error_is_one_line_and_its_hint_another() {
        let error = anyhow::Error::new(PlanError::NoScript { path: "ap.py".into() });
        assert_eq!(
            failure(&error, &hints(&error)),
            "gilscope: error: no such script: `ap.py`\n\
             hint: SCRIPT is a file; to run a command, put `--` before it: gilscope run -- ap.py …\n"
        );
        let chained =
            Err::<(), _>(std::io::Error::from_raw_os_error(libc::EACCES)).context("open the ring").unwrap_err();
        assert_eq!(failure(&chained, &[]), "gilscope: error: open the ring: Permission denied (os error 13)\n");
    }
}
