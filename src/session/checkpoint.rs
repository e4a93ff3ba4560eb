//! Reports as they would be now, made from time to time and left to the heir, in case gilscope is killed.
//!
//! The books are copied between two turns; what follows (closing them, rendering) happens in a thread of its own at the
//! lowest priority, so that no ring fills meanwhile, and takes at most a hundredth of one CPU.

use std::{
    fmt, fs,
    sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crate::{
    model::profile::Profile,
    perf::priority,
    report::{Report, outlet::Destination},
    session::heir::Heir,
};

/// The first comes soon, since many recordings are short.
const FIRST: Duration = Duration::from_secs(1);
/// Between two of them at least.
const PAUSE: Duration = Duration::from_secs(5);
/// So many times as long as one took is waited for the next.
const REST: u32 = 100;

/// A copy of the books that can be closed in another thread.
pub(super) type Snapshot = Box<dyn FnOnce() -> Profile + Send>;

/// A report and where it goes.
pub type Intended = (Destination, Box<dyn Report + Send>);

/// Makes them.
pub struct Checkpoints {
    snapshots: SyncSender<Snapshot>,
    worker: JoinHandle<Heir>,
    next: Instant,
}

impl Checkpoints {
    /// Appoints the heir; `None` when there can be none, which is no reason not to record.
    pub fn begin(intended: Vec<Intended>) -> Option<Self> {
        let (destinations, reports): (Vec<_>, Vec<_>) = intended.into_iter().unzip();
        let heir = Heir::appoint(&destinations).ok()?;
        // Of two victims the memory's guardian shall choose this one, not the target; that it may not be asked is no harm.
        let _ = fs::write("/proc/self/oom_score_adj", "500");
        let (snapshots, received) = sync_channel(1);
        let worker = thread::Builder::new().name("checkpoint".to_owned());
        let worker = worker.spawn(move || work(&received, heir, &reports)).ok()?;
        Some(Self { snapshots, worker, next: Instant::now() + FIRST })
    }

    /// Takes a snapshot if one is due.
    pub(super) fn consider(&mut self, snapshot: impl FnOnce() -> Snapshot) {
        if Instant::now() < self.next {
            return;
        }
        self.next = Instant::now() + PAUSE;
        // A worker that rests will take the next one.
        if let Err(TrySendError::Disconnected(_)) = self.snapshots.try_send(snapshot()) {
            self.next = Instant::now() + Duration::from_secs(u32::MAX.into());
        }
    }

    /// The reports are written: there is nothing to inherit any more.
    pub fn end(self) {
        drop(self.snapshots);
        self.worker.thread().unpark();
        // It can only have panicked; then the heir is left alone and writes what it has.
        if let Ok(heir) = self.worker.join() {
            heir.dismiss();
        }
    }
}

impl fmt::Debug for Checkpoints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Checkpoints").field("next", &self.next).finish_non_exhaustive()
    }
}

fn work(snapshots: &Receiver<Snapshot>, mut heir: Heir, reports: &[Box<dyn Report + Send>]) -> Heir {
    priority::give_way();
    for snapshot in snapshots {
        let begun = Instant::now();
        let profile = snapshot();
        let rendered: Option<Vec<Vec<u8>>> = reports.iter().map(|report| rendered(&**report, &profile)).collect();
        // One that could not be made or handed over leaves the one before.
        let _ = rendered.map(|rendered| heir.entrust(&rendered));
        // Interrupted by the end of the recording.
        thread::park_timeout(begun.elapsed() * REST);
    }
    heir
}

fn rendered(report: &dyn Report, profile: &Profile) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    report.write(profile, &mut bytes).ok().map(|()| bytes)
}
