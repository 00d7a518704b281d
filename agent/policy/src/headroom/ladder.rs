//! The ladder: from what was seen to a level with its reason, and from levels to squeezed tiers.

use loadline_model::{Bytes, MilliCpu, Span};

use super::pace::SEEN_MOST;
use super::stall::{Kind, Stall};
use super::{Bounds, Level, Reason, Slo};
use crate::settings::Squeezed;

/// Slack, in thousandths, below which production's promise is missed, close, or near.
const MISSED: i32 = 0;
const CLOSE: i32 = 50;
const NEAR: i32 = 100;
/// The line of now is this many hundredths of the quota or less: a shrink worth the name.
const BELOW: u64 = 98;
/// All of production waited for memory for more than 5 % of 10 s.
const FULL_MOST: Span = Span::from_millis(500);
/// If squeezing burst has not helped by then, standard is squeezed too.
const BURST_ALONE: Span = Span::from_millis(300);
/// Standard gets its CPU back this long before burst.
const STANDARD_FIRST: Span = Span::from_secs(1);
/// Production that stalls after so many cuts in a row needs more than another one. With one cut less, an
/// emulated guest was squeezed six times in seven minutes of starting and ending workers, with nothing else to do.
const CUTS: u32 = 2;
/// What squeezed tiers wait for where production's use was the cause: that it leaves so many floors.
const LET_GO: u64 = 2;
/// If squeezing has not helped by then, nothing but going does.
const IN_VAIN: Span = Span::from_secs(30);

/// Everything that a level follows from.
#[derive(Debug, Clone, Copy)]
pub(super) struct View<'a> {
    pub(super) bounds: &'a Bounds,
    /// False: use and stalls are unknown.
    pub(super) sees: bool,
    pub(super) production: MilliCpu,
    /// The same as a mean of 10 s.
    pub(super) lasting: MilliCpu,
    pub(super) squeezed: Squeezed,
    pub(super) quota: MilliCpu,
    /// It is bad now.
    pub(super) bad: Option<Stall>,
    /// It was bad a moment ago, before now.
    pub(super) lately: Option<Stall>,
    /// How many bad moments there were just before, each answered by a cut.
    pub(super) run: u32,
    /// For how long production waited for memory in 10 s; zero if by its own doing.
    pub(super) full: Span,
    pub(super) memory: Option<Bytes>,
    /// Lent work holds memory that can be taken from it.
    pub(super) holds_memory: bool,
    /// Lent work's disk use can still be lowered.
    pub(super) io_can_fall: bool,
    pub(super) slo: Slo,
    pub(super) held: bool,
}

impl View<'_> {
    fn slack_below(&self, limit: i32) -> Option<Reason> {
        match self.slo {
            Slo::Slack(slack) if slack < limit => Some(Reason::SloSlack(slack)),
            _ => None,
        }
    }

    /// True if production's promise is so close that lent work must retreat.
    pub(super) fn is_close(&self) -> bool {
        self.slack_below(CLOSE).is_some()
    }

    fn memory_below(&self, part: u64) -> Option<Reason> {
        let limit = Bytes(self.bounds.memory_free.0 / part);
        self.memory.filter(|left| *left < limit).map(Reason::MemoryLow)
    }

    /// Production misses what it was promised, now or a moment ago.
    fn missing(&self) -> Option<Reason> {
        let stalled = self.bad.or(self.lately).map(Stall::reason);
        self.slack_below(MISSED).or(stalled)
    }

    fn evict(&self) -> Option<Reason> {
        // The value is that of one tenth of a second, as in every stall.
        // While there is memory to be had, it waits for what its own limits withhold.
        let scarce = self.memory.is_none_or(|left| left < self.bounds.memory_free);
        let stalled =
            (scarce && self.full > FULL_MOST).then_some(Reason::MemoryStall(Span(self.full.0 / 100)));
        self.memory_below(4).or(stalled)
    }

    /// True if production's use leaves no more than the floor, and has done so for long: a spike is answered by the
    /// quota alone.
    fn is_crowded(&self) -> bool {
        let enough = match self.squeezed {
            Squeezed::No => self.bounds.floor,
            // Or a use that lies at the limit would squeeze and let go in turns.
            Squeezed::Burst | Squeezed::All => self.bounds.floor.times(LET_GO),
        };
        let left = self.bounds.left_by(self.lasting);
        self.sees && left <= enough && self.lasting > self.bounds.reserve
    }

    fn squeeze(&self) -> Option<Reason> {
        let still = self.bad.filter(|stall| {
            // A disk is answered by the disk's limit as long as that has room to fall.
            self.run >= CUTS && !(stall.kind == Kind::Io && self.io_can_fall)
        });
        let still = still.map(Stall::reason);
        let by_use = self.is_crowded().then_some(Reason::ProductionUse(self.lasting));
        self.slack_below(MISSED)
            .or(still)
            .or(self.memory_below(2))
            .or(by_use)
    }

    fn shrink(&self) -> Option<Reason> {
        let wanted = self.bounds.quota(self.bounds.left_by(self.production));
        let by_use = self.sees && u128::from(wanted.0) * 100 < u128::from(self.quota.0) * u128::from(BELOW);
        let scarce = self.memory_below(1).filter(|_| self.holds_memory);
        self.bad
            .map(Stall::reason)
            .or(scarce)
            .or(self.slack_below(CLOSE))
            .or(by_use.then_some(Reason::ProductionUse(self.production)))
    }

    fn hold(&self) -> Option<Reason> {
        let blind = (!self.sees).then_some(Reason::Blind);
        let unknown = (self.slo == Slo::Unknown).then_some(Reason::SloUnknown);
        let held = self.held.then_some(Reason::Backoff);
        blind.or(self.slack_below(NEAR)).or(unknown).or(held)
    }

    /// The level by this look alone, with its strongest cause.
    fn level(&self) -> (Level, Reason) {
        let rungs = [
            (Level::Evict, self.evict()),
            (Level::Squeeze, self.squeeze()),
            (Level::Shrink, self.shrink()),
            (Level::Hold, self.hold()),
        ];
        rungs
            .into_iter()
            .find_map(|(level, reason)| Some((level, reason?)))
            .unwrap_or_default()
    }
}

/// Where on the ladder lent work stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ladder {
    squeezed: Squeezed,
    /// For how long they have been the same.
    stood: Span,
    /// For how long production has missed its promise with tiers squeezed.
    in_vain: Span,
}

impl Ladder {
    pub(super) const fn new() -> Self {
        Self {
            squeezed: Squeezed::No,
            stood: Span::ZERO,
            in_vain: Span::ZERO,
        }
    }

    pub(super) const fn squeezed(&self) -> Squeezed {
        self.squeezed
    }

    /// The level of this look alone, or `Evict` if squeezing has been in vain.
    pub(super) fn danger(&mut self, view: &View<'_>, elapsed: Span) -> (Level, Reason) {
        self.stood = self.stood.plus(elapsed);
        let missing = view.missing().filter(|_| self.squeezed != Squeezed::No);
        match missing {
            // A gap in which nobody looked is no proof.
            Some(_) => self.in_vain = self.in_vain.plus(elapsed.min(SEEN_MOST)),
            None => self.in_vain = Span::ZERO,
        }
        match (missing, view.level()) {
            (Some(reason), (level, _)) if level < Level::Evict && self.in_vain > IN_VAIN => {
                (Level::Evict, reason)
            }
            (_, danger) => danger,
        }
    }

    /// Squeezes and releases; tiers that stay squeezed are a level of their own.
    pub(super) fn climb(&mut self, danger: (Level, Reason)) -> (Level, Reason) {
        let next = match (danger.0, self.squeezed) {
            (Level::Squeeze | Level::Evict, Squeezed::No) => Squeezed::Burst,
            (Level::Squeeze | Level::Evict, Squeezed::Burst) if self.stood >= BURST_ALONE => Squeezed::All,
            // To release is to grow: only where the quota could grow too.
            (Level::Open, Squeezed::All) => Squeezed::Burst,
            (Level::Open, Squeezed::Burst) if self.stood >= STANDARD_FIRST => Squeezed::No,
            (_, squeezed) => squeezed,
        };
        if next != self.squeezed {
            self.squeezed = next;
            self.stood = Span::ZERO;
        }
        if self.squeezed == Squeezed::No || danger.0 >= Level::Squeeze {
            return danger;
        }
        let reason = match danger.1 {
            Reason::Calm => Reason::Backoff,
            reason => reason,
        };
        (Level::Squeeze, reason)
    }
}
