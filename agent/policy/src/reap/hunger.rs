//! Whether lent work starves, by what it got: a quota says only what it may get at most.
//!
//! On a virtual machine production can keep every CPU busy and seem to use half of them, since the time that the host
//! takes is nobody's; then the quota is wide and the idle class gets nothing. And within lent work a tier of the idle
//! class gets nothing beside another one that wants all. **Rule.** Of the time between two looks there was nobody of it
//! on any CPU for more than half of it though somebody wanted to be, and it used less than who is ended needs.

use alloc::collections::BTreeMap;

use loadline_model::{MilliCpu, Span};

use super::Budget;
use crate::settings::Slice;

/// Two looks that are nearer say little, and two that are further apart say nothing of now.
const BETWEEN: core::ops::RangeInclusive<Span> = Span::from_millis(200)..=Span::from_secs(5);

/// What a slice has had until now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fed {
    /// CPU time.
    pub used: Span,
    /// How long all of it that could run has waited.
    pub waited: Span,
}

/// Which slices starve; kept between looks, in memory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hunger(BTreeMap<Slice, Seen>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen {
    at: Span,
    fed: Fed,
    starves: bool,
}

impl Hunger {
    /// What a slice has had; none: it is not there, or the kernel does not count it.
    pub fn look(&mut self, now: Span, capacity: MilliCpu, slice: Slice, fed: Option<Fed>) {
        let before = self.0.remove(&slice);
        let Some(fed) = fed else { return };
        let before = before.filter(|seen| BETWEEN.contains(&now.minus(seen.at)));
        let starves =
            before.is_some_and(|seen| starved(&seen.fed, &fed, now.minus(seen.at), Budget::of(capacity)));
        self.0.insert(
            slice,
            Seen {
                at: now,
                fed,
                starves,
            },
        );
    }

    /// True if it starved between the last two looks.
    pub fn starves(&self, slice: Slice) -> bool {
        self.0.get(&slice).is_some_and(|seen| seen.starves)
    }
}

fn starved(before: &Fed, fed: &Fed, elapsed: Span, budget: MilliCpu) -> bool {
    let (used, waited) = (fed.used.minus(before.used), fed.waited.minus(before.waited));
    let enough = u128::from(elapsed.0) * u128::from(budget.0) / 1000;
    u128::from(used.0) < enough && waited.0 > elapsed.0 / 2
}

#[cfg(test)]
mod tests;
