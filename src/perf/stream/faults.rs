//! Page faults in a stream: told of where there is room, so many at a time as their cost allows.
//!
//! Invariant: nothing else goes unseen for them.

use crate::perf::{
    error::PerfError,
    family::Wanted,
    open::{CodeSampled, FaultKind, Subject},
    stream::PerfStream,
};

impl PerfStream {
    /// Watches for page faults. Where there is no room for that, all else is seen none the less.
    pub(super) fn watch_faults(&mut self) {
        self.faults = self.watch_code(|code| faults(code, 1)).ok();
    }

    /// Watches for minor page faults so many at a time from now on, so that they cost less; `false` when it watches for none any
    /// more. For streams of one process.
    pub fn group_faults(&mut self, group: u32) -> bool {
        if let Some(code) = self.faults {
            self.drop_faults();
            self.faults = self.watch_family(faults(code, group)).is_ok().then_some(code);
            self.minor_group = group;
            self.number_like_faults();
        }
        self.faults.is_some()
    }

    /// Records of page faults that come under the number of the event that is sampled are of as many.
    pub(super) fn number_like_faults(&mut self) {
        let group = self.minor_group;
        let samples = |family: usize| self.families[family].watches(|subject| matches!(subject, Subject::Event(_)));
        for role in self.roles.values_mut().filter(|role| samples(role.family)) {
            if let Some((FaultKind::Minor, times)) = &mut role.fault {
                *times = group;
            }
        }
    }

    /// Watches for page faults no more, so that they cost nothing.
    pub fn drop_faults(&mut self) {
        self.faults = None;
        self.drop_subjects(|subject| matches!(subject, Subject::Faults(..)));
    }

    /// In whose code page faults are seen; `None`: they are not.
    pub fn faults(&self) -> Option<CodeSampled> {
        self.faults
    }

    /// Page faults make room for whatever else is to be watched.
    pub(super) fn with_room<T>(&mut self, watch: impl Fn(&mut Self) -> Result<T, PerfError>) -> Result<T, PerfError> {
        match watch(self) {
            Err(PerfError::TooManyFiles { .. }) if self.faults.is_some() => {
                self.drop_faults();
                watch(self)
            }
            outcome => outcome,
        }
    }
}

fn faults(code: CodeSampled, group: u32) -> Vec<Wanted> {
    // A major one takes so long that being told of it does not matter.
    [(FaultKind::Minor, group), (FaultKind::Major, 1)]
        .map(|(kind, group)| (Subject::Faults(kind, code, group), None))
        .to_vec()
}
