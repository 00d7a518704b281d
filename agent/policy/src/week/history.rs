//! One resource's history: hours of counted time, each with its own buckets.
//!
//! A bucket counts the time in which use was in `(width × (n − 1), width × n]`; what is told of it is its upper end. Each
//! hour keeps the width that it began with, 256 of which make the capacity, so that a change of the capacity moves
//! nothing that was counted before. If the capacity grows within an hour its width is doubled until 256 reach it: two
//! buckets become one whose upper end is that of the higher, exactly as if all had been counted that way from the
//! beginning, however often the capacity changes.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;

use loadline_model::Span;
use serde::{Deserialize, Serialize};

use super::LONGEST;

/// A width is less than 2/256 of the capacity: that is the error.
const BUCKETS: u64 = 256;
/// Hours in a week, the one that is open among them.
pub(super) const HOURS: usize = 168;
/// Time is counted in tenths of a second.
const TENTH_US: u64 = 100_000;
const HOUR: u32 = 36_000;
/// What one look may add to an hour that is almost full.
const LOOK_MOST: u32 = 600;
const _: () = assert!(LONGEST.0 / TENTH_US == LOOK_MOST as u64);

/// An hour as it is kept: its width, and of each bucket in ascending order its number and its time in tenths of a
/// second.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptHour(pub u64, pub Vec<(u16, u32)>);

/// What was kept is not what this crate keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeptProblem {
    /// More than a week.
    #[error("it has {0} hours, and a week has {HOURS}")]
    Hours(usize),
    /// A width that cannot be.
    #[error("hour {0} has buckets of an impossible width")]
    Width(usize),
    /// Buckets that cannot be.
    #[error("hour {0} has a bucket that cannot be, or not in ascending order")]
    Bucket(usize),
    /// More than an hour.
    #[error("hour {0} counts more time than an hour has, or none")]
    Time(usize),
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Hour {
    width: u64,
    buckets: BTreeMap<u16, u32>,
}

impl Hour {
    fn new(capacity: u64) -> Self {
        Self {
            width: capacity.div_ceil(BUCKETS).max(1),
            buckets: BTreeMap::new(),
        }
    }

    fn widen(&mut self, capacity: u64) {
        while self.width.saturating_mul(BUCKETS) < capacity {
            self.width *= 2;
            for (bucket, time) in core::mem::take(&mut self.buckets) {
                *self.buckets.entry(bucket.div_ceil(2)).or_default() += time;
            }
        }
    }

    fn count(&mut self, used: u64, time: u32) {
        // 256 widths reach the capacity, and no more than that is counted as used.
        let bucket = u16::try_from(used.div_ceil(self.width)).unwrap_or(u16::MAX);
        *self.buckets.entry(bucket).or_default() += time;
    }

    fn time(&self) -> u32 {
        self.buckets.values().sum()
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct History(VecDeque<Hour>);

impl History {
    /// Counts a look. More than the capacity cannot be used: that is a matter of when both were read.
    pub(super) fn count(&mut self, capacity: u64, used: u64, over: Span) {
        if self.0.back().is_none_or(|hour| hour.time() >= HOUR) {
            self.0.push_back(Hour::new(capacity));
            if self.0.len() > HOURS {
                self.0.pop_front();
            }
        }
        let time = u32::try_from(over.0.div_ceil(TENTH_US)).unwrap_or(LOOK_MOST);
        if let Some(hour) = self.0.back_mut() {
            hour.widen(capacity);
            hour.count(used.min(capacity), time.min(LOOK_MOST));
        }
    }

    /// The smallest amount that use did not exceed for 99 % of the time, rounded up to its bucket's end.
    pub(super) fn p99(&self) -> Option<u64> {
        let mut by_amount: BTreeMap<u64, u64> = BTreeMap::new();
        for hour in &self.0 {
            for (bucket, time) in &hour.buckets {
                let end = hour.width.saturating_mul(u64::from(*bucket));
                *by_amount.entry(end).or_default() += u64::from(*time);
            }
        }
        let all: u64 = by_amount.values().sum();
        let enough = (all * 99).div_ceil(100);
        let mut so_far = 0;
        by_amount.into_iter().find_map(|(amount, time)| {
            so_far += time;
            (so_far >= enough).then_some(amount)
        })
    }

    pub(super) fn watched(&self) -> Span {
        let tenths: u64 = self.0.iter().map(|hour| u64::from(hour.time())).sum();
        Span(tenths * TENTH_US)
    }

    pub(super) fn kept(&self) -> Vec<KeptHour> {
        let hours = self.0.iter();
        hours
            .map(|hour| {
                let buckets = hour.buckets.iter();
                KeptHour(
                    hour.width,
                    buckets.map(|(bucket, time)| (*bucket, *time)).collect(),
                )
            })
            .collect()
    }

    pub(super) fn restore(kept: &[KeptHour]) -> Result<Self, KeptProblem> {
        if kept.len() > HOURS {
            return Err(KeptProblem::Hours(kept.len()));
        }
        let hours = kept.iter().enumerate();
        hours
            .map(|(place, KeptHour(width, buckets))| restore_hour(place, *width, buckets))
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

fn restore_hour(place: usize, width: u64, buckets: &[(u16, u32)]) -> Result<Hour, KeptProblem> {
    if width == 0 || width.checked_mul(BUCKETS).is_none() {
        return Err(KeptProblem::Width(place));
    }
    let ascends = buckets.is_sorted_by(|(one, _), (next, _)| one < next);
    if !ascends || buckets.iter().any(|(bucket, _)| u64::from(*bucket) > BUCKETS) {
        return Err(KeptProblem::Bucket(place));
    }
    let time = buckets
        .iter()
        .try_fold(0u32, |sum, (_, time)| sum.checked_add(*time));
    let there = buckets.iter().all(|(_, time)| *time > 0) && !buckets.is_empty();
    if !there || time.is_none_or(|time| time >= HOUR + LOOK_MOST) {
        return Err(KeptProblem::Time(place));
    }
    Ok(Hour {
        width,
        buckets: buckets.iter().copied().collect(),
    })
}
