//! What is known of a node only while fleetd runs: its connection, when it was heard of, what it measures.

use std::collections::BTreeSet;

use loadline_model::{AttemptId, NodeSample, Sequence, Span, WallTime};

use super::command::{Now, SessionId};
use super::node_types::{Cost, Reported, Word};
use super::samples::Gathered;

/// A node that was silent this long is shown as suspect and gets nothing new (design §5).
pub(crate) const SUSPECT_AFTER: Span = Span::from_secs(15);
/// A node that was silent this long is lost (design §5).
pub(crate) const LOST_AFTER: Span = Span::from_secs(60);

/// A node's connection, or what it left behind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Link {
    /// The open session.
    pub session: Option<SessionId>,
    /// What runs there without the fleet knowing why.
    pub orphans: Vec<Reported>,
    /// Attempts the node did not name at its Hello.
    pub sweep: Option<Sweep>,
    /// It was reported as lost.
    pub lost: bool,
}

/// Attempts that should be on the node and were not named in its Hello. Their end is told by an event that is
/// still to come; those left over when all events have come are given up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sweep {
    /// All events up to here existed at the Hello.
    pub due: Sequence,
    /// Which attempts.
    pub missing: BTreeSet<AttemptId>,
}

/// When a node was heard of, and what it measured. Facts about the world: never undone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pulse {
    /// By the steady clock.
    pub(crate) heard: Span,
    /// By the monotonic clock.
    pub(crate) heard_mono: Span,
    /// By the wall clock, since fleetd started.
    pub(crate) heard_at: Option<WallTime>,
    /// Why its warden does not answer, while it does not.
    pub(crate) warden_problem: Option<String>,
    /// What its headroom loop said last.
    pub(crate) word: Option<Box<Word>>,
    /// What earlier starts of its warden had counted since costs were last kept.
    pub(crate) carried: Cost,
    /// What it measured last.
    pub(crate) sample: Option<NodeSample>,
    /// What it measured in the five minutes under way.
    pub(crate) gathered: Gathered,
}

impl Pulse {
    pub(crate) fn hear(&mut self, steady: Span, now: Now) {
        self.heard = steady;
        self.heard_mono = now.mono;
        self.heard_at = Some(now.wall);
    }
}

/// The clock by which nodes are lost: it stands still while too many are silent at once, and begins at zero when
/// fleetd starts.
///
/// Problem: when the fleet's own network breaks, every node falls silent, and replacing all their workers would
/// be wrong. Approach: while more than one node, and more than a third of them, are silent, time does not count.
/// A single silent node is never evidence against the fleet, however small the fleet is.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Steady {
    frozen: Span,
    ticked: Span,
    standing: bool,
}

impl Steady {
    /// The steady time at a moment of the monotonic clock.
    pub(crate) fn at(&self, mono: Span) -> Span {
        let since_tick = if self.standing {
            mono.minus(self.ticked)
        } else {
            Span::ZERO
        };
        mono.minus(self.frozen).minus(since_tick)
    }

    /// Time passed; `silent` of `all` nodes are silent now.
    pub(crate) fn tick(&mut self, mono: Span, silent: usize, all: usize) {
        if self.standing {
            self.frozen = self.frozen.plus(mono.minus(self.ticked));
        }
        self.ticked = mono;
        self.standing = silent > 1 && silent.saturating_mul(3) > all;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: u64) -> Span {
        Span::from_secs(secs)
    }

    #[test]
    fn one_silent_node_of_two_does_not_stop_the_clock() {
        let mut steady = Steady::default();
        steady.tick(at(20), 1, 2);
        assert_eq!(steady.at(at(80)), at(80));
    }

    #[test]
    fn the_clock_stands_while_over_a_third_is_silent_and_goes_on_after() {
        let mut steady = Steady::default();
        steady.tick(at(10), 2, 6);
        assert_eq!(steady.at(at(20)), at(20), "exactly a third is not over a third");
        steady.tick(at(20), 3, 6);
        assert_eq!(steady.at(at(100)), at(20));
        steady.tick(at(100), 3, 6);
        steady.tick(at(120), 1, 6);
        assert_eq!(steady.at(at(130)), at(30));
    }
}
