//! Receipts in the workers' own logs: whoever reads what a worker wrote also reads what was done to it, and why.
//!
//! Written once the receipt is durable, by the loop that made it so and before anyone is told of it: a reader that
//! hears of a worker's end then finds the line too. Nobody waits for journald, which starves with lent work when that
//! is squeezed: what it does not take is kept and tried again, and beyond some hundred lines dropped and counted.

use std::collections::VecDeque;

use loadline_model::{AttemptId, AttemptPhase, Receipt, Tier};
use loadline_policy::remarks::{Whose, whose};
use loadline_policy::settings::Slice;
use tracing::warn;

use super::Reconciler;
use crate::host::clock::Clock;
use crate::host::journal_send::{JournalSender, Remark, SendError};
use crate::host::systemd::Systemd;
use crate::host::users::Accounts;
use crate::ledger::{Happened, NodeEvent};

/// A line for each of so many workers, twice over.
const KEPT: usize = 1024;

/// What journald has not taken yet.
#[derive(Debug)]
pub(super) struct Remarks {
    journal: JournalSender,
    waiting: VecDeque<Remark>,
    /// Said once, not for each line.
    failed: bool,
    dropped: u64,
}

impl Remarks {
    pub(super) const fn new(journal: JournalSender) -> Self {
        Self {
            journal,
            waiting: VecDeque::new(),
            failed: false,
            dropped: 0,
        }
    }

    fn add(&mut self, remark: Remark) {
        // Their order is kept: the latest has to go.
        if self.waiting.len() < KEPT {
            self.waiting.push_back(remark);
        } else {
            self.drop_one("more wait than are kept");
        }
    }

    /// Hands over what waits, as far as journald takes it.
    pub(super) fn send(&mut self) {
        while let Some(remark) = self.waiting.front() {
            match self.journal.send(remark) {
                Ok(()) => self.failed = false,
                Err(SendError::Full { .. }) => return,
                // No journald, no log of any worker either.
                Err(problem) => self.drop_one(&crate::sentence::chain(&problem)),
            }
            self.waiting.pop_front();
        }
    }

    fn drop_one(&mut self, why: &str) {
        self.dropped += 1;
        if !std::mem::replace(&mut self.failed, true) {
            warn!(why, "receipts do not reach the workers' logs");
        }
    }

    /// Lines that did not get into a worker's log.
    pub(super) const fn dropped(&self) -> u64 {
        self.dropped
    }
}

impl<S: Systemd, C: Clock, A: Accounts> Reconciler<S, C, A> {
    /// These events are durable: what of them is a worker's business goes into its log.
    pub(super) fn remark_on(&mut self, events: &[NodeEvent]) {
        for event in events {
            if let Happened::Receipt(receipt) = &event.what {
                for attempt in self.concerned(receipt) {
                    self.remarks.add(Remark {
                        unit: attempt.unit_name(),
                        action: receipt.action.word(),
                        text: receipt.sentence.clone(),
                    });
                }
            }
        }
        self.remarks.send();
    }

    fn concerned(&self, receipt: &Receipt) -> Vec<AttemptId> {
        let slice = match whose(receipt) {
            Whose::Attempt(attempt) => return vec![attempt],
            Whose::Slice(slice) => slice,
            Whose::Nobody => return Vec::new(),
        };
        let attempts = self.state.attempts.iter();
        let running = attempts.filter(|(_, entry)| entry.life.phase() != AttemptPhase::Assigned);
        let inside =
            running.filter(|(attempt, _)| slice == Slice::Root || Slice::of(self.tier(**attempt)) == slice);
        inside.map(|(attempt, _)| *attempt).collect()
    }

    /// An orphan's is that of the slice in which it is found.
    pub(super) fn tier(&self, attempt: AttemptId) -> Tier {
        let entry = self.state.attempts.get(&attempt);
        let order = entry.and_then(|entry| entry.order.as_ref());
        let found = || {
            let burst = format!("{}/{}", self.slice_cgroup(Slice::Burst), attempt.unit_name());
            if self.cgroups.exists(&burst) {
                Tier::Burst
            } else {
                Tier::Standard
            }
        };
        order.map_or_else(found, |order| order.spec.tier)
    }
}
