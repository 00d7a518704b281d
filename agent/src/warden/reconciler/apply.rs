//! Carrying out what was decided: set → read back → compare. Nothing is decided here, nothing stops at the
//! first failure, and what gives waits for everything that takes ([`Gate`]).

use loadline_model::{AttemptId, CpuSet, Receipt, ReceiptAction, ReceiptSubject};
use loadline_policy::attempt::{Event, Life, StopWhy};
use loadline_policy::node_policy::Mode;
use loadline_policy::reconcile::{Action, Gate, LedgerAttempt, Plan, Planned, Stage, UnitActive};
use loadline_policy::settings::{Mismatch, Slice, SliceSettings, WorkerSettings, compare};
use tracing::{error, info, warn};

use super::Reconciler;
use super::starts::Start;
use super::state::Extra;
use crate::host::clock::Clock;
use crate::host::kill::kill;
use crate::host::systemd::{Setting, Systemd, SystemdError};
use crate::host::users::Accounts;

/// The kernel's number of SIGKILL.
const SIGKILL: i32 = 9;

/// Why an action is not done.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error("systemd did not do it")]
    Systemd(#[from] SystemdError),
    #[error("the kernel does not do what was set: {0}")]
    NotHeld(String),
}

impl<S: Systemd, C: Clock, A: Accounts> Reconciler<S, C, A> {
    /// Writes down what the plan knows to have happened or is about to do. Starts are written down with it
    /// if nothing stands before them; they are given back, to be taken back if they do not take place.
    pub(super) fn write_down(&mut self, plan: &Plan) -> Vec<AttemptId> {
        let now = self.now();
        let only_starts = plan
            .actions
            .iter()
            .all(|planned| matches!(planned.stage, Stage::Record | Stage::Start));
        let mut provisional = Vec::new();
        for planned in &plan.actions {
            let Some(attempt) = planned.attempt else { continue };
            match &planned.action {
                Action::Record(life) | Action::Stop(life) => {
                    if self.life(attempt) != Some(life) {
                        self.place_found(attempt, life);
                        self.state.put(attempt, life.clone(), now);
                    }
                }
                Action::AdoptOrphan { holding, life } => self.adopt(attempt, holding.clone(), life.clone()),
                Action::Start { life, holding, .. } if only_starts => {
                    self.write_start(attempt, life.clone(), holding.clone());
                    provisional.push(attempt);
                    continue;
                }
                _ => continue,
            }
            if let Some(receipt) = &planned.receipt {
                self.count(receipt);
                self.state.receipt(receipt.clone(), now);
            }
        }
        provisional
    }

    /// A worker that a warden before this one had started.
    fn place_found(&mut self, attempt: AttemptId, life: &Life) {
        let placed = self
            .state
            .extras
            .get(&attempt)
            .is_some_and(|extra| extra.placement.is_some());
        if !placed && matches!(life, Life::Running { .. }) {
            self.verify(attempt);
            let live = self.live.get(&attempt).cloned();
            self.place(attempt, live.as_ref());
        }
    }

    fn life(&self, attempt: AttemptId) -> Option<&Life> {
        self.state.attempts.get(&attempt).map(|entry| &entry.life)
    }

    fn adopt(&mut self, attempt: AttemptId, holding: loadline_policy::allocation::Holding, life: Life) {
        warn!(%attempt, "adopted: it runs and there is no record of it");
        let now = self.now();
        let live = self.live.get(&attempt);
        let placement = crate::ledger::Placement {
            cpus: self
                .units
                .get(&attempt)
                .and_then(|unit| unit.limits.as_ref()?.cpus_effective.clone())
                .unwrap_or_default(),
            numa_nodes: holding.memory_nodes.clone(),
            exclusive: loadline_policy::settings::is_exclusive(&holding.grant),
            main_pid: live.map_or(0, |live| live.main_pid),
            invocation: live.map(|live| live.invocation.clone()).unwrap_or_default(),
            unit: attempt.unit_name(),
            user: String::new(),
        };
        let entry = LedgerAttempt {
            order: None,
            account: loadline_policy::admission::Account::Missing,
            boot: self.boot.clone(),
            life,
            applied_cpus: None,
            peaks: Default::default(),
            holding: Some(holding),
        };
        let extra = Extra {
            orphan: true,
            placement: Some(placement),
            ..Extra::default()
        };
        self.state.insert(attempt, entry, extra);
        self.state.tell_phase(attempt, now);
    }

    pub(super) fn count(&mut self, receipt: &Receipt) {
        *self
            .counters
            .protection_actions
            .entry(receipt.action.word())
            .or_default() += 1;
    }

    /// Whoever has to go from a node that became another one is told before its slices get their new limits.
    pub(super) async fn end_first(&mut self) {
        let mut plan = self.decide();
        let ends = |planned: &Planned| matches!(planned.stage, Stage::Record | Stage::Stop);
        plan.actions.retain(ends);
        let provisional = self.write_down(&plan);
        let durable = self.flush().is_ok();
        self.end_at_once(&plan);
        self.carry_out(plan, provisional, durable).await;
    }

    /// Does what the plan says, in its order.
    pub(super) async fn carry_out(&mut self, plan: Plan, mut provisional: Vec<AttemptId>, durable: bool) {
        // Before anyone is asked to end.
        self.reap(&plan.dying).await;
        let mut gate = Gate::default();
        let mut starts = Vec::new();
        for planned in plan.actions {
            if !gate.allows(&planned) {
                continue;
            }
            if let Action::Start {
                life,
                holding,
                settings,
            } = planned.action
            {
                let Some(attempt) = planned.attempt else { continue };
                if !provisional.contains(&attempt) {
                    self.write_start(attempt, life, holding);
                }
                starts.push(Start { attempt, settings });
                continue;
            }
            // Each may wait for systemd as long as a call may take.
            (self.alive)();
            match self.act(&planned).await {
                Ok(()) => self.done(&planned),
                Err(problem) => {
                    gate.failed(&planned);
                    error!(error = &problem as &dyn std::error::Error, action = ?planned.action, "not done");
                }
            }
        }
        if !self.blind {
            // Limits were read for this round only.
            self.units.values_mut().for_each(|unit| unit.limits = None);
        }
        let all_written = starts.iter().all(|start| provisional.contains(&start.attempt));
        let durable = if durable && all_written {
            self.flush_rest();
            true
        } else {
            self.flush().is_ok()
        };
        provisional.retain(|attempt| !starts.iter().any(|start| start.attempt == *attempt));
        provisional
            .into_iter()
            .for_each(|attempt| self.unwrite_start(attempt));
        for start in starts {
            if durable {
                self.ask(start)
            } else {
                self.unwrite_start(start.attempt)
            }
        }
    }

    /// Receipts of what was just done; if they cannot be written now, the next round tries again.
    fn flush_rest(&mut self) {
        if let Err(problem) = self.flush() {
            warn!(error = &problem as &dyn std::error::Error, "receipts wait");
        }
    }

    /// The receipt of an action that writes none down before it is done.
    fn done(&mut self, planned: &Planned) {
        let before = matches!(planned.stage, Stage::Record | Stage::Stop);
        if let (false, Some(receipt)) = (before, &planned.receipt) {
            self.counters.limit_repairs += 1;
            self.count(receipt);
            let now = self.now();
            self.state.receipt(receipt.clone(), now);
        }
    }

    async fn act(&mut self, planned: &Planned) -> Result<(), Failed> {
        match (&planned.action, planned.attempt) {
            (Action::Forget, Some(attempt)) => self.release(attempt),
            (Action::Stop(_), Some(attempt)) => self.stop(attempt).await?,
            (Action::Kill, Some(attempt)) => {
                info!(%attempt, "its grace is over");
                self.kill(attempt).await?;
            }
            (Action::SetWorkerCpus(cpus), Some(attempt)) => self.set_worker_cpus(attempt, cpus).await?,
            (Action::SetSliceCpus(slice, cpus), _) => self.set_slice_cpus(*slice, cpus).await?,
            (Action::SetSlice { settings, missed }, _) => {
                warn_of(settings.slice.unit(), missed);
                self.set_slice(settings).await?;
            }
            (Action::Repair { settings, missed }, Some(attempt)) => {
                warn_of(&settings.unit, missed);
                self.repair(attempt, settings).await?;
            }
            // Written down already, or without an attempt it could be about.
            _ => {}
        }
        Ok(())
    }

    /// Both ways: the kernel does it at once, and systemd kills what does not belong to the cgroup any more.
    async fn kill(&mut self, attempt: AttemptId) -> Result<(), Failed> {
        if let Err(problem) = kill(&self.cgroups, &self.cgroup(attempt)) {
            warn!(%attempt, error = &problem as &dyn std::error::Error, "the kernel does not kill it; systemd is asked");
        }
        match self.systemd.kill(&attempt.unit_name(), SIGKILL).await {
            // Gone by the first way; its end will be told.
            Ok(()) | Err(SystemdError::NoSuchUnit { .. }) => Ok(()),
            Err(problem) => Err(problem.into()),
        }
    }

    async fn stop(&mut self, attempt: AttemptId) -> Result<(), Failed> {
        info!(%attempt, "asked to end");
        match self.systemd.stop(&attempt.unit_name()).await {
            Ok(()) => {
                if let Some(unit) = self.units.get_mut(&attempt)
                    && unit.active != UnitActive::Over
                {
                    unit.active = UnitActive::Stopping;
                }
                Ok(())
            }
            // It has ended, and its end will be told.
            Err(SystemdError::NoSuchUnit { .. }) => {
                self.resync().await;
                Ok(())
            }
            Err(problem) => Err(problem.into()),
        }
    }

    async fn set_worker_cpus(&mut self, attempt: AttemptId, cpus: &CpuSet) -> Result<(), Failed> {
        let unit = attempt.unit_name();
        self.systemd
            .set(&unit, &[Setting::AllowedCpus(cpus.clone())])
            .await?;
        self.read_back(attempt, Some(cpus.clone()));
        let effective = self.cgroups.limits(&self.cgroup(attempt)).cpus_effective;
        if effective.as_ref() != Some(cpus) {
            return Err(Failed::NotHeld(format!(
                "{unit}: CPUs {cpus}, effective {effective:?}"
            )));
        }
        if let Some(entry) = self.state.attempts.get_mut(&attempt) {
            entry.applied_cpus = Some(cpus.clone());
        }
        if let Some(placement) = self
            .state
            .extras
            .get_mut(&attempt)
            .and_then(|extra| extra.placement.as_mut())
        {
            placement.cpus = cpus.clone();
        }
        self.state.touch(attempt);
        Ok(())
    }

    async fn set_slice_cpus(&mut self, slice: Slice, cpus: &CpuSet) -> Result<(), Failed> {
        self.systemd
            .set(slice.unit(), &[Setting::AllowedCpus(cpus.clone())])
            .await?;
        self.read_slices();
        let effective = self
            .slices
            .get(&slice)
            .and_then(|observed| observed.cpus_effective.clone());
        if effective.as_ref() == Some(cpus) {
            return Ok(());
        }
        Err(Failed::NotHeld(format!(
            "{}: CPUs {cpus}, effective {effective:?}",
            slice.unit()
        )))
    }

    async fn set_slice(&mut self, settings: &SliceSettings) -> Result<(), Failed> {
        let unit = settings.slice.unit();
        if !self.cgroups.exists(&self.slice_cgroup(settings.slice)) {
            self.systemd.start(unit).await?;
        }
        self.systemd.set(unit, &Setting::of_slice(settings)).await?;
        self.read_slices();
        let observed = self.slices.get(&settings.slice).cloned().unwrap_or_default();
        held(unit, compare(settings, &observed))
    }

    async fn repair(&mut self, attempt: AttemptId, settings: &WorkerSettings) -> Result<(), Failed> {
        self.systemd
            .set(&settings.unit, &Setting::of_worker(settings))
            .await?;
        self.verify(attempt);
        let limits = self.cgroups.limits(&self.cgroup(attempt));
        held(&settings.unit, compare(settings, &limits))
    }

    /// Makes the slices before the first worker comes, so that its start need not wait for them, with every limit
    /// but their CPUs: those change hands in an order, which is decided.
    pub(super) async fn establish_slices(&mut self) {
        // Where lent work is left from before, it is held by the static line, and no slice is made for it.
        if self.node.policy.lend.mode == Mode::Shadow && self.state.attempts.is_empty() {
            return;
        }
        for settings in self.slices_under(&self.setpoints) {
            (self.alive)();
            let allowed_cpus = None;
            let settings = SliceSettings {
                allowed_cpus,
                ..settings
            };
            if let Err(problem) = self.set_slice(&settings).await {
                error!(
                    error = &problem as &dyn std::error::Error,
                    "a slice is not as it should be"
                );
            }
        }
    }

    /// Ends every worker by name, and starts none any more.
    pub(super) fn drain(&mut self) -> Vec<AttemptId> {
        self.draining = true;
        self.node.policy.lend.mode = Mode::Off;
        let now = self.now();
        let all: Vec<AttemptId> = self.state.attempts.keys().copied().collect();
        for attempt in &all {
            let detail = "evicted: loadline-node is being taken off this node".to_owned();
            let (why, grace) = (StopWhy::Evicted, loadline_model::Span(u64::MAX));
            let stopping = matches!(self.life(*attempt), Some(Life::Stopping { .. }));
            self.state.happen(
                *attempt,
                &Event::StopOrdered {
                    why,
                    grace,
                    detail: detail.clone(),
                },
                now,
            );
            if !stopping {
                let receipt = Receipt {
                    at: now.wall,
                    action: ReceiptAction::Evicted,
                    subject: ReceiptSubject::Attempt(*attempt),
                    sentence: detail,
                };
                self.count(&receipt);
                self.state.receipt(receipt, now);
            }
        }
        all
    }
}

fn warn_of(unit: &str, missed: &[Mismatch]) {
    for mismatch in missed {
        warn!(unit, %mismatch, "set again");
    }
}

/// What could be read must be held; what could not be read is reported as such, and setting it again would
/// not make it readable.
fn held(unit: &str, missed: Vec<Mismatch>) -> Result<(), Failed> {
    let differs: Vec<String> = missed
        .iter()
        .filter(|one| one.actual.is_some())
        .map(ToString::to_string)
        .collect();
    if differs.is_empty() {
        return Ok(());
    }
    Err(Failed::NotHeld(format!("{unit}: {}", differs.join(", "))))
}
