//! The shape of `parking`: locks of objects and stops of the world.
//!
//! As in the whole schema, fields may be added, never renamed, and what cannot be known is `null`.

use serde::Serialize;

use crate::report::schema::{Frame, Named};

/// What threads of a free-threaded build waited for without its lock.
#[derive(Debug, Serialize)]
pub(in crate::report) struct Parking<'a> {
    pub(in crate::report) mutexes: Vec<ParkedMutex<'a>>,
    pub(in crate::report) stop_the_world: StopTheWorld,
    pub(in crate::report) elsewhere: Named<Option<u64>>,
}

#[derive(Debug, Serialize)]
pub(in crate::report) struct ParkedMutex<'a> {
    pub(in crate::report) address: Option<String>,
    #[serde(flatten)]
    pub(in crate::report) parks: Named<Option<u64>>,
    pub(in crate::report) threads: Vec<ParkedThread>,
    pub(in crate::report) stacks: Vec<ParkedStack<'a>>,
    pub(in crate::report) unseen: Named<Option<u64>>,
}

#[derive(Debug, Serialize)]
pub(in crate::report) struct ParkedThread {
    pub(in crate::report) tid: Option<i32>,
    #[serde(flatten)]
    pub(in crate::report) parks: Named<Option<u64>>,
}

#[derive(Debug, Serialize)]
pub(in crate::report) struct ParkedStack<'a> {
    #[serde(flatten)]
    pub(in crate::report) parks: Named<Option<u64>>,
    pub(in crate::report) stack: Option<Vec<Frame<'a>>>,
}

#[derive(Debug, Serialize)]
pub(in crate::report) struct StopTheWorld {
    #[serde(flatten)]
    pub(in crate::report) pauses: Named<Option<u64>>,
    pub(in crate::report) requesters: Vec<Requester>,
    pub(in crate::report) suspended: Vec<ParkedThread>,
}

#[derive(Debug, Serialize)]
pub(in crate::report) struct Requester {
    pub(in crate::report) tid: Option<i32>,
    #[serde(flatten)]
    pub(in crate::report) pauses: Named<Option<u64>>,
    pub(in crate::report) waited_ns: Option<u64>,
}
