//! Families of events opened on every thread there is, while new ones appear, and closed again.
//!
//! Invariant: a family is open on all threads that were listed, or on none; a thread that vanishes while it is being opened is
//! skipped.

use std::{fs, io, thread, time::Duration};

use crate::{
    model::ids::{Pid, Tid},
    perf::{
        clock,
        error::PerfError,
        family::{Family, Wanted},
        limits::allow_more_files,
        open::{CodeSampled, Subject},
        stream::{PerfStream, order::SLACK},
    },
};

/// How long after a thread has appeared in `/proc` the record of its birth is certainly in the ring, and is older than [`SLACK`].
const SETTLED: Duration = Duration::from_millis(2);
/// New threads found in that many successive listings; those after the last are watched by inheritance or not at all.
const LISTINGS: usize = 16;

impl PerfStream {
    pub(super) fn watch_family(&mut self, subjects: Vec<Wanted>) -> Result<(), PerfError> {
        self.with_room(|stream| stream.try_watching(Family::alone(subjects.clone()))).map(drop)
    }

    /// Watches a thread in the kernel's code as well, which needs a privilege or a system that is lenient, or in its own alone;
    /// says which.
    pub(super) fn watch_code(
        &mut self,
        subjects: impl Fn(CodeSampled) -> Vec<Wanted>,
    ) -> Result<CodeSampled, PerfError> {
        let mut watch = |code| self.watch_family(subjects(code)).map(|()| code);
        watch(CodeSampled::ProgramAndKernel).or_else(|_| watch(CodeSampled::Program))
    }

    /// Returns where the family stands among others.
    pub(super) fn try_watching(&mut self, family: Family) -> Result<usize, PerfError> {
        let family = self.place_for(family);
        let opened = self.open_all(family);
        opened.map(|()| family).inspect_err(|_| drop(self.families[family].close(self.cpus.len())))
    }

    fn open_all(&mut self, family: usize) -> Result<(), PerfError> {
        for listing in 0..LISTINGS {
            let listed = self.listed()?;
            if listing > 0 {
                thread::sleep(SETTLED);
                let now = clock::now();
                self.read_rings();
                self.release(now.earlier_by(SLACK));
            }
            let lineage = &self.families[family].lineage;
            let new: Vec<Tid> = listed.into_iter().filter(|tid| !lineage.covers(*tid)).collect();
            if new.is_empty() && listing > 0 {
                break;
            }
            self.open_threads(family, &new)?;
        }
        if self.families[family].is_empty() {
            return Err(PerfError::ProcessGone { pid: self.pid });
        }
        Ok(())
    }

    /// Puts the family where one was that is closed and of which no record is left, or else behind all others.
    fn place_for(&mut self, new: Family) -> usize {
        let watermark = self.watermark;
        let is_over = |family: &Family| family.closed.is_some_and(|closed| closed < watermark);
        let Some(place) = self.families.iter().position(is_over) else {
            self.families.push(new);
            return self.families.len() - 1;
        };
        self.roles.retain(|_, role| role.family != place);
        self.families[place] = new;
        place
    }

    /// Descendants that have ended meanwhile are left out.
    fn listed(&self) -> Result<Vec<Tid>, PerfError> {
        let mut listed = threads_of(self.pid)?;
        listed.extend(self.others.iter().filter_map(|other| threads_of(*other).ok()).flatten());
        Ok(listed)
    }

    fn open_threads(&mut self, family: usize, tids: &[Tid]) -> Result<(), PerfError> {
        allow_more_files(tids.len() * self.cpus.len() * self.families[family].size())?;
        for tid in tids {
            let opening = (&self.cpus[..], self.manner);
            match self.families[family].open_thread(*tid, opening, family, &mut self.roles) {
                Err(PerfError::Open { source, .. }) if source.raw_os_error() == Some(libc::ESRCH) => {}
                outcome => outcome?,
            }
        }
        Ok(())
    }

    /// What is counted in the groups of such subjects is counted still.
    pub(super) fn drop_subjects(&mut self, of: impl Fn(Subject) -> bool) {
        let cpus = self.cpus.len();
        for family in self.families.iter_mut().filter(|family| family.watches(&of)) {
            let lost = match family.group() {
                Some(_) => family.leave(&of, cpus),
                None => family.close(cpus).lost,
            };
            self.lost.iter_mut().zip(lost).for_each(|(all, lost)| *all += lost);
        }
    }
}

/// The threads of `pid` at this moment.
pub fn threads_of(pid: Pid) -> Result<Vec<Tid>, PerfError> {
    let listed = fs::read_dir(format!("/proc/{pid}/task")).and_then(|entries| {
        let names = entries.map(|entry| entry.map(|entry| entry.file_name()));
        let tids = names.map(|name| name.map(|name| name.to_str().and_then(|text| text.parse().ok())));
        tids.collect::<io::Result<Vec<Option<i32>>>>()
    });
    let listed = listed.map_err(|source| match source.raw_os_error() {
        Some(libc::ENOENT | libc::ESRCH) => PerfError::ProcessGone { pid },
        _ => PerfError::Threads { pid, source },
    })?;
    Ok(listed.into_iter().flatten().filter_map(Tid::from_raw).collect())
}
