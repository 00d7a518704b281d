//! Who hangs at its own memory limit: it has run out of memory, and has not the CPU for the kernel to find that out, or
//! to die of it.
//!
//! **Problem.** Whoever meets its limit takes memory back from itself before the kernel kills, pass after pass, on its
//! own CPU time. A starved worker has next to none: with all its memory in use it stood there for minutes.
//! **Approach.** Once a second those who starve are looked at. Who has met its limit and stands there with little that
//! could be taken back has it taken by whoever has CPU. Who stands there with next to nothing, and goes on to ask for
//! more, for [`HANGS`] on end, would have been killed by the kernel long ago, had it the CPU. And whom the kernel has
//! killed is being ended: it gets what all others get for that. **Properties.** Who holds page cache that can be given
//! back never hangs, however often it meets its limit; nor who asks for no more; nor who gets CPU enough, since the
//! kernel judges better.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use loadline_model::{AttemptId, Bytes, PerMille, Span};

/// For so long without a pause. On its own CPU time the kernel needs less than a tenth of a second.
pub const HANGS: Span = Span::from_secs(2);
/// So near to the limit is at the limit, and so much besides of a large one: the kernel charges in batches, on each CPU,
/// and gives them back when it is refused.
const NEAR: Bytes = Bytes(512 << 10);
const NEAR_SHARE: PerMille = PerMille(1);
/// With more of the limit than this that could be taken back it has not run out. Who had run out of 64 MiB in a guest
/// had 12 KiB.
const SPARE: PerMille = PerMille(10);
/// Less than that, and it is at its end, and only has not the CPU to take it: 1 MiB took 48 s.
const LITTLE: PerMille = PerMille(125);
/// Production's CPU goes into that.
const TAKE_MOST: Bytes = Bytes::from_mib(16);
/// Of the time that it stood there.
const NEARLY_ALL: PerMille = PerMille(750);
/// Who has not asked for so long does something else; and two looks that are further apart say nothing of what was
/// between them.
const ASKED_LATELY: Span = Span::from_secs(5);

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
        used.plus(NEAR).plus(limit.share(NEAR_SHARE)) >= limit
    }

    fn is_stuck(&self) -> bool {
        Self::is_full(self.used, self.limit) && self.spare <= self.limit.share(SPARE)
    }

    /// What is to be taken back for it.
    fn little(&self) -> Option<Bytes> {
        let little = self.limit.share(SPARE)..self.limit.share(LITTLE);
        let is_full = Self::is_full(self.used, self.limit);
        (is_full && little.contains(&self.spare)).then(|| self.spare.min(TAKE_MOST))
    }
}

/// How it stands with someone who starves without memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hang {
    /// So much is left that could be taken back from it, and is to be: then it goes on, or has run out.
    Take(Bytes),
    /// It has run out, and has stood at its limit for so long.
    Stands(Span),
    /// The kernel has killed it, and it is still there.
    Killed,
}

/// Someone who stands at the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stand {
    since: Span,
    /// As it was then.
    memory: Memory,
    /// When it last met the limit.
    asked: Span,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen {
    at: Span,
    memory: Memory,
    /// It has asked for memory since the last look.
    asked: bool,
    stand: Option<Stand>,
}

impl Seen {
    fn of(before: Option<&Self>, now: Span, memory: &Memory) -> Self {
        let before = before.filter(|seen| now > seen.at && now.minus(seen.at) <= ASKED_LATELY);
        // Without a look before: it starves since a moment ago, and may stand there already.
        let asked = memory.met > before.map_or(0, |seen| seen.memory.met);
        let stood = before.and_then(|seen| seen.stand).filter(|_| memory.is_stuck());
        let stand = match stood {
            Some(stand) if asked => Some(Stand { asked: now, ..stand }),
            Some(stand) => {
                Some(stand).filter(|stand| now.minus(stand.asked) <= ASKED_LATELY || stand.waits(now, memory))
            }
            None => (asked && memory.is_stuck()).then_some(Stand {
                since: now,
                memory: *memory,
                asked: now,
            }),
        };
        Self {
            at: now,
            memory: *memory,
            asked,
            stand,
        }
    }

    fn hangs(&self) -> Option<Hang> {
        if self.memory.killed > 0 {
            return Some(Hang::Killed);
        }
        if let Some(little) = self.memory.little().filter(|_| self.asked) {
            return Some(Hang::Take(little));
        }
        let stand = self.stand?;
        let asks = self.memory.met > stand.memory.met || stand.waits(self.at, &self.memory);
        let stood = self.at.minus(stand.since);
        (asks && stood >= HANGS).then_some(Hang::Stands(stood))
    }
}

impl Stand {
    /// True if it has waited for memory nearly all the time: a single pass of the kernel's may take that long.
    fn waits(&self, now: Span, memory: &Memory) -> bool {
        let waited = self.memory.waited.zip(memory.waited);
        let stood = now.minus(self.since);
        waited.is_some_and(|(before, now)| now.minus(before) >= stood.share(NEARLY_ALL))
    }
}

/// What was seen of those who starve; kept between looks, in memory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Watch(BTreeMap<AttemptId, Seen>);

impl Watch {
    /// One look at all who starve now, and at nobody else. Gives who hangs.
    pub fn look(&mut self, now: Span, starving: &[(AttemptId, Memory)]) -> Vec<(AttemptId, Hang)> {
        let seen =
            |(attempt, memory): &(AttemptId, Memory)| (*attempt, Seen::of(self.0.get(attempt), now, memory));
        self.0 = starving.iter().map(seen).collect();
        let all = self.0.iter();
        all.filter_map(|(attempt, seen)| Some((*attempt, seen.hangs()?)))
            .collect()
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
        Hang::Take(_) | Hang::Killed => String::new(),
    };
    format!("{reached}{ended}; ask for more with `worker.memory`, or use less")
}

#[cfg(test)]
mod tests;
