//! What is: units from systemd's signals and listings, limits and use from cgroupfs, and the tick that looks
//! again at what nobody tells of.

use loadline_model::{AttemptId, CpuSet, Generation, Span, WallTime};
use loadline_policy::admission::Account;
use loadline_policy::allocation::Grant;
use loadline_policy::ceiling::Ceilings;
use loadline_policy::reconcile::{LedgerAttempt, ObservedUnit, UnitActive};
use loadline_policy::settings::{Slice, readings, worker_settings};
use tokio::sync::{mpsc, watch};
use tracing::{info, warn};

use super::ends::most;
use super::intake::{self, Lookup};
use super::state::{Extra, State};
use super::{Command, News, Node, Outside, Reconciler, Wakers, lock};
use crate::host::clock::Clock;
use crate::host::systemd::{Signal, Systemd, SystemdError, UnitState};
use crate::host::users::Accounts;
use crate::ledger::{Ledger, LedgerError, SetAside, StoredAttempt};
use crate::sentence::chain;
use crate::warden::wire;

/// A worker's use is read this often …
const SAMPLE_EVERY: Span = Span::from_secs(5);
/// … and each second while it is young: short ones should have a peak too.
const YOUNG: Span = Span::from_secs(10);
/// Its limits are read this often; at once after a reload of systemd.
const VERIFY_EVERY: Span = Span::from_secs(30);
/// Attempts that ended are known for a week, in case an order about them comes again …
const REMEMBER: Span = Span::from_secs(7 * 86_400);
/// … and dropped in this rhythm.
const PRUNE_EVERY_TICKS: u64 = 600;
/// What the brake hides in the kernel's files is asked of systemd this often: it costs PID 1 some milliseconds.
const TOLD_EVERY_TICKS: u64 = 10;
/// All units are listed this often, in case a signal was lost.
const LIST_EVERY_TICKS: u64 = 60;

/// What the ledger has of an earlier run.
struct Kept {
    attempts: Vec<StoredAttempt>,
    generation: Generation,
    ceilings: Ceilings,
    aside: SetAside,
}

fn read_back(ledger: &mut Ledger, now: WallTime) -> Result<Kept, LedgerError> {
    let readable = |order: &[u8]| wire::stored_order(order).map(drop).map_err(|e| chain(&e));
    let (attempts, mut aside) = ledger.attempts(now, readable)?;
    let (ceilings, torn) = ledger.ceilings(now)?;
    aside.sentences.extend(torn.sentences);
    Ok(Kept {
        attempts,
        generation: ledger.generation(),
        ceilings,
        aside,
    })
}

impl<S: Systemd, C: Clock, A: Accounts> Reconciler<S, C, A> {
    pub(super) async fn new(
        outside: Outside<S, C, A>,
        node: Node,
        commands: mpsc::Receiver<Command>,
        sequence: watch::Sender<loadline_model::Sequence>,
        found: SetAside,
    ) -> Result<(Self, Wakers), LedgerError> {
        let kept = read_back(&mut lock(&outside.ledger), outside.clock.wall())?;
        let wakers = Wakers {
            signals: outside.signals,
            records: outside.records,
            wanted: outside.headroom.wanted.clone(),
            commands,
        };
        let mut this = Self {
            systemd: outside.systemd,
            clock: outside.clock,
            local: outside.local,
            accounts: outside.accounts,
            cgroups: outside.cgroups,
            folder: outside.folder,
            floors: super::protect::Floors::new(outside.floors),
            costs: super::io_cost::Costs::new(outside.costs, outside.costs_kept),
            remarks: super::remarks::Remarks::new(outside.journal),
            ledger: outside.ledger,
            alive: outside.alive,
            state: State::new(outside.boot.clone(), kept.generation),
            boot: outside.boot,
            ruled: outside.ruled,
            prover: outside.prover,
            owner: node.clone(),
            node,
            would: Default::default(),
            units: Default::default(),
            live: Default::default(),
            records: Default::default(),
            words: Default::default(),
            absences: Default::default(),
            setpoints: Default::default(),
            yields: Default::default(),
            squeezed_for: String::new(),
            pressed_for: String::new(),
            headroom: outside.headroom,
            reaper: Default::default(),
            reap: None,
            starved: Default::default(),
            hastened: Default::default(),
            evict: None,
            evicted_at: None,
            told_at: Span::ZERO,
            taken: Default::default(),
            slices: Default::default(),
            used: Default::default(),
            in_flight: Default::default(),
            starts: Default::default(),
            readings: Default::default(),
            counters: Default::default(),
            blind: true,
            draining: false,
            renewed: false,
            ticks: 0,
            sequence,
        };
        for sentence in found.sentences.into_iter().chain(kept.aside.sentences) {
            this.set_aside(sentence);
        }
        this.state.prove = this.prover.standing();
        this.state.ceilings = kept.ceilings;
        this.begin_under_ceilings();
        for attempt in kept.attempts {
            this.restore(attempt).await;
        }
        Ok((this, wakers))
    }

    /// One attempt as the ledger has it.
    async fn restore(&mut self, stored: StoredAttempt) {
        let attempt = stored.attempt;
        if stored.life.ended().is_some() {
            self.state.ended.insert(attempt);
            return;
        }
        // Checked when the ledger was read.
        let order = stored
            .order
            .as_deref()
            .and_then(|order| wire::stored_order(order).ok().flatten());
        let lookup = match &order {
            Some(order) if !stored.life.may_have_unit() => look_up(&*self.accounts, &order.user).await,
            _ => Lookup::Missing,
        };
        let (account, person) = match lookup {
            Lookup::Known(person) => (intake::account(&person), Some(person)),
            Lookup::Missing | Lookup::Failed(_) => (Account::Missing, None),
        };
        let entry = LedgerAttempt {
            order,
            account,
            boot: stored.boot,
            life: stored.life,
            holding: stored.holding.map(Into::into),
            applied_cpus: stored.applied_cpus,
            peaks: stored.peaks,
        };
        let extra = Extra {
            orphan: stored.orphan,
            placement: stored.placement,
            account: person,
            ..Extra::default()
        };
        self.state.attempts.insert(attempt, entry);
        self.state.extras.insert(attempt, extra);
    }

    /// The first look at everything, and the first round.
    pub(super) async fn settle(&mut self) {
        self.weigh().await;
        self.establish_slices().await;
        self.protect().await;
        self.resync().await;
        self.read_records();
        self.slices_hit_limit();
        self.verify_all();
        self.look_at_use();
        self.round(News::default()).await;
        info!(workers = self.state.attempts.len(), blind = self.blind, "settled");
    }

    /// One of systemd's signals.
    pub(super) async fn signal(&mut self, signal: Signal) {
        (self.alive)();
        match signal {
            Signal::Unit(unit) => self.unit_changed(unit).await,
            Signal::Reloaded => {
                self.verify_all();
                self.protect().await;
            }
            Signal::Resync => {
                // After a lost bus nothing is held any more: every unit is looked at and held anew.
                self.live.clear();
                self.resync().await;
            }
        }
    }

    async fn unit_changed(&mut self, unit: UnitState) {
        let Some(attempt) = AttemptId::from_unit_name(&unit.unit) else {
            return;
        };
        if let Some(in_flight) = self.in_flight.get_mut(&attempt) {
            // Its start is not answered yet; what came of it is looked at together with the answer.
            if unit.active == UnitActive::Over {
                in_flight.over = Some(unit);
            }
            return;
        }
        self.take_in(attempt, unit).await;
    }

    /// A unit as it is now.
    pub(super) async fn take_in(&mut self, attempt: AttemptId, unit: UnitState) {
        if unit.active == UnitActive::Over {
            self.unit_over(attempt, &unit).await;
        } else {
            let observed = ObservedUnit {
                active: unit.active,
                end: None,
                // What nobody has a record of is adopted with what its cgroup says.
                limits: (!self.state.knows(attempt)).then(|| self.cgroups.limits(&self.cgroup(attempt))),
            };
            self.units.insert(attempt, observed);
        }
        self.live.insert(attempt, unit);
    }

    /// Looks at all units anew. Without a full listing nothing is decided.
    pub(super) async fn resync(&mut self) {
        match self.look_at_all().await {
            Ok(()) => self.blind = false,
            Err(problem) => {
                self.blind = true;
                warn!(
                    error = &problem as &dyn std::error::Error,
                    "units cannot be listed; trying again"
                );
            }
        }
    }

    async fn look_at_all(&mut self) -> Result<(), SystemdError> {
        let listed = self.systemd.workers().await?;
        let mut seen = Vec::with_capacity(listed.len());
        for (unit, active) in listed {
            let Some(attempt) = AttemptId::from_unit_name(&unit) else {
                continue;
            };
            seen.push(attempt);
            let same = self
                .units
                .get(&attempt)
                .is_some_and(|known| known.active == active);
            (self.alive)();
            if self.in_flight.contains_key(&attempt) || (same && self.live.contains_key(&attempt)) {
                continue;
            }
            // Held first: it may end between the two calls, and then only a held unit says how.
            self.systemd.hold(&unit).await.or_else(gone)?;
            if let Some(state) = self.systemd.observe(&unit).await? {
                self.take_in(attempt, state).await;
            }
        }
        self.units.retain(|attempt, unit| {
            seen.contains(attempt)
                || self.in_flight.contains_key(attempt)
                || (unit.active == UnitActive::Over && unit.end.is_some())
        });
        Ok(())
    }

    /// Once a second.
    pub(super) async fn tick(&mut self) {
        (self.alive)();
        self.ticks += 1;
        if self.ticks.is_multiple_of(PRUNE_EVERY_TICKS) {
            self.prune();
        }
        if self.blind || self.ticks.is_multiple_of(LIST_EVERY_TICKS) {
            self.resync().await;
        }
        if self.is_behind() && self.may_follow() {
            self.follow().await;
        }
        self.look_at_slices().await;
        if self.ticks.is_multiple_of(TOLD_EVERY_TICKS) {
            self.look_what_systemd_was_told().await;
        }
        self.remarks.send();
        self.look_for_need();
        self.look_who_starves();
        self.tell_of_taken();
        self.report_slow_starts();
        self.sample();
        self.verify_due();
    }

    /// Attempts that ended long ago.
    fn prune(&mut self) {
        let before = WallTime(self.clock.wall().0.saturating_sub_unsigned(REMEMBER.0));
        let old = lock(&self.ledger).ended_before(before);
        match old {
            Ok(old) => old.into_iter().for_each(|attempt| self.state.forget(attempt)),
            Err(problem) => warn!(error = &problem as &dyn std::error::Error, "prune"),
        }
    }

    /// Reads what workers use. Memory is the kernel's own peak; what happens between two reads is in it.
    fn sample(&mut self) {
        let now = self.clock.monotonic();
        let due: Vec<AttemptId> = self
            .state
            .extras
            .iter()
            .filter_map(|(attempt, extra)| {
                let young = self
                    .state
                    .attempts
                    .get(attempt)
                    .is_some_and(|entry| is_young(entry, now));
                (young || now.minus(extra.sampled) >= SAMPLE_EVERY).then_some(*attempt)
            })
            .collect();
        for attempt in due {
            self.sample_one(attempt, now);
        }
    }

    pub(super) fn sample_one(&mut self, attempt: AttemptId, now: Span) {
        let peaks = self.cgroups.peaks(&self.cgroup(attempt));
        if let Some(entry) = self.state.attempts.get_mut(&attempt) {
            entry.peaks = most(entry.peaks, peaks);
        }
        if let Some(extra) = self.state.extras.get_mut(&attempt) {
            extra.sampled = now;
        }
    }

    fn verify_due(&mut self) {
        let now = self.clock.monotonic();
        let due = self
            .state
            .extras
            .iter()
            .filter(|(_, extra)| now.minus(extra.verified) >= VERIFY_EVERY);
        let due: Vec<AttemptId> = due.map(|(attempt, _)| *attempt).collect();
        due.into_iter().for_each(|attempt| self.verify(attempt));
    }

    /// Reads all limits back, for this round's decisions.
    pub(super) fn verify_all(&mut self) {
        self.read_slices();
        let all: Vec<AttemptId> = self.state.attempts.keys().copied().collect();
        all.into_iter().for_each(|attempt| self.verify(attempt));
    }

    /// Reads one worker's limits back.
    pub(super) fn verify(&mut self, attempt: AttemptId) {
        self.read_back(attempt, self.meant_cpus(attempt));
    }

    /// Reads one worker's limits back, and compares its CPUs with these.
    pub(super) fn read_back(&mut self, attempt: AttemptId, meant: Option<CpuSet>) {
        let limits = self.cgroups.limits(&self.cgroup(attempt));
        let (Some(unit), Some(entry)) = (self.units.get_mut(&attempt), self.state.attempts.get(&attempt))
        else {
            return;
        };
        if unit.active != UnitActive::Running {
            return;
        }
        if let Some(order) = &entry.order {
            let pinned = self.node.pinning.is_cpuset();
            let holding = entry.holding.as_ref().filter(|_| pinned);
            let nodes = holding.map(|holding| holding.memory_nodes.clone());
            let settings = worker_settings(attempt, &order.spec, meant, nodes);
            self.readings
                .insert(settings.unit.clone(), readings(&settings, &limits));
        }
        unit.limits = Some(limits);
        if let Some(extra) = self.state.extras.get_mut(&attempt) {
            extra.verified = self.clock.monotonic();
        }
    }

    /// Reads back what the kernel does with our slices.
    pub(super) fn read_slices(&mut self) {
        self.slices.clear();
        for slice in Slice::ALL {
            let cgroup = self.slice_cgroup(slice);
            if self.cgroups.exists(&cgroup) {
                let mut observed = self.cgroups.limits(&cgroup);
                if slice == Slice::Root {
                    observed.io_max = self.cgroups.io_max(&cgroup, &self.costs.disks);
                }
                self.forgive_the_brake(slice, &mut observed);
                self.slices.insert(slice, observed);
            }
        }
        for settings in self.slices_under(&self.setpoints) {
            if let Some(observed) = self.slices.get(&settings.slice) {
                self.readings
                    .insert(settings.slice.unit().into(), readings(&settings, observed));
            }
        }
    }

    /// The CPUs that a worker is to run on; none where CPUs are not pinned.
    pub(super) fn meant_cpus(&self, attempt: AttemptId) -> Option<CpuSet> {
        let entry = self.state.attempts.get(&attempt)?;
        let pinned = self.node.pinning.is_cpuset();
        match &entry.holding.as_ref().filter(|_| pinned)?.grant {
            Grant::Exclusive(cpus) => Some(cpus.clone()),
            Grant::Shared => {
                let holdings = self
                    .state
                    .attempts
                    .values()
                    .filter_map(|entry| entry.holding.as_ref());
                let pool = holdings.fold(self.node.line.lendable.clone(), |pool, holding| {
                    match &holding.grant {
                        Grant::Exclusive(cpus) => pool.difference(cpus),
                        Grant::Shared => pool,
                    }
                });
                Some(pool)
            }
        }
    }

    pub(super) fn memory_held(&self) -> loadline_model::Bytes {
        let holdings = self
            .state
            .attempts
            .values()
            .filter_map(|entry| entry.holding.as_ref());
        holdings.fold(loadline_model::Bytes::ZERO, |sum, holding| {
            sum.plus(holding.memory)
        })
    }

    pub(super) fn slice_cgroup(&self, slice: Slice) -> String {
        match slice {
            Slice::Root => format!("/{}", slice.unit()),
            Slice::Standard | Slice::Burst => format!("/{}/{}", Slice::Root.unit(), slice.unit()),
        }
    }

    /// A worker's cgroup; an orphan's is where it is found.
    pub(super) fn cgroup(&self, attempt: AttemptId) -> String {
        let slice = Slice::of(self.tier(attempt));
        format!("{}/{}", self.slice_cgroup(slice), attempt.unit_name())
    }
}

/// A unit that is not there any more cannot be held, and need not be.
fn gone(problem: SystemdError) -> Result<(), SystemdError> {
    match problem {
        SystemdError::NoSuchUnit { .. } => Ok(()),
        other => Err(other),
    }
}

fn is_young(entry: &LedgerAttempt, now: Span) -> bool {
    use loadline_policy::attempt::Life;
    match &entry.life {
        Life::Running { clock } => now.minus(clock.counted_to) < YOUNG && clock.spent < YOUNG,
        _ => false,
    }
}

/// Asks the name service about an account.
pub async fn look_up<A: Accounts>(accounts: &A, user: &str) -> Lookup {
    match accounts.lookup(user).await {
        Ok(Some(person)) => Lookup::Known(person),
        Ok(None) => Lookup::Missing,
        Err(problem) => Lookup::Failed(format!("{}; try again later", chain(&problem))),
    }
}
