//! Backfill: small work runs in the gap before a large job, and never in its way.
//!
//! Problem: whoever needs much waits until much is free at once; if everyone who fits passes it, that never comes.
//! Approach: EASY (Lifka, JSSPP 1995): the first that finds no room has it kept at the moment at which it is expected;
//! who comes later starts if it ends before that, or leaves that room. How it is kept on nodes is the planner's
//! (`planner/keeps.rs`); here are its rules and what is known of ends.

use loadline_model::{Span, WallTime};
use serde::{Deserialize, Serialize};

/// What the operators decide about backfill.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackfillRules {
    /// So many blocked claims get reservations; zero: whoever fits starts.
    pub reservations: usize,
}

impl Default for BackfillRules {
    /// One, as EASY has it: more reservations leave fewer gaps to those behind.
    fn default() -> Self {
        Self { reservations: 1 }
    }
}

/// When something ends, as far as that is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// Then.
    At(WallTime),
    /// Some time: after everything of which the end is known.
    Unknown,
}

impl End {
    pub(crate) fn after(begin: Self, estimate: Option<Span>) -> Self {
        match (begin, estimate) {
            (Self::At(begin), Some(estimate)) => Self::At(begin.plus(estimate)),
            _ => Self::Unknown,
        }
    }
}
