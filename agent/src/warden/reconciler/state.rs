//! What the reconciler knows of attempts, and what of it is not durable yet.
//!
//! The state in memory may run ahead of the ledger (a full disk), but nothing that needs durability is done or
//! acknowledged before [`State::take_change`] has been committed.

use std::collections::{BTreeMap, BTreeSet};

use loadline_model::{AttemptId, AttemptPhase, Generation, Receipt, Span};
use loadline_policy::attempt::{BootId, Event, Life, Moment, Outcome, step};
use loadline_policy::ceiling::{Ceiling, Ceilings, Setter};
use loadline_policy::prove::ordered::{ProveOrder, Standing};
use loadline_policy::reconcile::LedgerAttempt;
use tracing::warn;

use crate::host::users::Account;
use crate::ledger::{AttemptReport, Change, Happened, NodeEvent, Placement, StoredAttempt};

/// What is known of an attempt beside what decisions need.
#[derive(Debug, Clone, Default)]
pub(super) struct Extra {
    /// The signed order, until the ledger has it.
    pub(super) signed: Option<Vec<u8>>,
    /// Found without a record of it.
    pub(super) orphan: bool,
    /// Where it runs.
    pub(super) placement: Option<Placement>,
    /// Its account, looked up when its order came.
    pub(super) account: Option<Account>,
    /// When its use was last read, since boot.
    pub(super) sampled: Span,
    /// When its limits were last read, since boot.
    pub(super) verified: Span,
}

/// Changes that are not durable yet.
#[derive(Debug, Clone, Default)]
struct Pending {
    dirty: BTreeSet<AttemptId>,
    over: BTreeMap<AttemptId, StoredAttempt>,
    forgotten: Vec<AttemptId>,
    events: Vec<NodeEvent>,
    generation: Option<Generation>,
    ceilings: bool,
}

/// All attempts this node knows.
#[derive(Debug, Clone)]
pub(super) struct State {
    boot: BootId,
    /// Not ended.
    pub(super) attempts: BTreeMap<AttemptId, LedgerAttempt>,
    pub(super) extras: BTreeMap<AttemptId, Extra>,
    /// Ended.
    pub(super) ended: BTreeSet<AttemptId>,
    /// Orders up to here are known.
    pub(super) generation: Generation,
    /// What operators let this node do.
    pub(super) ceilings: Ceilings,
    /// The fleet's test that is not over. Whoever runs it remembers it.
    pub(super) prove: Option<Standing>,
    /// Orders about tests, not decided on yet.
    pub(super) proves: Vec<ProveOrder>,
    pending: Pending,
}

impl State {
    pub(super) fn new(boot: BootId, generation: Generation) -> Self {
        Self {
            boot,
            attempts: BTreeMap::new(),
            extras: BTreeMap::new(),
            ended: BTreeSet::new(),
            generation,
            ceilings: Ceilings::default(),
            prove: None,
            proves: Vec::new(),
            pending: Pending::default(),
        }
    }

    /// True if the attempt was ever ordered or found here.
    pub(super) fn knows(&self, attempt: AttemptId) -> bool {
        self.attempts.contains_key(&attempt) || self.ended.contains(&attempt)
    }

    /// True if its end is durable.
    pub(super) fn is_over(&self, attempt: AttemptId) -> bool {
        self.ended.contains(&attempt) && !self.pending.over.contains_key(&attempt)
    }

    /// Adds an attempt.
    pub(super) fn insert(&mut self, attempt: AttemptId, entry: LedgerAttempt, extra: Extra) {
        self.attempts.insert(attempt, entry);
        self.extras.insert(attempt, extra);
        self.pending.dirty.insert(attempt);
    }

    /// Notes that something of it is to be written again.
    pub(super) fn touch(&mut self, attempt: AttemptId) {
        if self.attempts.contains_key(&attempt) {
            self.pending.dirty.insert(attempt);
        }
    }

    /// Lets something happen to an attempt.
    pub(super) fn happen(&mut self, attempt: AttemptId, event: &Event, now: Moment) {
        let Some(entry) = self.attempts.get(&attempt) else {
            return;
        };
        let spec = entry.order.as_ref().map(|order| &order.spec);
        match step(&entry.life, event, spec, now) {
            Outcome::Moved(life) | Outcome::Stop(life) => self.put(attempt, life, now),
            Outcome::Unchanged => {}
            Outcome::Contradiction(what) => warn!(%attempt, what, "contradiction"),
        }
    }

    /// Writes down where an attempt stands now, and tells of it where that is news to the fleet.
    pub(super) fn put(&mut self, attempt: AttemptId, life: Life, now: Moment) {
        let Some(entry) = self.attempts.get_mut(&attempt) else {
            return;
        };
        let (before, phase) = (entry.life.phase(), life.phase());
        entry.life = life;
        if phase != before && !matches!(phase, AttemptPhase::Assigned | AttemptPhase::Starting) {
            self.tell_phase(attempt, now);
        }
        self.pending.dirty.insert(attempt);
        if phase == AttemptPhase::Ended {
            self.close(attempt);
        }
    }

    /// Tells the fleet where an attempt stands.
    pub(super) fn tell_phase(&mut self, attempt: AttemptId, now: Moment) {
        if let Some(report) = self.report(attempt) {
            self.tell(Happened::Attempt(report), now);
        }
    }

    /// Tells the fleet something.
    pub(super) fn tell(&mut self, what: Happened, now: Moment) {
        self.pending.events.push(NodeEvent {
            boot_id: self.boot.0.clone(),
            at: now.wall,
            what,
        });
    }

    /// Tells the fleet what was done to whom.
    pub(super) fn receipt(&mut self, receipt: Receipt, now: Moment) {
        self.tell(Happened::Receipt(receipt), now);
    }

    /// Where an attempt stands, as the fleet is told.
    pub(super) fn report(&self, attempt: AttemptId) -> Option<AttemptReport> {
        let entry = self.attempts.get(&attempt)?;
        let extra = self.extras.get(&attempt);
        Some(AttemptReport {
            attempt,
            job: entry.order.as_ref().map(|order| order.job),
            phase: entry.life.phase(),
            placement: extra.and_then(|extra| extra.placement.clone()),
            ended: entry.life.ended().cloned(),
            orphan: extra.is_some_and(|extra| extra.orphan),
        })
    }

    /// Orders up to this one are known.
    pub(super) fn advance(&mut self, generation: Generation) {
        self.generation = generation;
        self.pending.generation = Some(generation);
    }

    /// An operator has spoken.
    pub(super) fn set_ceiling(&mut self, setter: Setter, ceiling: Ceiling) {
        self.ceilings.set(setter, ceiling);
        self.pending.ceilings = true;
    }

    /// An attempt that ended long ago need not be known any more.
    pub(super) fn forget(&mut self, attempt: AttemptId) {
        self.ended.remove(&attempt);
        self.pending.forgotten.push(attempt);
    }

    fn close(&mut self, attempt: AttemptId) {
        if let Some(stored) = self.stored(attempt) {
            self.pending.over.insert(attempt, stored);
        }
        self.pending.dirty.remove(&attempt);
        self.attempts.remove(&attempt);
        self.ended.insert(attempt);
    }

    fn stored(&self, attempt: AttemptId) -> Option<StoredAttempt> {
        let entry = self.attempts.get(&attempt)?;
        let extra = self.extras.get(&attempt).cloned().unwrap_or_default();
        Some(StoredAttempt {
            attempt,
            order: extra.signed,
            boot: entry.boot.clone(),
            life: entry.life.clone(),
            holding: entry.holding.as_ref().map(Into::into),
            applied_cpus: entry.applied_cpus.clone(),
            peaks: entry.peaks,
            placement: extra.placement,
            orphan: extra.orphan,
        })
    }

    /// What is to be made durable.
    pub(super) fn change(&self) -> Change {
        let dirty = self
            .pending
            .dirty
            .iter()
            .filter_map(|attempt| self.stored(*attempt));
        Change {
            attempts: dirty.chain(self.pending.over.values().cloned()).collect(),
            forgotten: self.pending.forgotten.clone(),
            events: self.pending.events.clone(),
            generation: self.pending.generation,
            ceilings: self.pending.ceilings.then(|| self.ceilings.clone()),
        }
    }

    /// All of [`State::change`] is durable. Gives the attempts whose end is now.
    pub(super) fn durable(&mut self) -> Vec<AttemptId> {
        let pending = std::mem::take(&mut self.pending);
        for attempt in &pending.dirty {
            // The ledger keeps the order from its first write.
            if let Some(extra) = self.extras.get_mut(attempt) {
                extra.signed = None;
            }
        }
        let over: Vec<AttemptId> = pending.over.into_keys().collect();
        for attempt in &over {
            self.extras.remove(attempt);
        }
        over
    }
}
