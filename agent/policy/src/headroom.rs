//! The headroom law: how much lent work may have at this moment, so that production finds idle CPUs when it wants
//! them. Pure: one look at the machine in, setpoints and the reason out.
//!
//! **Problem.** Idle weights alone do not keep production fast: CPUs must be idle *before* it wants them, and what
//! was taken must not come back at once, or both swing.
//! **Approach.** Lent work gets what production leaves (`usage`), less at once when production waits (`stall`)
//! for CPUs that others have, for memory or for disks, is held at its floor when that is not enough (`ladder`), and grows
//! slowly after a hold to where production suffered (`pace`). Stalls that do not fall when lent work gets less are
//! production's own (`relief`), each kind by itself. The same for memory (`memory`) and disks (`io`); of the CPUs,
//! burst gives first (`burst`). How many processes lent work may have is held in a storm of them (`tasks`).
//! **Terms.** *Use*: production's CPU, smoothed: all but what lent work and Loadline's own programs use. *Line of now*: capacity − max(reserve, use) − headroom.
//! *Quota*: what lent work may use. *Bad*: production stalled while lent work ran, and not by its own doing.
//! *High*: what lent work may hold of memory before the kernel takes it back. *Bandwidth*: what it may read, and
//! write, in a second.
//! **Properties.** The quota is never above the line of now nor the static line, nor below the floor; a worse look
//! never gives more; it grows by 10 % of capacity a second at most, by 2 % near to where production suffered; the same looks give the same decisions.
//!
//! **Choices** where rules could be read two ways. Only growth has a deadband: one for shrinking would leave the
//! quota above the line of now. Low slack cuts once a second, not at every look, since it is measured that seldom.
//! A blind look silences use and stalls, not memory and promises, and does not hide that tiers are squeezed.
//! A run of bad moments is one entry into the hold. A stall younger than half a second is compared by its rate, or
//! its own onset would make every cut look useless; and what is found self-inflicted counts from the next look.
//! Memory falls a bite at a look below what lent work holds: the kernel takes it back while we wait. A disk's stall
//! lowers the bandwidth alone, where the kernel counts lent work's, and squeezes only once that is at its floor.

mod burst;
mod intake;
mod io;
mod kernel;
mod ladder;
mod law;
mod memory;
mod others;
mod pace;
mod ramp;
mod relief;
pub mod sample;
mod stall;
mod tasks;
mod usage;
mod window;
mod words;

use loadline_model::{Bytes, MilliCpu, PerMille, Span};

use crate::line::Line;
use crate::settings::{QUOTA_FLOOR, QUOTA_STEP, Setpoints};

pub use law::Law;
pub use others::place_of_others;
pub use sample::{Sample, Slo, Stalls, Transferred};

/// What the owner's policy and the machine fix. The law never goes above `most`, nor below `floor` except to evict.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// All CPUs.
    pub capacity: MilliCpu,
    /// Kept for production in any case.
    pub reserve: MilliCpu,
    /// Kept idle on top of what production uses.
    pub headroom: MilliCpu,
    /// The static line: lent work never gets more.
    pub most: MilliCpu,
    /// What a squeezed tier keeps, so that it can end and be woken.
    pub floor: MilliCpu,
    /// All memory.
    pub memory: Bytes,
    /// The static line of memory: lent work never gets more.
    pub memory_most: Bytes,
    /// Memory that is still free when production uses all of its reserve and lent work all of the line.
    pub memory_free: Bytes,
}

/// The floor of all lent work together: enough for what is evicted to end within its grace.
const FLOOR: PerMille = PerMille(50);

/// Below half of this share of the memory production is near reclaim, whatever the owner set.
const MEMORY_FREE_LEAST: PerMille = PerMille(20);

impl Bounds {
    /// The bounds that a line sets.
    pub fn of(line: &Line) -> Self {
        let capacity = line.cpu.capacity;
        let most = line.most().cpu;
        let floor = capacity.share(FLOOR).max(QUOTA_FLOOR).min(most.max(QUOTA_FLOOR));
        Self {
            capacity,
            reserve: line.cpu.reserve,
            headroom: line.cpu.headroom,
            most,
            floor: whole_steps(floor),
            memory: line.memory.capacity,
            memory_most: line.most().memory,
            memory_free: line
                .memory
                .headroom
                .min(line.memory.reserve)
                .max(line.memory.capacity.share(MEMORY_FREE_LEAST)),
        }
    }

    /// The highest quota: the floor stands also where nothing may be lent, as in the slices' settings.
    fn top(&self) -> MilliCpu {
        self.most.max(self.floor)
    }

    /// What is left now, before it is brought between floor and top.
    const fn left_by(&self, production: MilliCpu) -> MilliCpu {
        let kept = if production.0 > self.reserve.0 {
            production
        } else {
            self.reserve
        };
        self.capacity.minus(kept).minus(self.headroom)
    }

    /// An amount as a quota: between floor and top, in whole steps but for the top.
    fn quota(&self, amount: MilliCpu) -> MilliCpu {
        if amount >= self.top() {
            self.top()
        } else {
            whole_steps(amount).max(self.floor)
        }
    }
}

const fn whole_steps(amount: MilliCpu) -> MilliCpu {
    MilliCpu(amount.0 - amount.0 % QUOTA_STEP.0)
}

/// How far the ladder has been climbed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// Lent work has the line of now, or grows towards it.
    #[default]
    Open,
    /// It does not grow.
    Hold,
    /// It gets less.
    Shrink,
    /// Tiers are held at their floor.
    Squeeze,
    /// Someone has to go.
    Evict,
}

/// Why the level is what it is, with what was measured.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Reason {
    /// Nothing speaks against growing.
    #[default]
    Calm,
    /// Production uses so much that less is left than was lent.
    ProductionUse(MilliCpu),
    /// Production waited for CPUs that others had, for so long within the last tenth of a second.
    CpuStall(Span),
    /// Production waited for memory.
    MemoryStall(Span),
    /// Production waited for a disk.
    IoStall(Span),
    /// Little memory can still be had.
    MemoryLow(Bytes),
    /// Production is this near to missing its promise, or misses it, in thousandths.
    SloSlack(i32),
    /// Its promise cannot be measured.
    SloUnknown,
    /// It was bad a moment ago.
    Backoff,
    /// There are not yet, or not any more, two readings to take a difference of.
    Blind,
}

/// What the law says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Decision {
    /// How far up the ladder.
    pub level: Level,
    /// Why.
    pub reason: Reason,
    /// What lent work may have now.
    pub setpoints: Setpoints,
    /// So much memory is to be taken from lent work at this look, burst first: page cache, in truth, as it has no
    /// swap. Zero while there is enough.
    pub reclaim: Bytes,
    /// What production uses, smoothed; what the line of now follows from.
    pub production: MilliCpu,
    /// Production has just used much more than that, and lent work has something to give: the next look should not wait
    /// for a whole tick.
    pub rises: bool,
}

/// The part of something that grows or shrinks with time: `amount × share ÷ of`, rounded down.
fn prorate(amount: u64, share: u64, of: u64) -> u64 {
    let wide = u128::from(amount) * u128::from(share) / u128::from(of.max(1));
    u64::try_from(wide).unwrap_or(u64::MAX)
}

/// What a total has grown by; none if it went back, as one that began anew does.
fn since(now: Span, before: Span) -> Option<Span> {
    now.0.checked_sub(before.0).map(Span)
}

#[cfg(test)]
mod tests;
