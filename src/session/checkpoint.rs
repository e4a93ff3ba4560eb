//! Reports as they would be now, made from time to time and left to the heir, in case gilscope is killed.
//!
//! The books are copied between two turns; what follows (closing them, rendering) happens in a thread of its own at a
//! low priority, so that no ring fills meanwhile, and takes at most a hundredth of one CPU.

use std::{
    fmt, fs,
    os::fd::BorrowedFd,
    sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    thread,
    time::{Duration, Instant},
};

use crate::{
    model::family::Family,
    perf::priority,
    report::{Report, outlet::Destination},
    session::heir::{Heir, Legacy},
};

/// The first comes soon, since many recordings are short.
const FIRST: Duration = Duration::from_secs(1);
/// Between two of them at least.
const PAUSE: Duration = Duration::from_secs(5);
/// So many times as long as one took is waited for the next.
const REST: u32 = 100;

/// A copy of the books that can be closed in another thread.
pub(super) type Snapshot<Closed = Family> = Box<dyn FnOnce() -> Closed + Send>;

/// A report and where it goes.
pub type Intended = (Destination, Box<dyn Report + Send>);

/// Makes them.
pub struct Checkpoints {
    snapshots: SyncSender<Snapshot>,
    heir: Heir,
    next: Instant,
}

impl Checkpoints {
    /// Appoints the heir, who will see to it that probes which write to `shared` fall silent; `None` when there can be none,
    /// which is no reason not to record.
    pub fn begin(intended: Vec<Intended>, shared: &[BorrowedFd<'_>]) -> Option<Self> {
        let (destinations, reports): (Vec<_>, Vec<_>) = intended.into_iter().unzip();
        let (heir, legacy) = Heir::appoint(&destinations, shared).ok()?;
        // Of two victims the memory's guardian shall choose this one, not the target; that it may not be asked is no harm.
        let _ = fs::write("/proc/self/oom_score_adj", "500");
        let (snapshots, received) = sync_channel(1);
        let worker = thread::Builder::new().name("checkpoint".to_owned());
        // It ends with the process, if not before: nobody waits for it.
        drop(worker.spawn(move || work(&received, legacy, &reports)).ok()?);
        Some(Self { snapshots, heir, next: Instant::now() + FIRST })
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
        self.heir.dismiss();
    }
}

impl fmt::Debug for Checkpoints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Checkpoints").field("next", &self.next).finish_non_exhaustive()
    }
}

fn work(snapshots: &Receiver<Snapshot>, mut legacy: Legacy, reports: &[Box<dyn Report + Send>]) {
    priority::give_way();
    for snapshot in snapshots {
        let begun = Instant::now();
        let family = snapshot();
        let rendered: Option<Vec<Vec<u8>>> = reports.iter().map(|report| rendered(&**report, &family)).collect();
        // One that could not be made or handed over leaves the one before.
        let _ = rendered.map(|rendered| legacy.entrust(&rendered));
        thread::sleep(begun.elapsed() * REST);
    }
}

fn rendered(report: &dyn Report, family: &Family) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    report.write_family(family, &mut bytes).ok().map(|()| bytes)
}
