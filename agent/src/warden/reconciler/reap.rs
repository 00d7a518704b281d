//! The reaping budget, put in force and taken back (see [`loadline_policy::reap`]).
//!
//! The headroom loop hears of it first, or its brake would lower the quota again within a tenth of a second; then
//! systemd is told, parents first, so that a child never waits for what its parent does not have yet.

use loadline_model::AttemptId;
use loadline_policy::node_policy::Mode;
use loadline_policy::reap::{Budget, Dying, WORKER_WEIGHT, starves};
use loadline_policy::settings::{CpuWeight, Slice};
use tracing::{info, warn};

use super::Reconciler;
use crate::host::clock::Clock;
use crate::host::systemd::{Setting, Systemd};
use crate::host::users::Accounts;

impl<S: Systemd, C: Clock, A: Accounts> Reconciler<S, C, A> {
    /// Grants those who are being ended what they need for it, or takes it back.
    pub(super) async fn reap(&mut self, dying: &[Dying]) {
        let (now, capacity) = (self.clock.monotonic(), self.node.line.cpu.capacity);
        let latest = self.headroom.latest.borrow().map(|decision| decision.setpoints);
        let told = self.setpoints;
        let starves = |tier| {
            let by = |setpoints| starves(setpoints, tier, capacity);
            by(&told) || latest.as_ref().is_some_and(by)
        };
        let enforced = self.node.policy.lend.mode != Mode::Shadow;
        let budget = self
            .reaper
            .step(now, capacity, dying, |tier| enforced && starves(tier));
        self.counters.reaping = self.reaper.granted();
        if budget == self.reap {
            return;
        }
        info!(?budget, "reaping");
        let before = std::mem::replace(&mut self.reap, budget);
        self.headroom.reaping.send_replace(budget);
        let touched = |slice: &Slice| {
            let by = |budget: &Budget| budget.touches(*slice);
            before.as_ref().is_some_and(by) || budget.as_ref().is_some_and(by)
        };
        for settings in self.slices_under(&self.setpoints) {
            if touched(&settings.slice) && self.cgroups.exists(&self.slice_cgroup(settings.slice)) {
                let moved = [
                    Setting::CpuWeight(settings.cpu_weight),
                    Setting::CpuQuota(settings.cpu_quota),
                ];
                self.grant(settings.slice.unit(), &moved).await;
            }
        }
        self.read_slices();
        if budget.is_some() {
            for one in dying {
                self.go_first(one.attempt, WORKER_WEIGHT).await;
            }
        }
    }

    /// Of what its slice has, who is ended gets most.
    async fn go_first(&mut self, attempt: AttemptId, weight: CpuWeight) {
        if self.hastened.insert(attempt) {
            self.grant(&attempt.unit_name(), &[Setting::CpuWeight(weight)])
                .await;
        }
    }

    async fn grant(&mut self, unit: &str, settings: &[Setting]) {
        (self.alive)();
        if let Err(problem) = self.systemd.set(unit, settings).await {
            // A slice is read back, found to differ, and set again; a worker ends more slowly.
            warn!(error = &problem as &dyn std::error::Error, unit, "reaping");
        }
    }
}
