//! The reaping budget: dying needs CPU, and who is ended because production needs its room gets none in the idle
//! class while production uses every CPU.
//!
//! **Problem.** A worker that is asked to end runs its handlers, is killed, and gives its memory back: all of that is
//! charged to its own slice. At the floor of a squeezed slice it took 16 s and more on a saturated machine.
//! **Approach.** As long as someone is being ended in a slice that starves, the slices on its way up leave the idle
//! class, under a small quota. **Properties.** Never more than [`Budget::of`] at a time; for each worker for
//! [`BOUND`] after it was asked and for as long again after its grace is over; nothing where nobody starves; what
//! was granted is counted, since production pays for it.

use alloc::collections::BTreeMap;

use loadline_model::{AttemptId, MilliCpu, PerMille, Span, Tier};

use crate::settings::{CpuWeight, Limit, QUOTA_STEP, Setpoints, Slice, SliceSettings};

/// How long somebody may die at production's cost.
pub const BOUND: Span = Span::from_secs(10);
/// Of all CPUs …
const SHARE: PerMille = PerMille(100);
/// … but enough for one process to end within [`BOUND`] on a small machine.
const LEAST: MilliCpu = MilliCpu(100);
/// As much as one of production's slices: the quota is what protects.
const WEIGHT: u16 = 100;
/// Against the other tier's slice, whose work goes on meanwhile.
const TIER_WEIGHT: u16 = 1_000;
/// Who is ended goes before all others of its slice.
pub const WORKER_WEIGHT: CpuWeight = CpuWeight::Weight(10_000);

/// Someone who is being ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dying {
    /// Who.
    pub attempt: AttemptId,
    /// Where.
    pub tier: Tier,
    /// Its grace is over at this moment since boot.
    pub kill_at: Span,
}

/// What those who are being ended may use, out of the idle class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// So much CPU, for all of them.
    pub cpu: MilliCpu,
    /// Someone of the standard tier is ended.
    pub standard: bool,
    /// Someone of burst is.
    pub burst: bool,
}

impl Budget {
    /// On a machine with so many CPUs.
    pub fn of(capacity: MilliCpu) -> MilliCpu {
        let cpu = capacity.share(SHARE).max(LEAST);
        MilliCpu(cpu.0 - cpu.0 % QUOTA_STEP.0)
    }

    /// True if the slice lies on the way of someone who is ended.
    pub const fn touches(&self, slice: Slice) -> bool {
        match slice {
            Slice::Root => true,
            Slice::Standard => self.standard,
            Slice::Burst => self.burst,
        }
    }

    /// What a slice gets that otherwise has this.
    #[must_use]
    pub const fn quota(&self, slice: Slice, quota: Limit<MilliCpu>) -> Limit<MilliCpu> {
        if self.touches(slice) {
            Limit::At(self.cpu)
        } else {
            quota
        }
    }

    /// A slice's settings as long as the budget is in force.
    #[must_use]
    pub fn over(&self, settings: SliceSettings) -> SliceSettings {
        let slice = settings.slice;
        if !self.touches(slice) {
            return settings;
        }
        let weight = if slice == Slice::Root { WEIGHT } else { TIER_WEIGHT };
        SliceSettings {
            cpu_weight: CpuWeight::Weight(weight),
            cpu_quota: self.quota(slice, settings.cpu_quota),
            ..settings
        }
    }
}

/// True if a worker of the tier that is ended would starve under these setpoints.
pub fn starves(setpoints: &Setpoints, tier: Tier, capacity: MilliCpu) -> bool {
    setpoints.squeezed.holds(tier) || setpoints.cpu.is_some_and(|cpu| cpu <= Budget::of(capacity))
}

/// Who is being ended, and since when; kept between passes, in memory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reaper {
    since: BTreeMap<AttemptId, Span>,
    budget: Option<Budget>,
    stepped: Span,
    /// CPU time granted, in microseconds.
    granted: u64,
}

impl Reaper {
    /// The budget from now on; none: the slices are as ever. `dying` are all who are being ended and not gone yet,
    /// `starves` says whose slice has too little; once granted, it is until the worker is gone or its bound is over.
    pub fn step(
        &mut self,
        now: Span,
        capacity: MilliCpu,
        dying: &[Dying],
        starves: impl Fn(Tier) -> bool,
    ) -> Option<Budget> {
        if let Some(budget) = self.budget {
            let wide = u128::from(now.minus(self.stepped).0) * u128::from(budget.cpu.0) / 1000;
            self.granted = self
                .granted
                .saturating_add(u64::try_from(wide).unwrap_or(u64::MAX));
        }
        self.stepped = now;
        self.since
            .retain(|attempt, _| dying.iter().any(|one| one.attempt == *attempt));
        let granted = |tier| self.budget.is_some_and(|budget| budget.touches(Slice::of(tier)));
        let mut tiers = [(Tier::Standard, false), (Tier::Burst, false)];
        for one in dying {
            let since = *self.since.entry(one.attempt).or_insert(now);
            let within = |from: Span| now >= from && now.minus(from) < BOUND;
            if (within(since) || within(one.kill_at)) && (starves(one.tier) || granted(one.tier)) {
                for (tier, needs) in &mut tiers {
                    *needs |= *tier == one.tier;
                }
            }
        }
        let [(_, standard), (_, burst)] = tiers;
        self.budget = (standard || burst).then(|| Budget {
            cpu: Budget::of(capacity),
            standard,
            burst,
        });
        self.budget
    }

    /// CPU time granted so far.
    pub const fn granted(&self) -> Span {
        Span(self.granted)
    }
}

#[cfg(test)]
mod tests;
