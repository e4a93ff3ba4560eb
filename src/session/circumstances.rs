//! What goes into a profile beside the books: whom it is about, and how it came about.

use crate::{
    estimate::book::{LookBook, Waits},
    model::{
        profile::{Backend, Counted, Profile, Spread},
        quality::{Overhead, SchedulerRung},
        surroundings::Surroundings,
        time::Nanos,
    },
    session::{
        chosen::Chosen,
        engine::Recorded,
        event_choice::EventChoice,
        governor::Governor,
        intervals::{Intervals, SwitchIntervals},
        joiner::SharedJoiner,
        numbers::ThreadNumbers,
        options::FrameDetail,
        summary,
    },
    source::poll::SharedBook,
    target::discover::Target,
};

/// The same while the recording goes on.
#[derive(Debug)]
pub(super) struct Circumstances {
    pub(super) target: Target,
    pub(super) backend: Backend,
    pub(super) joiner: Option<SharedJoiner>,
    pub(super) intervals: SwitchIntervals,
    pub(super) governor: Governor,
    pub(super) numbers: ThreadNumbers,
    pub(super) scheduler: SchedulerRung,
    /// What looks saw, where there are no lock events.
    pub(super) looks: Option<SharedBook>,
    /// What was to be counted.
    pub(super) chosen: Chosen,
    /// What is sampled.
    pub(super) event: Option<EventChoice>,
    pub(super) notes: Vec<String>,
}

/// The same as of one moment; goes to any thread.
#[derive(Debug)]
pub(super) struct Account {
    target: Target,
    backend: Backend,
    frames: FrameDetail,
    overhead: Overhead,
    intervals: Intervals,
    surroundings: Surroundings,
    scheduler: SchedulerRung,
    looks: Option<LookBook>,
    chosen: Chosen,
    event: Option<EventChoice>,
    notes: Vec<String>,
}

impl Circumstances {
    /// As they are now.
    pub(super) fn account(&self) -> Account {
        let joined = self.joiner.as_ref().and_then(|joiner| joiner.borrow().tally().words());
        Account {
            target: self.target.clone(),
            backend: self.backend,
            frames: if self.joiner.is_some() { FrameDetail::ScriptAndNative } else { FrameDetail::Script },
            overhead: self.governor.overhead(),
            intervals: self.intervals.known().clone(),
            surroundings: self.numbers.known(),
            scheduler: self.scheduler,
            chosen: self.chosen,
            event: self.event,
            looks: self.looks.as_ref().map(|looks| looks.borrow().clone()),
            notes: self.notes.iter().cloned().chain(self.governor.notes()).chain(joined).collect(),
        }
    }
}

impl Account {
    /// Puts the profile together.
    pub(super) fn complete(self, recorded: Recorded) -> Profile {
        let (kind, words) = ((self.backend, self.frames), (self.overhead, self.notes));
        let mut profile = summary::profile(recorded, &self.target, (kind, self.chosen, self.event), words);
        self.intervals.enter(&mut profile.locks);
        profile.target.surroundings = self.surroundings;
        profile.quality.scheduler = self.scheduler;
        if let Some(looks) = self.looks {
            enter_estimates(&mut profile, &looks);
        }
        profile
    }
}

/// What looks saw can tell how long, but not how many.
fn enter_estimates(profile: &mut Profile, looks: &LookBook) {
    let cost = looks.cost() * 100.0;
    profile.quality.notes.push(format!("looking took {cost:.1} % of one CPU; no thread was stopped for it"));
    profile.estimates = Some(looks.estimates(profile));
    match looks.waits() {
        Waits::Looks => forget_waits(profile),
        Waits::Events => profile.counted = Counted::Waits,
    }
    forget_holds(profile);
}

/// What the ledger has counted are stretches of looks.
fn forget_waits(profile: &mut Profile) {
    for lock in &mut profile.locks {
        (lock.waits, lock.wait_spread) = (0, Spread::default());
    }
    profile.threads.iter_mut().for_each(|thread| thread.waits = 0);
}

/// The same of holds.
fn forget_holds(profile: &mut Profile) {
    profile.long_holds.clear();
    for lock in &mut profile.locks {
        (lock.holds, lock.forced_releases, lock.long_holds) = (0, 0, 0);
        lock.hold_spread = Spread::default();
    }
    for thread in &mut profile.threads {
        (thread.holds, thread.forced_releases) = (0, 0);
    }
    let tallies = profile.hold_sites.iter_mut().map(|site| &mut site.tally);
    for tally in tallies.chain(profile.locks.iter_mut().map(|lock| &mut lock.unseen)) {
        (tally.holds, tally.forced, tally.longest) = (0, 0, Nanos::ZERO);
    }
}
