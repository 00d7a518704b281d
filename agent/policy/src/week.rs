//! What production used over its last week: the 99th percentile that the firm line is taken from (design §1).
//!
//! **Problem.** A worker of the standard tier is placed for hours. What production leaves at this moment says little
//! about that time; what it used over a week says more. The fleet keeps samples too, but a node has to work with the
//! fleet gone, and may refuse whatever the fleet thinks: its own history rules.
//! **Approach.** Looks of a few seconds are counted by time in histograms of an hour each (`history`), of which the
//! last 168 are kept; both resources apart.
//! **Terms.** *Watched*: time that a look stands for. An hour is an hour of that, and a week 168 of them.
//! **Properties.** Time is counted from differences of the monotonic clock alone. So no jump of the wall clock and no
//! restart of the machine changes anything, and while the machine or the warden is off the history neither grows nor
//! ages: the line never rises because nobody looked. What is known never raises the line above what the reserve and the
//! headroom leave. A percentile is never below the true one, and above it by less than 1 % of the capacity (of the
//! largest, if that changed).
//!
//! **Choices.** Nothing is known before a day was watched. Of less, 1 % is a few minutes, and one start of the machine
//! or one backup would hold the line down. A day has its 14 minutes, and its busy hours. No more is asked: a first day
//! that was quiet leaves the line where it would be without any history. A machine that is on eight hours a day has its
//! week after three of the calendar's: what it used while it was on is what counts. A look of more than a minute is no
//! look: the mean of a long time hides its peaks, and what passed meanwhile nobody saw.

mod history;

use alloc::vec::Vec;

use loadline_model::{Bytes, MilliCpu, Span};
use serde::{Deserialize, Serialize};

use history::History;

pub use history::{KeptHour, KeptProblem};

/// Rates over less than this say more about the reading than about the machine …
const SHORTEST: Span = Span::from_secs(1);
/// … and means of more hide what there was.
const LONGEST: Span = Span::from_secs(60);
/// So long has to be watched before anything is said.
pub const KNOWN_FROM: Span = Span::from_secs(24 * 3600);

/// All there is of both resources. It may differ from look to look: CPUs and memory come and go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capacity {
    /// CPU.
    pub cpu: MilliCpu,
    /// Memory.
    pub memory: Bytes,
}

/// What production used over a few seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// How long, by the monotonic clock.
    pub over: Span,
    /// CPU, the mean; none: it could not be read.
    pub cpu: Option<MilliCpu>,
    /// Memory, at the end; none: it could not be read.
    pub memory: Option<Bytes>,
}

/// The 99th percentiles of its week; none: not known yet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Known {
    /// CPU.
    pub cpu: Option<MilliCpu>,
    /// Memory.
    pub memory: Option<Bytes>,
}

/// What production used over its last 168 hours that were watched.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Week {
    cpu: History,
    memory: History,
}

/// The same as it is kept in a file: hours of each resource, the oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kept {
    /// In thousandths of a CPU.
    pub cpu: Vec<KeptHour>,
    /// In bytes.
    pub memory: Vec<KeptHour>,
}

impl Week {
    /// Takes a look. False: it says nothing, being too short or too long.
    pub fn see(&mut self, capacity: &Capacity, look: &Look) -> bool {
        if look.over < SHORTEST || look.over > LONGEST {
            return false;
        }
        if let Some(cpu) = look.cpu {
            self.cpu.count(capacity.cpu.0, cpu.0, look.over);
        }
        if let Some(memory) = look.memory {
            self.memory.count(capacity.memory.0, memory.0, look.over);
        }
        look.cpu.is_some() || look.memory.is_some()
    }

    /// What is known.
    pub fn known(&self) -> Known {
        let p99 = |history: &History| (history.watched() >= KNOWN_FROM).then(|| history.p99()).flatten();
        Known {
            cpu: p99(&self.cpu).map(MilliCpu),
            memory: p99(&self.memory).map(Bytes),
        }
    }

    /// How much of the week was watched, of the resource of which less was.
    pub fn watched(&self) -> Span {
        self.cpu.watched().min(self.memory.watched())
    }

    /// As it is kept.
    pub fn kept(&self) -> Kept {
        Kept {
            cpu: self.cpu.kept(),
            memory: self.memory.kept(),
        }
    }

    /// As it was kept.
    ///
    /// # Errors
    /// When it is not what [`Week::kept`] gives.
    pub fn restore(kept: &Kept) -> Result<Self, KeptProblem> {
        Ok(Self {
            cpu: History::restore(&kept.cpu)?,
            memory: History::restore(&kept.memory)?,
        })
    }
}

#[cfg(test)]
mod tests;
