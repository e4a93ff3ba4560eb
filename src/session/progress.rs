//! The line that shows how a recording goes; only on a terminal, and gone when the recording is over.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::{model::time::Nanos, session::options::ProgressLine};

/// A line on standard error.
#[derive(Debug)]
pub(super) struct Progress {
    bar: ProgressBar,
}

impl Progress {
    pub(super) fn begin(line: ProgressLine) -> Self {
        let bar = match line {
            // Hides itself when standard error is not a terminal.
            ProgressLine::OnTerminal => ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(4)),
            ProgressLine::Hidden => ProgressBar::hidden(),
        };
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(250));
        Self { bar }
    }

    pub(super) fn show(&self, elapsed: Nanos, threads: usize, lock_events: u64) {
        if !self.bar.is_hidden() {
            let seconds = elapsed.as_seconds();
            self.bar.set_message(format!("recording {seconds:.1} s, {threads} threads, {lock_events} lock events"));
        }
    }

    pub(super) fn end(&self) {
        self.bar.finish_and_clear();
    }
}
