//! How much a team may hold at once and spend in a period, and the sentence for who asks for more.
//!
//! Approach: what is held is counted when a worker starts. A period's budget pays for the workers that start in it,
//! in full and beforehand, by their time limit, which the node enforces; what they did not use is given back at their
//! end. So a budget is never exceeded, and nothing has to be ended for it.

use core::fmt;

use loadline_model::{Amounts, Bytes, MilliCpu, Span, WallTime};
use serde::{Deserialize, Serialize};

use crate::policy::Spent;

/// What is limited and accounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resource {
    /// CPU.
    Cpu,
    /// Memory.
    Memory,
    /// GPUs.
    Gpus,
}

/// The most that may be held at once; none: no limit of that kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AtOnce {
    /// CPU.
    pub cpu: Option<MilliCpu>,
    /// Memory.
    pub memory: Option<Bytes>,
    /// GPUs.
    pub gpus: Option<u32>,
}

/// The most that may be spent in each period; none: no limit of that kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Budget {
    /// How long a period is; longer than zero.
    pub period: Span,
    /// When one of them began.
    pub since: WallTime,
    /// CPU-hours.
    pub cpu_hours: Option<u64>,
    /// GiB-hours of memory.
    pub gib_hours: Option<u64>,
    /// GPU-hours.
    pub gpu_hours: Option<u64>,
}

/// All limits of a team.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quota {
    /// Of the whole team.
    pub team: AtOnce,
    /// Of each of its users.
    pub user: AtOnce,
    /// Of the whole team in each period.
    pub budget: Option<Budget>,
}

/// Whose limit it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Whose {
    /// The team's.
    Team,
    /// Each user's.
    User,
}

/// Why a quota keeps a job waiting. Amounts are in the resource's own unit: thousandths of a CPU, bytes, GPUs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OverQuota {
    /// More than may be held at once, with what is held now.
    #[error("{}", Sentence(self))]
    Held {
        /// Whose limit.
        whose: Whose,
        /// Of what.
        resource: Resource,
        /// What is held.
        held: u64,
        /// What is asked for on top.
        asked: u64,
        /// The limit.
        limit: u64,
    },
    /// More than the rest of the period's budget. Amounts are whole hours.
    #[error("{}", Sentence(self))]
    Spent {
        /// Of what.
        resource: Resource,
        /// Hours that are spent or promised.
        spent: u64,
        /// Hours asked for on top.
        asked: u64,
        /// The budget in hours.
        limit: u64,
        /// When the next period begins.
        next: WallTime,
    },
    /// A budget has to know how long a job may run.
    #[error(
        "the team has a budget of hours, and the job does not say how long it may run: give it a time limit"
    )]
    NoTimeLimit,
}

impl OverQuota {
    /// True if it asks for more than is ever allowed: waiting does not help.
    #[must_use]
    pub const fn is_for_good(&self) -> bool {
        match self {
            Self::Held { asked, limit, .. } | Self::Spent { asked, limit, .. } => *asked > *limit,
            Self::NoTimeLimit => true,
        }
    }
}

/// The sentence about a limit, with its next step.
struct Sentence<'a>(&'a OverQuota);

impl fmt::Display for Sentence<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let amount = |f: &mut fmt::Formatter<'_>, resource: &Resource, amount: u64| match resource {
            Resource::Cpu => write!(f, "{} CPUs", MilliCpu(amount)),
            Resource::Memory => write!(f, "{} of memory", Bytes(amount)),
            Resource::Gpus => write!(f, "{amount} GPUs"),
        };
        match self.0 {
            OverQuota::Held {
                whose,
                resource,
                held,
                asked,
                limit,
            } => {
                let whose = match whose {
                    Whose::Team => "the team",
                    Whose::User => "a user of the team",
                };
                write!(f, "{whose} may hold ")?;
                amount(f, resource, *limit)?;
                f.write_str(" at once; ")?;
                amount(f, resource, *held)?;
                f.write_str(" are held and ")?;
                amount(f, resource, *asked)?;
                f.write_str(" asked for")?;
            }
            OverQuota::Spent {
                resource,
                spent,
                asked,
                limit,
                ..
            } => {
                let unit = match resource {
                    Resource::Cpu => "CPU-hours",
                    Resource::Memory => "GiB-hours",
                    Resource::Gpus => "GPU-hours",
                };
                write!(
                    f,
                    "the team may spend {limit} {unit} in a period; {spent} are spent or promised and {asked} asked for"
                )?;
            }
            OverQuota::NoTimeLimit => {}
        }
        f.write_str(match self.0.is_for_good() {
            true => ": ask for less, or have an operator raise the quota",
            false => ": it starts once enough is free again",
        })
    }
}

impl AtOnce {
    /// Says whether so much more may be held.
    ///
    /// # Errors
    /// The first limit that would be exceeded.
    pub fn admits(&self, whose: Whose, held: Amounts, asked: Amounts) -> Result<(), OverQuota> {
        let limits = [
            (
                Resource::Cpu,
                self.cpu.map(|limit| limit.0),
                held.cpu.0,
                asked.cpu.0,
            ),
            (
                Resource::Memory,
                self.memory.map(|limit| limit.0),
                held.memory.0,
                asked.memory.0,
            ),
            (
                Resource::Gpus,
                self.gpus.map(u64::from),
                held.gpus.into(),
                asked.gpus.into(),
            ),
        ];
        for (resource, limit, held, asked) in limits {
            // What asks for nothing of it passes, also where a lowered limit is below what is held.
            if let Some(limit) = limit
                && asked > 0
                && held.saturating_add(asked) > limit
            {
                return Err(OverQuota::Held {
                    whose,
                    resource,
                    held,
                    asked,
                    limit,
                });
            }
        }
        Ok(())
    }
}

impl Budget {
    /// The number of the period in which a moment lies.
    #[must_use]
    pub const fn period_of(&self, now: WallTime) -> i64 {
        let length = self.length();
        now.0.saturating_sub(self.since.0).div_euclid(length)
    }

    /// When the next period begins.
    #[must_use]
    pub const fn next(&self, now: WallTime) -> WallTime {
        let begun = self.period_of(now).saturating_mul(self.length());
        WallTime(self.since.0.saturating_add(begun).saturating_add(self.length()))
    }

    /// In microseconds; a period of nothing would divide by zero.
    #[expect(
        clippy::cast_possible_wrap,
        reason = "bounded by i64::MAX in the branch before"
    )]
    const fn length(&self) -> i64 {
        match self.period.0 {
            0 => 1,
            micros if micros > i64::MAX as u64 => i64::MAX,
            micros => micros as i64,
        }
    }

    /// Says whether so much more may be spent in the period of `now`.
    ///
    /// # Errors
    /// The first limit that would be exceeded.
    pub fn admits(&self, paid: Spent, asked: Spent, now: WallTime) -> Result<(), OverQuota> {
        const HOUR: u128 = 3_600_000_000;
        let limits = [
            (Resource::Cpu, self.cpu_hours, paid.cpu, asked.cpu, 1000 * HOUR),
            (
                Resource::Memory,
                self.gib_hours,
                paid.memory,
                asked.memory,
                HOUR << 30,
            ),
            (Resource::Gpus, self.gpu_hours, paid.gpus, asked.gpus, HOUR),
        ];
        for (resource, limit, paid, asked, hour) in limits {
            if let Some(limit) = limit
                && asked > 0
                && paid.saturating_add(asked) > u128::from(limit) * hour
            {
                let hours = |spent: u128| u64::try_from(spent.div_ceil(hour)).unwrap_or(u64::MAX);
                return Err(OverQuota::Spent {
                    resource,
                    spent: hours(paid),
                    asked: hours(asked),
                    limit,
                    next: self.next(now),
                });
            }
        }
        Ok(())
    }
}
