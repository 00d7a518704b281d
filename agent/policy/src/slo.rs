//! How production's promises stand: from what was measured to the one word that the headroom law is told.
//!
//! The agent measures (it has the network), and tells the warden a percentile or a value with its age; the target
//! stands in the owner's policy and is compared here, in the warden. What is old, or rests on too few samples, is
//! unknown, and unknown never counts as good: it lets nothing grow. But one promise that is known to be missed, or
//! nearly, says more than another that is not known, so the worst that is known wins where it is bad.

pub mod fixed;
pub mod histogram;
pub mod window;

use loadline_model::Span;

use crate::headroom::sample::Slo as Told;
use crate::node_policy::{Probe, SloTarget};
use fixed::Millionths;

/// So many samples make a percentile: with fewer, the 99th of 100 is not among them.
pub const SAMPLES_MIN: usize = 100;
/// Samples older than this say nothing of now. A probe a second, the fewest that an owner can ask for, fills it
/// with more than [`SAMPLES_MIN`].
pub const WINDOW: Span = Span::from_secs(120);
/// However often it is measured, the agent tells the warden once in so long.
pub const TOLD: Span = Span::from_secs(1);
/// After so many periods without news a measurement is unknown.
const PERIODS_FRESH: u64 = 3;
/// Below this slack the law holds lent work, so a known slack below it says more than an unknown one.
const SLACK_BAD: i32 = 100;

/// What was measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measured {
    /// 99 of 100 answers came within this time.
    P99(Span),
    /// A query's value.
    Value(Millionths),
}

/// A measurement and when it was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// None: it could not be measured.
    pub measured: Option<Measured>,
    /// The moment it speaks of, by the monotonic clock.
    pub at: Span,
}

/// How one promise stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Not measured, or too long ago.
    Unknown,
    /// (target − measured) / target, in thousandths; negative: missed.
    Slack(i32),
}

impl Probe {
    /// How often it is made where the owner does not say. Requests of our own are cheap and few; a page of metrics is
    /// not, and servers compute its values every few seconds anyway.
    pub const fn period(&self) -> Span {
        match self {
            Self::Http(_) | Self::Tcp(_) => Span::from_secs(1),
            Self::Scrape { .. } | Self::Promql { .. } | Self::Push => Span::from_secs(5),
        }
    }
}

/// How far from its target a measurement is; none if it is not of the target's kind.
pub fn slack(target: SloTarget, measured: Measured) -> Option<i32> {
    let (target, measured) = match (target, measured) {
        (SloTarget::P99(target), Measured::P99(p99)) => (i128::from(target.0), i128::from(p99.0)),
        (SloTarget::Below(Millionths(below)), Measured::Value(Millionths(value))) => {
            (i128::from(below), i128::from(value))
        }
        _ => return None,
    };
    if target <= 0 {
        return None;
    }
    // Rounded down: what is just missed is missed.
    let thousandths = ((target - measured) * 1000).div_euclid(target);
    let least = i128::from(i32::MIN);
    i32::try_from(thousandths.clamp(least, i128::from(i32::MAX))).ok()
}

/// How a promise that is measured so often stands at a moment.
pub fn standing(target: SloTarget, every: Span, reading: Option<Reading>, now: Span) -> Standing {
    let period = every.max(TOLD);
    let fresh = reading.filter(|reading| now.minus(reading.at) <= period.times(PERIODS_FRESH));
    let slack = fresh.and_then(|reading| slack(target, reading.measured?));
    slack.map_or(Standing::Unknown, Standing::Slack)
}

/// What the law is told of all promises together.
pub fn told(standings: impl IntoIterator<Item = Standing>) -> Told {
    let (mut any, mut unknown, mut worst) = (false, false, i32::MAX);
    for standing in standings {
        any = true;
        match standing {
            Standing::Unknown => unknown = true,
            Standing::Slack(slack) => worst = worst.min(slack),
        }
    }
    match (any, unknown) {
        (false, _) => Told::None,
        (true, true) if worst >= SLACK_BAD => Told::Unknown,
        (true, _) => Told::Slack(worst),
    }
}

#[cfg(test)]
mod tests;
