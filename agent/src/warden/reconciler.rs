//! The warden's one loop: observe → decide → apply → report.
//!
//! Everything that changes an attempt goes through this task, one thing after the other. It is woken by orders,
//! systemd's signals, end records and a tick; each round looks at the whole state and asks
//! [`loadline_policy::reconcile`] what to do. Starting a worker takes as long as it takes (seconds in a starved
//! slice), so starts run beside the loop and come back as news.
//!
//! The headroom loop stands beside this one, in a thread of its own: it decides [`Setpoints`], uses the brake, and
//! wakes this loop with them.

mod apply;
mod ceiling;
mod ends;
mod headroom;
mod intake;
mod io_cost;
mod news;
mod node;
mod observe;
mod protect;
mod proving;
mod reap;
mod remarks;
mod starts;
mod state;
mod status;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use loadline_model::{AttemptId, Sequence, Span};
use loadline_policy::allocation::Machine;
use loadline_policy::attempt::{BootId, Moment};
use loadline_policy::node_policy::{LocalTimes, NodePolicy};
use loadline_policy::reap::{Budget, Reaper};
use loadline_policy::reconcile::{Absences, AtOnce, EndRecord, ObservedUnit, Plan, View, reconcile};
use loadline_policy::settings::{LimitReading, Observed, Setpoints, Slice};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tracing::{error, warn};

use super::headroom::Decisions;
use crate::host::cgroup::{CgroupFs, Usage};
use crate::host::clock::Clock;
use crate::host::ended::EndFolder;
use crate::host::io_cost::CostFiles;
use crate::host::journal_send::JournalSender;
use crate::host::systemd::{Signal, Systemd, UnitState};
use crate::host::users::Accounts;
use crate::ledger::{Ledger, LedgerError};

pub use ceiling::CeilingError;
pub use intake::{Incoming, Lookup};
pub use io_cost::CostState;
pub use news::Command;
pub use node::Node;
pub use observe::look_up;
pub use proving::{Doing, ProveSeen, Prover, Seen};
pub use status::{Counters, Snapshot};

use ceiling::Would;
use ends::Words;
use headroom::TakenTold;
use io_cost::Costs;
use news::{News, Wakers};
use protect::Floors;
use remarks::Remarks;
use starts::{InFlight, StartDone};
use state::State;

/// The slower tick: use, time limits, limits. The headroom loop brings its own.
const TICK: Duration = Duration::from_secs(1);

/// The ledger, shared with the socket, which reads events from it.
pub type SharedLedger = Arc<Mutex<Ledger>>;

/// Locks the ledger; a panic elsewhere cannot leave it half changed, since changes are transactions.
pub fn lock(ledger: &SharedLedger) -> MutexGuard<'_, Ledger> {
    ledger.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The moment by the clocks that a policy's windows go by.
pub type LocalClock = Box<dyn Fn(&NodePolicy) -> LocalTimes + Send + Sync>;

/// The outside world, as the reconciler is given it.
pub struct Outside<S, C, A> {
    /// systemd.
    pub systemd: Arc<S>,
    /// Its signals.
    pub signals: mpsc::Receiver<Signal>,
    /// The clocks.
    pub clock: C,
    /// Local time.
    pub local: LocalClock,
    /// The accounts.
    pub accounts: Arc<A>,
    /// The cgroups.
    pub cgroups: CgroupFs,
    /// End records.
    pub folder: EndFolder,
    /// The workers' journal.
    pub journal: JournalSender,
    /// Where it is kept what production's units had before their floors were set.
    pub floors: PathBuf,
    /// The kernel's io.cost.
    pub costs: Arc<dyn CostFiles>,
    /// Where it is kept what was there before the owner's was written.
    pub costs_kept: PathBuf,
    /// Says that the folder has changed.
    pub records: mpsc::Receiver<()>,
    /// The ledger.
    pub ledger: SharedLedger,
    /// What the headroom loop says.
    pub headroom: Decisions,
    /// The boot that is running.
    pub boot: BootId,
    /// Tells the service manager that the loop turns.
    pub alive: Box<dyn Fn() + Send>,
    /// Told at once what this node may do, whenever that changed: the brake does not wait for this loop.
    pub ruled: Box<dyn Fn(&Node) + Send>,
    /// Who runs the tests that the fleet orders.
    pub prover: Box<dyn Prover>,
    /// Told once everything that ran before is taken over.
    pub settled: Option<oneshot::Sender<()>>,
}

impl<S, C, A> fmt::Debug for Outside<S, C, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outside")
            .field("boot", &self.boot)
            .finish_non_exhaustive()
    }
}

/// The loop's state.
pub struct Reconciler<S, C, A> {
    systemd: Arc<S>,
    clock: C,
    local: LocalClock,
    accounts: Arc<A>,
    cgroups: CgroupFs,
    folder: EndFolder,
    ledger: SharedLedger,
    boot: BootId,
    alive: Box<dyn Fn() + Send>,
    ruled: Box<dyn Fn(&Node) + Send>,
    prover: Box<dyn Prover>,
    /// As its owner has it.
    owner: Node,
    /// Under what operators say.
    node: Node,
    state: State,
    units: BTreeMap<AttemptId, ObservedUnit>,
    live: BTreeMap<AttemptId, UnitState>,
    records: BTreeMap<AttemptId, EndRecord>,
    words: Words,
    floors: Floors,
    costs: Costs,
    remarks: Remarks,
    absences: Absences,
    /// In force.
    setpoints: Setpoints,
    /// What the headroom loop wanted last; in shadow mode nothing of it is in force.
    yields: Setpoints,
    /// Why tiers are squeezed, as a clause.
    squeezed_for: String,
    /// Why lent work last had less than its line, as a clause.
    pressed_for: String,
    headroom: Decisions,
    reaper: Reaper,
    /// In force for those who are being ended.
    reap: Option<Budget>,
    starved: reap::Starved,
    /// Who goes before all others of its slice, until it is gone.
    hastened: BTreeSet<AttemptId>,
    told_at: Span,
    /// Why someone has to go, for the next decision …
    evict: Option<String>,
    /// … and when that was last so.
    evicted_at: Option<Span>,
    taken: TakenTold,
    would: Would,
    slices: BTreeMap<Slice, Observed>,
    /// What each slice uses, as last read.
    used: BTreeMap<Slice, Usage>,
    in_flight: BTreeMap<AttemptId, InFlight>,
    starts: JoinSet<StartDone>,
    readings: BTreeMap<String, Vec<LimitReading>>,
    counters: Counters,
    /// True while not all units are known: then nothing is decided.
    blind: bool,
    draining: bool,
    /// The node was replaced: its slices get their new limits as a matter of course, not as a repair.
    renewed: bool,
    ticks: u64,
    sequence: watch::Sender<Sequence>,
}

impl<S, C, A> fmt::Debug for Reconciler<S, C, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reconciler")
            .field("attempts", &self.state.attempts.len())
            .finish_non_exhaustive()
    }
}

impl<S: Systemd, C: Clock, A: Accounts> Reconciler<S, C, A> {
    /// Takes over the node: reads the ledger, finds what runs, and turns until `stop` resolves. Workers go on
    /// after that.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub async fn run(
        mut outside: Outside<S, C, A>,
        node: Node,
        commands: mpsc::Receiver<Command>,
        sequence: watch::Sender<Sequence>,
        found: crate::ledger::SetAside,
        stop: impl Future<Output = ()>,
    ) -> Result<(), LedgerError> {
        let settled = outside.settled.take();
        let (mut this, mut wakers) = Self::new(outside, node, commands, sequence, found).await?;
        this.settle().await;
        if let Some(settled) = settled {
            // Whoever waited for it may be gone.
            let _ = settled.send(());
        }
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        tokio::pin!(stop);
        loop {
            // Every arm is cancel-safe: channels, a timer, a join set; nothing is half done when another wins.
            let mut news = News::default();
            tokio::select! {
                () = &mut stop => return Ok(()),
                Some(command) = wakers.commands.recv() => {
                    this.command(command, &mut news);
                    while let Ok(command) = wakers.commands.try_recv() {
                        this.command(command, &mut news);
                    }
                }
                Some(signal) = wakers.signals.recv() => {
                    this.signal(signal).await;
                    while let Ok(signal) = wakers.signals.try_recv() {
                        this.signal(signal).await;
                    }
                }
                Some(()) = wakers.records.recv() => this.read_records(),
                Ok(()) = wakers.wanted.changed(), if this.may_follow() => this.follow().await,
                Some(done) = this.starts.join_next(), if !this.starts.is_empty() => this.start_done(done).await,
                _ = tick.tick() => this.tick().await,
            }
            let replaced = std::mem::take(&mut news.replaced);
            this.round(news).await;
            for reply in replaced {
                // Whoever asked may be gone by now.
                let _ = reply.send(());
            }
        }
    }

    fn now(&self) -> Moment {
        Moment {
            boot: self.clock.monotonic(),
            wall: self.clock.wall(),
        }
    }

    fn command(&mut self, command: Command, news: &mut News) {
        match command {
            Command::Apply { orders, reply } => {
                news.orders.extend(orders);
                news.waiting.push(reply);
            }
            Command::Ceiling { wish, reply } => news.wishes.push((wish, reply)),
            Command::Proved(seen) => news.seen.push(seen),
            // Whoever asked may be gone by now.
            Command::Status { reply } => drop(reply.send(self.snapshot())),
            Command::Replace(node, reply) => {
                news.replaced.push(reply);
                let week = std::mem::replace(&mut self.owner, *node).week;
                self.owner.set_week(week);
                self.rule();
            }
            // No limit follows from it: the next round decides by it who else may start.
            Command::Week(week) => {
                self.owner.set_week(week);
                self.node.set_week(week);
            }
            Command::Drain { reply } => drop(reply.send(self.drain())),
        }
    }

    /// One round: new orders, decisions, writing down, doing. What could not be made durable is not answered
    /// as durable and starts nothing; stopping and repairing go on.
    async fn round(&mut self, news: News) {
        self.hold_prove();
        let before = news.wants_durability().then(|| self.state.clone());
        if let Some(before) = before {
            let now = self.now();
            intake::take(&mut self.state, news.orders, &self.boot.0.clone(), now);
            let wished = self.take_wishes(news.wishes);
            let seen = self.take_seen(news.seen);
            let doings = self.take_proves();
            if self.state.ceilings != self.node.ceilings {
                self.rule();
            }
            let plan = self.decide();
            let provisional = self.write_down(&plan);
            match self.flush() {
                Ok(()) => {
                    let generation = lock(&self.ledger).generation();
                    for reply in news.waiting {
                        drop(reply.send(Ok(generation)));
                    }
                    for reply in wished {
                        drop(reply.send(Ok(())));
                    }
                    self.prove(doings, seen);
                    self.end_at_once(&plan);
                    self.renew().await;
                    return self.carry_out(plan, provisional, true).await;
                }
                Err(problem) => {
                    // As if they had never come: the agent will bring them again.
                    self.state = before;
                    if self.state.ceilings != self.node.ceilings {
                        self.put_in_force();
                    }
                    let problem = Arc::new(problem);
                    for reply in news.waiting {
                        drop(reply.send(Err(problem.clone())));
                    }
                    for reply in wished {
                        drop(reply.send(Err(CeilingError::Ledger(problem.clone()))));
                    }
                }
            }
        }
        if self.renewed {
            self.end_first().await;
        }
        self.renew().await;
        let plan = self.decide();
        let provisional = self.write_down(&plan);
        let durable = self.flush().is_ok();
        self.end_at_once(&plan);
        self.carry_out(plan, provisional, durable).await;
    }

    /// The slices get the limits of a node that became another one, and production's units its floors.
    async fn renew(&mut self) {
        if std::mem::take(&mut self.renewed) {
            self.weigh().await;
            self.renewed = false;
            self.establish_slices().await;
            self.protect().await;
        }
    }

    /// Asks policy what to do about everything that is known.
    fn decide(&mut self) -> Plan {
        let now = self.now();
        if !self.blind {
            self.absences.observe(&self.state.attempts, &self.units, now);
        }
        let local = (self.local)(&self.node.policy);
        let evict = self.evict.take();
        let at_once = self.at_once();
        let view = View {
            policy: &self.node.policy,
            machine: Machine {
                topology: &self.node.topology,
                line: &self.node.line,
                pinning: &self.node.pinning,
            },
            setpoints: &self.setpoints,
            squeezed_for: &self.squeezed_for,
            at_once: AtOnce {
                why: &self.pressed_for,
                ..at_once
            },
            reap: self.reap,
            hung: &self.starved.hung,
            evict: evict.as_deref(),
            local: &local,
            boot: &self.boot,
            now,
            attempts: &self.state.attempts,
            ended: &self.state.ended,
            units: &self.units,
            records: &self.records,
            absences: &self.absences,
            slices: &self.slices,
        };
        let mut plan = reconcile(&view);
        if self.blind {
            // Not all units are known, and nothing may follow from a unit that only seems to be missing.
            plan.actions.clear();
        }
        if !self.blind {
            self.tell_would_evict(&plan.would_evict, evict.as_deref());
        }
        for (attempt, what) in &plan.contradictions {
            warn!(%attempt, what, "contradiction");
        }
        plan
    }

    /// Makes everything durable that is not.
    fn flush(&mut self) -> Result<(), LedgerError> {
        let change = self.state.change();
        if change.is_empty() {
            return Ok(());
        }
        let (committed, last) = {
            let mut ledger = lock(&self.ledger);
            (ledger.commit(&change), ledger.last_sequence())
        };
        if let Err(problem) = committed {
            self.counters.ledger_failures += 1;
            error!(error = &problem as &dyn std::error::Error, "not durable");
            return Err(problem);
        }
        let over = self.state.durable();
        // Under a ceiling the slices hold what workers were promised, and less once they are gone: no repair.
        self.renewed |= !over.is_empty() && self.node.line.ceiling.is_some();
        self.remark_on(&change.events);
        self.sequence.send_replace(last);
        self.laid_to_rest(&over);
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod tests;
