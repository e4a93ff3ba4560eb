//! Events that are counted in one group with whatever tells of locks, so that each step is told of with what they say.

use std::io;

use crate::{
    model::time::MonoNanos,
    perf::{
        error::PerfError,
        events::{CountedEvent, missing},
        open::{Manner, Subject, Times, try_readings},
    },
};

/// The kernel's tracepoint at the end of a thread, while its counters still count.
const ENDING: &str = "sched:sched_process_exit";

/// What is measured at steps with locks.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Measuring {
    /// Nothing: nothing was to be.
    #[default]
    Nothing,
    /// What these events count.
    These(&'static [CountedEvent]),
    /// Nothing, for a reason that is told in words.
    Never(String),
    /// Nothing any more, for a reason that is told in words.
    Ended(String),
}

/// Whether records of lock events can say here what `events` have counted.
pub fn is_readable(events: &'static [CountedEvent]) -> bool {
    let manner = Manner { times: Times::of(events), ..Manner::best() };
    matches!(Measured::try_these(events, manner).now, Measuring::These(_))
}

/// What is measured, and what it takes.
#[derive(Debug, Default)]
pub(super) struct Measured {
    now: Measuring,
    /// `None` where tracepoints cannot be looked up.
    ending: Option<Subject>,
    /// Since when each group counts, by its number; `None`: it is being opened.
    began: Vec<Option<MonoNanos>>,
}

impl Measured {
    /// Measures `events`, if there are any and this kernel can tell what they say.
    pub(super) fn try_these(events: &'static [CountedEvent], manner: Manner) -> Self {
        if events.is_empty() {
            return Self::default();
        }
        let now = match try_readings(manner) {
            Ok(()) => Measuring::These(events),
            Err(why) => Measuring::Never(refused(&why)),
        };
        let ending = CountedEvent::named(ENDING).ok().map(|event| Subject::Ending { tracepoint: event.code.config });
        Self { now, ending, began: Vec::new() }
    }

    pub(super) fn now(&self) -> &Measuring {
        &self.now
    }

    /// A number for the groups of one more family; `None` when there are to be none.
    pub(super) fn next_group(&mut self) -> Option<usize> {
        matches!(self.now, Measuring::These(_)).then(|| {
            self.began.push(None);
            self.began.len() - 1
        })
    }

    /// What a group says counts from now on.
    pub(super) fn begin(&mut self, group: usize, at: MonoNanos) {
        self.began[group] = Some(at);
    }

    /// Whether what the group said at this time counts.
    pub(super) fn has_begun(&self, group: usize, at: MonoNanos) -> bool {
        self.began.get(group).copied().flatten().is_some_and(|began| began <= at)
    }

    /// The group that counts until this one does.
    pub(super) fn before(&self, group: usize) -> Option<usize> {
        self.began.get(..group)?.iter().rposition(Option::is_some)
    }

    /// What stands in each group beside what tells of locks, and behind its first event.
    pub(super) fn counted(&self) -> impl Iterator<Item = Subject> {
        let events: &[CountedEvent] = if let Measuring::These(events) = self.now { events } else { &[] };
        events.iter().map(Subject::Counted).chain(self.ending)
    }

    /// The groups could not be opened.
    pub(super) fn refuse(&mut self, why: &PerfError) {
        let why = match why {
            PerfError::Open { source, .. } if source.raw_os_error() == Some(libc::EINVAL) => {
                "the processor cannot count all of them at the same time".to_owned()
            }
            PerfError::Open { source, .. } | PerfError::NotPermitted { source, .. } => missing(source),
            why => why.to_string(),
        };
        let has_begun = self.began.iter().any(Option::is_some);
        self.now = if has_begun { Measuring::Ended(why) } else { Measuring::Never(why) };
    }

    /// Nothing is measured any more.
    pub(super) fn end(&mut self, why: &str) {
        self.now = Measuring::Ended(why.to_owned());
    }
}

fn refused(why: &io::Error) -> String {
    match why.raw_os_error() {
        Some(libc::EINVAL) => "reading counters at lock events takes Linux 6.12".to_owned(),
        Some(libc::EACCES | libc::EPERM) => {
            "reading counters at lock events takes CAP_PERFMON, or kernel.perf_event_paranoid at 1 or less".to_owned()
        }
        _ => missing(why),
    }
}
