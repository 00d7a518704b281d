//! What the fleet may ask of an interference test on a node.
//!
//! Less than the owner may on the node itself. Only the owner knows which of their services can bear how many requests,
//! so the fleet names no address: it probes what node.toml promises, or the test's own stand-in. What a request costs
//! and how long it all takes is bounded, so that whoever may operate a node cannot use the test as a weapon on it.

use alloc::vec::Vec;
use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::Span;

/// What an antagonist uses as hard as it can.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resource {
    /// CPU time: a spinner on each lendable CPU.
    Cpu,
    /// Memory: touched page by page, again and again.
    Memory,
    /// The last-level cache and the way to memory.
    Cache,
    /// The disk: writes with fsync, and reads through the page cache.
    Disk,
}

/// A word that names no resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a resource is one of: cpu, memory, cache, disk")]
pub struct NoResource;

impl Resource {
    /// All, in the order in which they are tried.
    pub const ALL: [Self; 4] = [Self::Cpu, Self::Memory, Self::Cache, Self::Disk];

    /// The word used on the command line and in reports.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Memory => "memory",
            Self::Cache => "cache",
            Self::Disk => "disk",
        }
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl FromStr for Resource {
    type Err = NoResource;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|resource| resource.word() == text)
            .ok_or(NoResource)
    }
}

/// A test as the fleet asks for it. What fits into what is the node's to say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProveAsk {
    /// Probe the test's own service although the owner has named one.
    pub stand_in: bool,
    /// Requests a second.
    pub rate: u32,
    /// What is pressed.
    pub resources: Vec<Resource>,
    /// Pairs of rounds for each of them.
    pub rounds: u32,
    /// Length of a round.
    pub round: Span,
    /// The test ends after this.
    pub limit: Span,
    /// Test although workers run.
    pub with_workers: bool,
}

/// What the fleet may not ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AskProblem {
    /// Nothing to press.
    #[error("no resource is named; name some of cpu, memory, cache, disk")]
    NoResource,
    /// Too many requests, or none.
    #[error("a rate of {0}/s cannot be asked of a node: 1/s to {most}/s can", most = ProveAsk::RATE_MAX)]
    Rate(u32),
    /// Too long.
    #[error("a test of {0} cannot be asked of a node: {most} is the most", most = ProveAsk::LIMIT_MAX)]
    Limit(Span),
}

impl ProveAsk {
    /// What the owner's own test asks of a service when nothing else is said.
    pub const RATE_MAX: u32 = 100;
    /// Longer ones are the owner's to start, on the node.
    pub const LIMIT_MAX: Span = Span::from_secs(30 * 60);

    /// Is it within what the fleet may ask?
    ///
    /// # Errors
    /// What is not, and what would be.
    pub fn check(&self) -> Result<(), AskProblem> {
        if self.resources.is_empty() {
            return Err(AskProblem::NoResource);
        }
        if !(1..=Self::RATE_MAX).contains(&self.rate) {
            return Err(AskProblem::Rate(self.rate));
        }
        if self.limit > Self::LIMIT_MAX {
            return Err(AskProblem::Limit(self.limit));
        }
        Ok(())
    }
}

impl Default for ProveAsk {
    /// What `loadline-warden prove` does when nothing else is said.
    fn default() -> Self {
        Self {
            stand_in: false,
            rate: 100,
            resources: Resource::ALL.to_vec(),
            rounds: 5,
            round: Span::from_secs(10),
            limit: Span::from_secs(600),
            with_workers: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_fleet_may_not_ask_is_said() {
        let ask = ProveAsk::default;
        assert_eq!(ask().check(), Ok(()));
        for rate in [0, 101, u32::MAX] {
            assert_eq!(ProveAsk { rate, ..ask() }.check(), Err(AskProblem::Rate(rate)));
        }
        let limit = ProveAsk::LIMIT_MAX.plus(Span(1));
        assert_eq!(ProveAsk { limit, ..ask() }.check(), Err(AskProblem::Limit(limit)));
        let resources = Vec::new();
        assert_eq!(
            ProveAsk { resources, ..ask() }.check(),
            Err(AskProblem::NoResource)
        );
        let said = AskProblem::Rate(500).to_string();
        assert_eq!(
            said,
            "a rate of 500/s cannot be asked of a node: 1/s to 100/s can"
        );
    }
}
