//! The interference test: does lent work, held at the line, cost production anything on this very machine?
//!
//! **Problem.** An owner should not have to believe a table of somebody else's machine. But a test that presses
//! production is a danger to it, and a latency measured once says little.
//! **Approach.** Rounds with production alone (A) and with one built-in antagonist that runs as lent work does (B)
//! take turns, A B B A, so that a drift of the machine hits both alike ([`plan`]). The test starts only where the line
//! has room ([`start`]), takes no more than the line leaves ([`room`]), and stops at the first sign of danger
//! ([`danger`]). What counts is the ratio of the two p99 of a pair of rounds ([`estimate`]). What the fleet may have of
//! it is in [`ordered`].
//! **Terms.** *Pair*: one round of each side, next to each other. *Antagonist*: a process that uses one resource as hard
//! as it can. *Verdict*: what the ratios of all pairs say of a resource.
//! **Properties.** The same measurements give the same verdict, bootstrap included. More danger never keeps a test
//! running that less would have stopped. Nothing is ever granted beyond the line.

pub mod danger;
pub mod estimate;
pub mod ordered;
pub mod plan;
pub mod room;
pub mod start;

pub use loadline_model::{NoResource, Resource};
use serde::{Deserialize, Serialize};

/// Whether anything is lent in a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// A: production alone.
    Alone,
    /// B: with the antagonist.
    Lent,
}

/// A latency in milliseconds with two decimals, as people read it.
pub(crate) fn millis(span: loadline_model::Span) -> alloc::string::String {
    alloc::format!("{}.{:02} ms", span.0 / 1000, span.0 % 1000 / 10)
}
