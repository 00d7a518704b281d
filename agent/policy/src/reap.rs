//! The reaping budget: dying needs CPU, and who is ended because production needs its room gets none in the idle
//! class while production uses every CPU.
//!
//! **Problem.** A worker that is asked to end runs its handlers, is killed, and gives its memory back: all of that is
//! charged to its own slice. At the floor of a squeezed slice it took 16 s and more on a saturated machine.
//! **Approach.** As long as someone is being ended in a slice that starves, the slices on its way up leave the idle
//! class, under a small quota. Where lent work has enough and only one tier of it gets none beside the other, that tier
//! leaves the idle class and lent work as a whole stays in it; so too while someone is being started there, since
//! systemd gives a start up after 90 s. **Properties.** Never more of production's than [`Budget::of`] at a time; for
//! each worker for [`BOUND`] after it was asked and for as long again after its grace is over; nothing where nobody
//! starves; what was granted of production's is counted.

pub mod hung;
mod hunger;

use alloc::collections::BTreeMap;

use loadline_model::{AttemptId, MilliCpu, PerMille, Span, Tier};

use crate::settings::{CpuWeight, Limit, QUOTA_STEP, Setpoints, Slice, SliceSettings};

pub use hunger::{Fed, Hunger};

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

/// Who has what somebody in a tier would need to come to an end, or to begin.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Shortage {
    /// It has enough.
    #[default]
    No,
    /// Standard, beside which burst gets nothing: lent work as a whole has enough.
    WithinLent,
    /// Production: lent work as a whole starves.
    OfLent,
}

/// What those who are being ended may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// So much CPU, for all of them.
    pub cpu: MilliCpu,
    /// Out of production's: all lent work leaves the idle class, and has no more than that.
    pub lent: bool,
    /// Someone of the standard tier is ended.
    pub standard: bool,
    /// Someone of burst is, or begins.
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
            Slice::Root => self.lent,
            Slice::Standard => self.standard,
            Slice::Burst => self.burst,
        }
    }

    /// What a slice gets that otherwise has this.
    #[must_use]
    pub fn quota(&self, slice: Slice, quota: Limit<MilliCpu>) -> Limit<MilliCpu> {
        match (self.touches(slice), self.lent, quota) {
            (true, true, _) => Limit::At(self.cpu),
            // Of what all lent work has anyway.
            (true, false, Limit::At(quota)) => Limit::At(quota.max(self.cpu)),
            (_, _, quota) => quota,
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

/// What a worker of the tier is short of, by what it may have at most and by what it got.
pub fn shortage(setpoints: &Setpoints, hunger: &Hunger, tier: Tier, capacity: MilliCpu) -> Shortage {
    let may_have =
        setpoints.squeezed.holds(tier) || setpoints.cpu.is_some_and(|cpu| cpu <= Budget::of(capacity));
    if may_have || hunger.starves(Slice::Root) {
        Shortage::OfLent
    } else if tier == Tier::Burst && hunger.starves(Slice::Burst) {
        // Standard goes before it, never the other way round.
        Shortage::WithinLent
    } else {
        Shortage::No
    }
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
    /// `starting` the tiers in which someone begins, `shortage` says what a tier is short of; once granted, it is until
    /// the worker is gone or its bound is over.
    pub fn step(
        &mut self,
        now: Span,
        capacity: MilliCpu,
        dying: &[Dying],
        starting: &[Tier],
        shortage: impl Fn(Tier) -> Shortage,
    ) -> Option<Budget> {
        self.count(now);
        self.since
            .retain(|attempt, _| dying.iter().any(|one| one.attempt == *attempt));
        let before = self.budget;
        let mut needs = BTreeMap::new();
        let mut need = |tier, most: Shortage| {
            let short = shortage(tier).max(granted(before, tier)).min(most);
            let known = needs.entry(tier).or_insert(short);
            *known = short.max(*known);
        };
        starting.iter().for_each(|tier| need(*tier, Shortage::WithinLent));
        for one in dying {
            let since = *self.since.entry(one.attempt).or_insert(now);
            let within = |from: Span| now >= from && now.minus(from) < BOUND;
            if within(since) || within(one.kill_at) {
                need(one.tier, Shortage::OfLent);
            }
        }
        let short = |tier| needs.get(&tier).copied().unwrap_or_default();
        let tiers = [short(Tier::Standard), short(Tier::Burst)];
        let [standard, burst] = tiers.map(|short| short > Shortage::No);
        self.budget = (standard || burst).then(|| Budget {
            cpu: Budget::of(capacity),
            lent: tiers.contains(&Shortage::OfLent),
            standard,
            burst,
        });
        self.budget
    }

    /// What lent work has anyway costs production nothing.
    fn count(&mut self, now: Span) {
        if let Some(budget) = self.budget.filter(|budget| budget.lent) {
            let wide = u128::from(now.minus(self.stepped).0) * u128::from(budget.cpu.0) / 1000;
            self.granted = self
                .granted
                .saturating_add(u64::try_from(wide).unwrap_or(u64::MAX));
        }
        self.stepped = now;
    }

    /// CPU time granted so far.
    pub const fn granted(&self) -> Span {
        Span(self.granted)
    }
}

fn granted(budget: Option<Budget>, tier: Tier) -> Shortage {
    match budget.filter(|budget| budget.touches(Slice::of(tier))) {
        Some(budget) if budget.lent => Shortage::OfLent,
        Some(_) => Shortage::WithinLent,
        None => Shortage::No,
    }
}

#[cfg(test)]
mod tests;
