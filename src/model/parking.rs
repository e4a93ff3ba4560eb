//! What threads of a free-threaded build waited for without a global lock: locks of objects, and stops of the world.
//!
//! It stands beside the accounts of threads and locks: the same time is *outside, blocked* there.

use crate::model::{address::LiveAddress, ids::Tid, stack::StackId, time::Nanos};

/// All of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Parking {
    /// Locks of objects and of the interpreter itself, the one that cost most first.
    pub mutexes: Vec<ParkedMutex>,
    /// Stops of the world.
    pub stops: Stops,
    /// Sleeps for anything else that the interpreter itself provides, such as the end of another thread.
    pub elsewhere: Stretches,
}

/// Stretches of time of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stretches {
    /// How many.
    pub count: u64,
    /// Their sum.
    pub total: Nanos,
    /// The longest of them.
    pub longest: Nanos,
}

impl Stretches {
    /// Adds one.
    pub fn add(&mut self, length: Nanos) {
        self.absorb(Self { count: 1, total: length, longest: length });
    }

    /// Adds those of `other`.
    pub fn absorb(&mut self, other: Self) {
        self.count += other.count;
        self.total += other.total;
        self.longest = self.longest.max(other.longest);
    }
}

/// One lock at which threads were parked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParkedMutex {
    /// Where it is, inside the object that it guards; `None`: those that are not told one by one.
    pub address: Option<LiveAddress>,
    /// All sleeps at it.
    pub parks: Stretches,
    /// The same by thread, the one that slept longest first; `None`: those that are not told one by one.
    pub threads: Vec<(Option<Tid>, Stretches)>,
    /// The sleeps whose stack was read by that stack, the longest first; `None`: those that are not told one by one.
    pub stacks: Vec<(Option<StackId>, Stretches)>,
    /// The sleeps whose stack was not read. With `stacks` they are all.
    pub unseen: Stretches,
}

/// Stops of the world: one thread has all others pause.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Stops {
    /// From the request, or the first thread that was suspended, to the first that went on.
    pub pauses: Stretches,
    /// The same by the thread that requested them, the longest first; `None`: unknown, it did not have to wait for any other.
    pub requesters: Vec<(Option<Tid>, Request)>,
    /// How long each thread was suspended, the longest first; `None`: those that are not told one by one.
    pub suspended: Vec<(Option<Tid>, Stretches)>,
}

/// What one thread's requests came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Request {
    /// The pauses.
    pub pauses: Stretches,
    /// The beginning of them, while it waited until all others had stopped.
    pub waited: Nanos,
}
