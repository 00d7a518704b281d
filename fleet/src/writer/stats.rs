//! What the writer counts about itself, for metrics and benchmarks.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counters since the start. Read without locking, each for itself.
#[derive(Debug, Default)]
pub struct Stats {
    pub(crate) commits: AtomicU64,
    pub(crate) commits_failed: AtomicU64,
    pub(crate) changes: AtomicU64,
    pub(crate) commit_us: AtomicU64,
    pub(crate) commands: AtomicU64,
}

pub(crate) fn add(counter: &AtomicU64, count: usize) {
    counter.fetch_add(u64::try_from(count).unwrap_or(u64::MAX), Ordering::Relaxed);
}

impl Stats {
    /// Transactions that became durable.
    pub fn commits(&self) -> u64 {
        self.commits.load(Ordering::Relaxed)
    }

    /// Transactions that did not.
    pub fn commits_failed(&self) -> u64 {
        self.commits_failed.load(Ordering::Relaxed)
    }

    /// Rows that became durable.
    pub fn changes(&self) -> u64 {
        self.changes.load(Ordering::Relaxed)
    }

    /// Time spent in commits, in microseconds.
    pub fn commit_us(&self) -> u64 {
        self.commit_us.load(Ordering::Relaxed)
    }

    /// Commands decided.
    pub fn commands(&self) -> u64 {
        self.commands.load(Ordering::Relaxed)
    }
}
