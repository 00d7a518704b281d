//! Starting workers, beside the loop: asked once, answered when systemd has decided.

use loadline_model::{AttemptId, Span};
use loadline_policy::allocation::Holding;
use loadline_policy::attempt::{Event, Life, WorkOrder};
use loadline_policy::reconcile::{ObservedUnit, UnitActive};
use loadline_policy::settings::{WorkerSettings, is_exclusive};
use tokio::task::JoinError;
use tracing::{error, info, warn};

use super::Reconciler;
use super::intake::Lookup;
use super::observe::look_up;
use crate::host::clock::Clock;
use crate::host::systemd::{Outcome, Started, Systemd, SystemdError, UnitState};
use crate::host::users::{Account, Accounts};
use crate::ledger::Placement;
use crate::sentence::chain;
use crate::warden::unit::worker_unit;

/// A start that takes longer is told to the fleet as starting.
const SLOW: Span = Span::from_secs(1);

/// A start that systemd has not answered yet.
#[derive(Debug)]
pub(super) struct InFlight {
    since: Span,
    told: bool,
    /// It ran and is over already, before the answer was looked at.
    pub(super) over: Option<UnitState>,
}

/// A start that is answered.
#[derive(Debug)]
pub(super) struct StartDone {
    attempt: AttemptId,
    answer: Answer,
}

#[derive(Debug)]
enum Answer {
    Systemd(Result<Started, SystemdError>),
    /// It was never asked: the account is gone.
    NoAccount(String),
}

/// A start that is decided and written down.
#[derive(Debug)]
pub(super) struct Start {
    pub(super) attempt: AttemptId,
    pub(super) settings: WorkerSettings,
}

impl<S: Systemd, C: Clock, A: Accounts> Reconciler<S, C, A> {
    /// Writes down that systemd is about to be asked.
    pub(super) fn write_start(&mut self, attempt: AttemptId, life: Life, holding: Holding) {
        let now = self.now();
        if let Some(entry) = self.state.attempts.get_mut(&attempt) {
            entry.holding = Some(holding);
        }
        self.state.put(attempt, life, now);
    }

    /// Takes it back: it was not durable, or it was not safe. The next round decides anew.
    pub(super) fn unwrite_start(&mut self, attempt: AttemptId) {
        let now = self.now();
        if let Some(entry) = self.state.attempts.get_mut(&attempt) {
            entry.holding = None;
        }
        self.state.put(attempt, Life::Accepted, now);
    }

    /// Asks systemd, beside the loop.
    pub(super) fn ask(&mut self, start: Start) {
        let Start { attempt, settings } = start;
        let Some(order) = self
            .state
            .attempts
            .get(&attempt)
            .and_then(|entry| entry.order.clone())
        else {
            return;
        };
        let since = self.clock.monotonic();
        self.in_flight.insert(
            attempt,
            InFlight {
                since,
                told: false,
                over: None,
            },
        );
        let waiting = ObservedUnit {
            active: UnitActive::Starting,
            end: None,
            limits: None,
        };
        self.units.insert(attempt, waiting);
        let known = self
            .state
            .extras
            .get(&attempt)
            .and_then(|extra| extra.account.clone());
        let (systemd, accounts) = (self.systemd.clone(), self.accounts.clone());
        self.starts.spawn(async move {
            let answer = match account(&*accounts, known, &order).await {
                Ok(person) => {
                    let unit = worker_unit(&order, &person, settings);
                    Answer::Systemd(systemd.start_worker(&unit).await)
                }
                Err(sentence) => Answer::NoAccount(sentence),
            };
            StartDone { attempt, answer }
        });
    }

    /// systemd has decided.
    pub(super) async fn start_done(&mut self, done: Result<StartDone, JoinError>) {
        let StartDone { attempt, answer } = match done {
            Ok(done) => done,
            Err(problem) => {
                // Which one it was is not known any more; a look at all units tells.
                error!(error = &problem as &dyn std::error::Error, "a start panicked");
                self.in_flight.clear();
                return self.resync().await;
            }
        };
        let over = self
            .in_flight
            .remove(&attempt)
            .and_then(|in_flight| in_flight.over);
        self.units.remove(&attempt);
        match answer {
            Answer::Systemd(Ok(Started {
                outcome: Outcome::Done,
                state,
            })) => {
                self.counters.starts_ok += 1;
                self.started(attempt, state, over).await;
            }
            Answer::Systemd(Ok(Started { outcome, state })) => {
                self.counters.starts_failed += 1;
                self.not_started(attempt, outcome, over.or(state)).await;
            }
            Answer::Systemd(Err(SystemdError::UnitExists { unit })) => {
                // Asked by a warden before this one, whose request was still on its way.
                info!(unit, "it is there already");
                self.resync().await;
            }
            Answer::Systemd(Err(problem)) if problem.nothing_done() => {
                self.counters.starts_failed += 1;
                self.fail(
                    attempt,
                    format!("{}; the node's journal says more", chain(&problem)),
                );
            }
            Answer::Systemd(Err(problem)) => {
                // Perhaps it runs. If so, systemd will tell; if not, it will be missed.
                warn!(%attempt, error = &problem as &dyn std::error::Error, "not known whether it started");
                self.resync().await;
            }
            Answer::NoAccount(sentence) => {
                self.counters.starts_failed += 1;
                self.fail(attempt, sentence);
            }
        }
        self.read_records();
    }

    async fn started(&mut self, attempt: AttemptId, state: Option<UnitState>, over: Option<UnitState>) {
        let now = self.now();
        let running = state.filter(|state| state.active != UnitActive::Over);
        if over.is_none() {
            let observed = ObservedUnit {
                active: UnitActive::Running,
                end: None,
                limits: None,
            };
            self.units.insert(attempt, observed);
            self.verify(attempt);
            self.sample_one(attempt, now.boot);
        }
        self.place(attempt, running.as_ref());
        self.state.happen(attempt, &Event::Started, now);
        match (over, running) {
            (Some(over), _) => self.take_in(attempt, over).await,
            (None, Some(running)) => drop(self.live.insert(attempt, running)),
            // It is over and gone: its end record tells.
            (None, None) => self.resync().await,
        }
    }

    async fn not_started(&mut self, attempt: AttemptId, outcome: Outcome, state: Option<UnitState>) {
        match state {
            Some(state) if state.active == UnitActive::Over => self.take_in(attempt, state).await,
            _ if outcome == Outcome::Cancelled => self.fail(attempt, "its start was cancelled".into()),
            _ => self.fail(
                attempt,
                "systemd could not start it; the node's journal says why".into(),
            ),
        }
    }

    fn fail(&mut self, attempt: AttemptId, sentence: String) {
        let now = self.now();
        self.state.happen(attempt, &Event::StartFailed { sentence }, now);
        self.release(attempt);
    }

    /// Notes where it runs, as the kernel has it; as it was meant where the kernel does not say any more.
    pub(super) fn place(&mut self, attempt: AttemptId, state: Option<&UnitState>) {
        let limits = self
            .units
            .get(&attempt)
            .and_then(|unit| unit.limits.clone())
            .unwrap_or_default();
        let meant = self.meant_cpus(attempt);
        let Some(entry) = self.state.attempts.get_mut(&attempt) else {
            return;
        };
        let exclusive = entry
            .holding
            .as_ref()
            .is_some_and(|holding| is_exclusive(&holding.grant));
        // Only what was read back counts as set.
        entry.applied_cpus = limits
            .cpus_effective
            .clone()
            .filter(|cpus| meant.as_ref() == Some(cpus));
        let all = || {
            let nodes = self.node.topology.numa_nodes().iter();
            nodes.map(|node| node.id).collect()
        };
        let cpus = meant.unwrap_or_else(|| self.node.topology.cpus());
        let placement = Placement {
            cpus: limits.cpus_effective.unwrap_or(cpus),
            numa_nodes: limits.mems_effective.unwrap_or_else(all),
            exclusive,
            main_pid: state.map_or(0, |state| state.main_pid),
            invocation: state.map(|state| state.invocation.clone()).unwrap_or_default(),
            unit: attempt.unit_name(),
            user: entry
                .order
                .as_ref()
                .map(|order| order.user.clone())
                .unwrap_or_default(),
        };
        if let Some(extra) = self.state.extras.get_mut(&attempt) {
            extra.placement = Some(placement);
        }
    }

    /// Tells the fleet of starts that take long.
    pub(super) fn report_slow_starts(&mut self) {
        let now = self.now();
        for (attempt, in_flight) in &mut self.in_flight {
            if !in_flight.told && now.boot.minus(in_flight.since) >= SLOW {
                in_flight.told = true;
                self.state.tell_phase(*attempt, now);
            }
        }
    }
}

async fn account<A: Accounts>(
    accounts: &A,
    known: Option<Account>,
    order: &WorkOrder,
) -> Result<Account, String> {
    if let Some(person) = known {
        return Ok(person);
    }
    match look_up(accounts, &order.user).await {
        Lookup::Known(person) => Ok(person),
        Lookup::Missing => Err(format!(
            "the account `{}` does not exist on this node any more",
            order.user
        )),
        Lookup::Failed(sentence) => Err(sentence),
    }
}
