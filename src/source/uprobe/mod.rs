//! Uprobes on the calls of the lock.
