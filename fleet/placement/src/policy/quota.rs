//! How much a team may hold at once and spend in a period, and the sentence for who asks for more.
//!
//! Approach: what is held is counted when a worker starts. A period's budget pays for the workers that start in it,
//! in full and beforehand, by their time limit, which the node enforces; what they did not use is given back at their
//! end. So a budget is never exceeded, and nothing has to be ended for it.

use alloc::format;
use alloc::string::String;
use core::fmt;

use loadline_model::{Bytes, MilliCpu, MilliGpu, Span, WallTime};
use serde::{Deserialize, Serialize};

use crate::policy::{Counted, Spent};

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
    /// Workers, whatever they hold.
    Workers,
}

/// What is held, as limits count it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// What the workers were given.
    pub amounts: Counted,
    /// How many they are.
    pub workers: u32,
}

impl Held {
    /// Both together.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self {
            amounts: self.amounts.plus(other.amounts),
            workers: self.workers.saturating_add(other.workers),
        }
    }

    /// What is left, each at least nothing.
    #[must_use]
    pub const fn minus(self, other: Self) -> Self {
        Self {
            amounts: self.amounts.minus(other.amounts),
            workers: self.workers.saturating_sub(other.workers),
        }
    }
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
    /// Workers.
    pub workers: Option<u32>,
}

/// When a new budget begins, by UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Period {
    /// After each such length.
    Each {
        /// Longer than zero.
        length: Span,
        /// When one of them began.
        since: WallTime,
    },
    /// At midnight of the first of each month.
    Month,
}

impl Period {
    /// From midnight to midnight.
    pub const DAY: Self = Self::Each {
        length: Span::from_secs(24 * 3600),
        since: WallTime(0),
    };
    /// From Monday to Monday: 1970 began on a Thursday.
    pub const WEEK: Self = Self::Each {
        length: Span::from_secs(7 * 24 * 3600),
        since: WallTime(4 * DAY_MICROS),
    };

    /// The number of the period in which a moment lies.
    #[must_use]
    pub fn number(&self, now: WallTime) -> i64 {
        match self {
            Self::Each { length, since } => now.0.saturating_sub(since.0).div_euclid(micros(*length)),
            Self::Month => month_of(now.0.div_euclid(DAY_MICROS)),
        }
    }

    /// When the next period begins.
    #[must_use]
    pub fn next(&self, now: WallTime) -> WallTime {
        match self {
            Self::Each { length, since } => {
                let begun = self.number(now).saturating_add(1).saturating_mul(micros(*length));
                WallTime(since.0.saturating_add(begun))
            }
            Self::Month => WallTime(first_day(self.number(now) + 1).saturating_mul(DAY_MICROS)),
        }
    }
}

const DAY_MICROS: i64 = 24 * 3600 * 1_000_000;

/// In microseconds; a period of nothing would divide by zero.
fn micros(length: Span) -> i64 {
    i64::try_from(length.0).unwrap_or(i64::MAX).max(1)
}

/// The number of the month, from January of the year 0 on, in which a day lies, counted from 1970-01-01.
fn month_of(day: i64) -> i64 {
    // A guess by the mean length of a month is off by one at most.
    let mut month = 1970 * 12 + day.saturating_mul(4800).div_euclid(146_097);
    while first_day(month) > day {
        month -= 1;
    }
    while first_day(month + 1) <= day {
        month += 1;
    }
    month
}

/// The first day of a month, counted from 1970-01-01 (Gregorian calendar).
fn first_day(month: i64) -> i64 {
    const BEFORE: [i64; 12] = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334];
    let (year, of_year) = (month.div_euclid(12), month.rem_euclid(12));
    let leap = year.rem_euclid(4) == 0 && (year.rem_euclid(100) != 0 || year.rem_euclid(400) == 0);
    let leaps = |year: i64| year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    // Days before the first of January of a year, less those before 1970.
    let before = |year: i64| year * 365 + leaps(year - 1);
    let days = usize::try_from(of_year).ok().and_then(|index| BEFORE.get(index));
    before(year) - before(1970) + days.copied().unwrap_or(0) + i64::from(leap && of_year > 1)
}

/// The most that may be spent in each period; none: no limit of that kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Budget {
    /// When a new budget begins.
    pub period: Period,
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

/// Why a quota keeps a job waiting. Amounts are in the resource's own unit: thousandths of a CPU or GPU, bytes.
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
            Resource::Gpus => write!(f, "{} GPUs", MilliGpu(amount)),
            Resource::Workers => write!(f, "{amount} workers"),
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
                    Resource::Workers => "worker-hours",
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
    pub fn admits(&self, whose: Whose, held: Held, asked: Held) -> Result<(), OverQuota> {
        let workers = (held.workers, asked.workers);
        let (held, asked) = (held.amounts, asked.amounts);
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
                self.gpus.map(|limit| MilliGpu::from_gpus(limit).0),
                held.gpus.0,
                asked.gpus.0,
            ),
            (
                Resource::Workers,
                self.workers.map(u64::from),
                workers.0.into(),
                workers.1.into(),
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

/// What is always so where a limit is below what is there already.
const NOTHING_IS_ENDED: &str =
    "nothing is ended for it, and nothing that needs more of it starts until there is less";

impl AtOnce {
    /// The sentence about the first limit that is below what is held; none: all of it is within.
    pub(crate) fn exceeded_by(&self, held: Held) -> Option<String> {
        let Held { amounts, workers } = held;
        let of = |limit: Option<u64>, held: u64, shown: &dyn Fn(u64) -> String| {
            let limit = limit.filter(|limit| held > *limit)?;
            Some(format!(
                "{} are held where {} are allowed: {NOTHING_IS_ENDED}",
                shown(held),
                shown(limit)
            ))
        };
        let plain = |what: &'static str| move |amount: u64| format!("{amount} {what}");
        of(self.cpu.map(|cpu| cpu.0), amounts.cpu.0, &|cpu| {
            format!("{} CPUs", MilliCpu(cpu))
        })
        .or_else(|| {
            of(self.memory.map(|memory| memory.0), amounts.memory.0, &|memory| {
                format!("{} of memory", Bytes(memory))
            })
        })
        .or_else(|| {
            of(
                self.gpus.map(|gpus| MilliGpu::from_gpus(gpus).0),
                amounts.gpus.0,
                &|gpus| format!("{} GPUs", MilliGpu(gpus)),
            )
        })
        .or_else(|| of(self.workers.map(u64::from), workers.into(), &plain("workers")))
    }
}

impl Budget {
    /// The sentence about the first budget that is spent already; none: none is.
    pub(crate) fn exceeded_by(&self, paid: Spent) -> Option<String> {
        let of = |limit: Option<u64>, paid: u128, what: &str| {
            let limit = limit.filter(|limit| paid > u128::from(*limit))?;
            Some(format!(
                "{paid} {what} are spent or promised in this period where {limit} are allowed: {NOTHING_IS_ENDED}"
            ))
        };
        of(self.cpu_hours, paid.cpu_hours(), "CPU-hours")
            .or_else(|| of(self.gib_hours, paid.gib_hours(), "GiB-hours"))
            .or_else(|| of(self.gpu_hours, paid.gpu_hours(), "GPU-hours"))
    }

    /// The number of the period in which a moment lies.
    #[must_use]
    pub fn period_of(&self, now: WallTime) -> i64 {
        self.period.number(now)
    }

    /// When the next period begins.
    #[must_use]
    pub fn next(&self, now: WallTime) -> WallTime {
        self.period.next(now)
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
            (Resource::Gpus, self.gpu_hours, paid.gpus, asked.gpus, 1000 * HOUR),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn months_begin_when_the_calendar_says() {
        // Days since 1970-01-01 by an independent count, day by day.
        let mut day = 0;
        for year in 1970..2400 {
            let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
            let february = if leap { 29 } else { 28 };
            let lengths = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
            for (month, length) in (0i64..).zip(lengths) {
                let number = year * 12 + month;
                let at = |day: i64| WallTime(day * DAY_MICROS);
                assert_eq!(Period::Month.number(at(day)), number, "{year}-{month}");
                let last = WallTime(at(day + length).0 - 1);
                assert_eq!(Period::Month.number(last), number, "{year}-{month}");
                assert_eq!(Period::Month.next(last), at(day + length), "{year}-{month}");
                day += length;
            }
        }
    }

    #[test]
    fn weeks_begin_on_mondays() {
        // 2026-11-30 is a Monday: 20,787 days after 1970-01-01.
        let monday = WallTime(20_787 * DAY_MICROS);
        assert_eq!(Period::WEEK.next(WallTime(monday.0 - 1)), monday);
        assert_eq!(
            Period::WEEK.number(monday),
            Period::WEEK.number(WallTime(monday.0 - 1)) + 1
        );
        assert_eq!(Period::DAY.next(monday), WallTime(20_788 * DAY_MICROS));
    }
}
