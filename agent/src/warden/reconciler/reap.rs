//! The reaping budget, put in force and taken back (see [`loadline_policy::reap`]).
//!
//! The headroom loop hears of it first, or its brake would lower the quota again within a tenth of a second; then
//! systemd is told, parents first, so that a child never waits for what its parent does not have yet.
//!
//! Whoever hangs at its memory limit because it starves is found here too: its end is ours to begin.

use std::collections::BTreeMap;

use loadline_model::{AttemptId, Tier};
use loadline_policy::attempt::Life;
use loadline_policy::node_policy::Mode;
use loadline_policy::reap::hung::{self, Hang, Memory};
use loadline_policy::reap::{Budget, Dying, Hunger, Shortage, WORKER_WEIGHT, shortage};
use loadline_policy::settings::{CpuWeight, Slice};
use tracing::{info, warn};

use super::Reconciler;
use crate::host::clock::Clock;
use crate::host::kill::take_back;
use crate::host::systemd::{Setting, Systemd};
use crate::host::users::Accounts;

/// Who starves, as looked at once a second.
#[derive(Debug, Default)]
pub(super) struct Starved {
    hunger: Hunger,
    watch: hung::Watch,
    /// Who hangs at its memory limit, and what it is told.
    pub(super) hung: BTreeMap<AttemptId, String>,
}

impl<S: Systemd, C: Clock, A: Accounts> Reconciler<S, C, A> {
    /// Grants those who are being ended what they need for it, or takes it back.
    pub(super) async fn reap(&mut self, dying: &[Dying]) {
        let (now, capacity) = (self.clock.monotonic(), self.node.line.cpu.capacity);
        let starting: Vec<Tier> = self.in_flight.keys().map(|attempt| self.tier(*attempt)).collect();
        let short = [Tier::Standard, Tier::Burst].map(|tier| (tier, self.shortage(tier)));
        let shortage = |tier| {
            let of = short.iter().find(|(one, _)| *one == tier);
            of.map_or(Shortage::No, |(_, short)| *short)
        };
        let budget = self.reaper.step(now, capacity, dying, &starting, shortage);
        self.counters.reaping = self.reaper.granted();
        if budget == self.reap {
            return;
        }
        info!(?budget, "reaping");
        let before = std::mem::replace(&mut self.reap, budget);
        self.headroom.within.send_modify(|within| within.granted = budget);
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

    /// What a tier is short of: as systemd was told, as the brake has it by now, and as it got.
    fn shortage(&self, tier: Tier) -> Shortage {
        if self.node.policy.lend.mode == Mode::Shadow {
            return Shortage::No;
        }
        let latest = self.headroom.latest.borrow().map(|decision| decision.setpoints);
        let capacity = self.node.line.cpu.capacity;
        let by = |setpoints| shortage(setpoints, &self.starved.hunger, tier, capacity);
        by(&self.setpoints).max(latest.as_ref().map_or(Shortage::No, by))
    }

    /// Looks at what the slices got, and at the memory of those who starve.
    pub(super) fn look_who_starves(&mut self) {
        if self.state.attempts.is_empty() {
            return;
        }
        let (now, capacity) = (self.clock.monotonic(), self.node.line.cpu.capacity);
        for slice in Slice::ALL {
            let fed = self.cgroups.fed(&self.slice_cgroup(slice));
            self.starved.hunger.look(now, capacity, slice, fed);
        }
        let runs = |life: &Life| matches!(life, Life::Running { .. } | Life::Squeezed { .. });
        let running = self.state.attempts.iter().filter(|(_, entry)| runs(&entry.life));
        let starving = running
            .map(|(attempt, _)| *attempt)
            .filter(|attempt| self.shortage(self.tier(*attempt)) > Shortage::No);
        let looks: Vec<(AttemptId, Memory)> = starving
            .filter_map(|attempt| Some((attempt, self.cgroups.memory(&self.cgroup(attempt))?)))
            .collect();
        self.starved.hung.clear();
        for (attempt, hang) in self.starved.watch.look(now, &looks) {
            if let Hang::Take(amount) = hang {
                if let Err(error) = take_back(&self.cgroups, &self.cgroup(attempt), amount) {
                    // The kernel takes it by and by, on the worker's time.
                    warn!(%attempt, %error, "memory is not taken back");
                }
                continue;
            }
            self.sample_one(attempt, now);
            let entry = self.state.attempts.get(&attempt);
            let peak = entry.and_then(|entry| entry.peaks.memory);
            if let Some((_, memory)) = looks.iter().find(|(one, _)| *one == attempt) {
                info!(%attempt, ?memory, ?hang, "hangs at its memory limit");
                let sentence = hung::sentence(memory, peak, hang);
                self.starved.hung.insert(attempt, sentence);
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
