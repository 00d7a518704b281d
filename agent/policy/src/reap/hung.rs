//! Who hangs at its own memory limit: it has run out of memory, and has not the CPU for the kernel to find that out, or
//! to die of it.
//!
//! **Problem.** Whoever meets its limit takes memory back from itself before the kernel kills, pass after pass, on its
//! own CPU time. A starved worker has next to none: with all its memory in use it stood there for minutes.
//! **Approach.** Once a second those who starve are looked at. Who has met its limit, stands there with next to nothing
//! that could be taken back, and waits for memory nearly all the time, for [`HANGS`] on end, would have been killed by
//! the kernel long ago, had it the CPU. And whom the kernel has killed is being ended: it gets what all others get for
//! that. **Properties.** Who holds page cache that can be given back never counts, however often it meets its limit; nor
//! who does something else most of the time; nor who gets CPU enough, since the kernel judges better.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use loadline_model::{AttemptId, Bytes, PerMille, Span};

/// For so long without a pause. On its own CPU time the kernel needs less than a tenth of a second.
pub const HANGS: Span = Span::from_secs(3);
/// So near to the limit is at the limit: the kernel charges in batches, and gives a batch back when it is refused.
const NEAR: PerMille = PerMille(30);
/// More than this of the limit that could be taken back: it only has to be taken.
const SPARE: PerMille = PerMille(60);
/// Of the time between two looks.
const NEARLY_ALL: PerMille = PerMille(750);
/// Two looks that are further apart say nothing of what was between them.
const LOOK_MOST: Span = Span::from_secs(5);

/// One look at a worker's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// What it holds.
    pub used: Bytes,
    /// Its limit.
    pub limit: Bytes,
    /// How often it has met its limit.
    pub met: u64,
    /// How many of its processes the kernel has killed for memory; the others go with them.
    pub killed: u64,
    /// What can be taken back from it: page cache and the like.
    pub spare: Bytes,
    /// How long some of it has waited for memory; none where the kernel does not count that.
    pub waited: Option<Span>,
}

impl Memory {
    /// True if it has no room left. Only then `spare` and `waited` need to be read.
    pub fn is_full(used: Bytes, limit: Bytes) -> bool {
        used.plus(limit.share(NEAR)) >= limit
    }

    fn is_stuck(&self) -> bool {
        Self::is_full(self.used, self.limit) && self.spare <= self.limit.share(SPARE)
    }

    /// True if from that look to this one it did nothing but ask for memory.
    fn waited_since(&self, before: &Self, elapsed: Span) -> bool {
        match (before.waited, self.waited) {
            (Some(before), Some(now)) => now.minus(before) >= elapsed.share(NEARLY_ALL),
            // Each pass begins with meeting the limit again.
            _ => self.met > before.met,
        }
    }
}

/// How it stands with someone who will not end by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hang {
    /// It has stood at its limit for so long.
    Stands(Span),
    /// The kernel has killed it, and it is still there.
    Killed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen {
    at: Span,
    memory: Memory,
    /// It stands there since then.
    since: Option<Span>,
}

impl Seen {
    fn hangs(&self) -> Option<Hang> {
        if self.memory.killed > 0 {
            return Some(Hang::Killed);
        }
        let stands = self.at.minus(self.since?);
        (stands >= HANGS).then_some(Hang::Stands(stands))
    }
}

/// What was seen of those who starve; kept between looks, in memory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Watch(BTreeMap<AttemptId, Seen>);

impl Watch {
    /// One look at all who starve now, and at nobody else. Gives who hangs.
    pub fn look(&mut self, now: Span, starving: &[(AttemptId, Memory)]) -> Vec<(AttemptId, Hang)> {
        let fresh = starving.iter().map(|(attempt, memory)| {
            let before = self.0.get(attempt).filter(|seen| now > seen.at);
            let seen = Seen {
                at: now,
                memory: *memory,
                since: since(before, now, memory),
            };
            (*attempt, seen)
        });
        self.0 = fresh.collect();
        let all = self.0.iter();
        all.filter_map(|(attempt, seen)| Some((*attempt, seen.hangs()?)))
            .collect()
    }
}

fn since(before: Option<&Seen>, now: Span, memory: &Memory) -> Option<Span> {
    if !memory.is_stuck() {
        return None;
    }
    let before = before.filter(|before| now.minus(before.at) <= LOOK_MOST);
    match before.map(|before| (before, before.since)) {
        Some((before, Some(since))) => {
            let waited = memory.waited_since(&before.memory, now.minus(before.at));
            waited.then_some(since)
        }
        Some((before, None)) => (memory.met > before.memory.met).then_some(now),
        // It starves since a moment ago, and may stand there already.
        None => (memory.met > 0).then_some(now),
    }
}

/// What a person is told whose worker was ended for it.
pub fn sentence(memory: &Memory, peak: Option<Bytes>, hang: Hang) -> String {
    let peak = peak.unwrap_or(memory.used).max(memory.used);
    let reached = format!("it reached its memory limit of {} (peak {peak})", memory.limit);
    let ended = match hang {
        Hang::Stands(stood) => format!(
            " and stood there for {stood}, since production used the CPUs that the kernel needs to end it; \
             loadline-warden ended it"
        ),
        Hang::Killed => String::new(),
    };
    format!("{reached}{ended}; ask for more with `worker.memory`, or use less")
}

#[cfg(test)]
mod tests;
