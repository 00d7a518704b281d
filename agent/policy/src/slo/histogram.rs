//! A histogram of a service's own, in Prometheus' text form: what it has counted between two looks.
//!
//! Interpolated within a bucket like `histogram_quantile`, so that the figure is the one on the owner's own
//! dashboard. What lies beyond the last bound could be anything.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;

use loadline_model::Span;

use super::fixed::Millionths;
use super::{SAMPLES_MIN, WINDOW};

/// How many answers came within each bound, as counted since the service started; [`Span`] of `u64::MAX`: all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Buckets(BTreeMap<Span, u64>);

/// Why a page gives no histogram.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BucketsError {
    /// It is not there.
    #[error("the page has no buckets of that histogram")]
    Missing,
    /// One has no end.
    #[error("the histogram has no bucket `le=\"+Inf\"`")]
    Endless,
    /// One of its numbers is none.
    #[error("a bucket of the histogram is not a number")]
    Number,
}

/// Beyond every bound.
const ALL: Span = Span(u64::MAX);

impl Buckets {
    /// Reads a page. Series that differ in other labels (methods, codes) are added up.
    ///
    /// # Errors
    /// When the histogram is not there, or not understood.
    pub fn read(page: &str, histogram: &str) -> Result<Self, BucketsError> {
        let mut buckets = BTreeMap::new();
        for line in page.lines() {
            let rest = line.trim_start().strip_prefix(histogram);
            let Some(rest) = rest.and_then(|rest| rest.strip_prefix("_bucket")) else {
                continue;
            };
            let Some((labels, value)) = rest
                .trim_start()
                .strip_prefix('{')
                .and_then(|rest| rest.rsplit_once('}'))
            else {
                continue;
            };
            let bound = bound(le(labels).ok_or(BucketsError::Number)?)?;
            // A time may follow the value.
            let value = value.split_whitespace().next().ok_or(BucketsError::Number)?;
            let Millionths(value) = value.parse().map_err(|_| BucketsError::Number)?;
            let count = u64::try_from(value / 1_000_000).map_err(|_| BucketsError::Number)?;
            let sum: &mut u64 = buckets.entry(bound).or_default();
            *sum = sum.saturating_add(count);
        }
        if buckets.is_empty() {
            return Err(BucketsError::Missing);
        }
        if !buckets.contains_key(&ALL) {
            return Err(BucketsError::Endless);
        }
        Ok(Self(buckets))
    }

    /// What was counted since; none if the service has started anew or has other bounds.
    fn since(&self, before: &Self) -> Option<Vec<(Span, u64)>> {
        if !self.0.keys().eq(before.0.keys()) {
            return None;
        }
        let both = self.0.iter().zip(before.0.values());
        let counted: Option<Vec<_>> = both
            .map(|((bound, now), before)| Some((*bound, now.checked_sub(*before)?)))
            .collect();
        // A scrape between two counts can see a lower bucket ahead of a higher one.
        let mut most = 0;
        Some(
            counted?
                .into_iter()
                .map(|(bound, count)| {
                    most = most.max(count);
                    (bound, most)
                })
                .collect(),
        )
    }
}

/// The value of the label `le`.
fn le(labels: &str) -> Option<&str> {
    let (_, rest) = match labels.strip_prefix("le=\"") {
        Some(rest) => ("", rest),
        None => labels
            .split_once(",le=\"")
            .or_else(|| labels.split_once(", le=\""))?,
    };
    rest.split('"').next()
}

fn bound(le: &str) -> Result<Span, BucketsError> {
    if le == "+Inf" {
        return Ok(ALL);
    }
    // Seconds in millionths are microseconds.
    let Millionths(micros) = le.parse().map_err(|_| BucketsError::Number)?;
    u64::try_from(micros).map(Span).map_err(|_| BucketsError::Number)
}

/// What was scraped lately.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scrapes(VecDeque<(Span, Buckets)>);

impl Scrapes {
    /// A page was read. A service that has started anew begins anew.
    pub fn add(&mut self, at: Span, buckets: Buckets) {
        let goes_on = self
            .0
            .back()
            .is_none_or(|(_, last)| buckets.since(last).is_some());
        if !goes_on {
            self.0.clear();
        }
        self.0.push_back((at, buckets));
        // One older than the window stays: what was counted since then is the window's.
        while self
            .0
            .get(1)
            .is_some_and(|(second, _)| at.minus(*second) >= WINDOW)
        {
            self.0.pop_front();
        }
    }

    /// How many answers the window holds.
    pub fn count(&self) -> u64 {
        let ends = self.0.front().zip(self.0.back());
        let counted = ends.and_then(|((_, first), (_, last))| last.since(first));
        counted
            .as_deref()
            .and_then(<[_]>::last)
            .map_or(0, |(_, all)| *all)
    }

    /// The 99th percentile over the shortest past with enough samples, if it is known. Where all that is known is
    /// that it is missed, the least it can be.
    pub fn p99(&self, target: Span) -> Option<Span> {
        let (_, last) = self.0.back()?;
        let enough = |counted: &Vec<(Span, u64)>| {
            counted
                .last()
                .is_some_and(|(_, all)| usize::try_from(*all).is_ok_and(|all| all >= SAMPLES_MIN))
        };
        let mut widest = None;
        for (_, before) in self.0.iter().rev().skip(1) {
            let counted = last.since(before)?;
            if enough(&counted) {
                return quantile(&counted, target);
            }
            widest = Some(counted);
        }
        few(&widest?, target)
    }
}

/// The 99th percentile of cumulated counts.
fn quantile(counted: &[(Span, u64)], target: Span) -> Option<Span> {
    let (_, all) = *counted.last()?;
    let rank = u128::from(all) * 99;
    let (mut lower, mut below) = (Span::ZERO, 0_u64);
    for (bound, count) in counted {
        if u128::from(*count) * 100 >= rank && *count > below {
            if *bound == ALL {
                // Anything above the last bound: bad if that is beyond the target, else not known.
                return (lower >= target).then_some(lower.plus(Span(1)));
            }
            let width = u128::from(bound.minus(lower).0);
            let into = rank.saturating_sub(u128::from(below) * 100);
            let part = width * into / (u128::from(*count - below) * 100);
            return u64::try_from(part).ok().map(|part| lower.plus(Span(part)));
        }
        (lower, below) = (*bound, *count);
    }
    None
}

/// Too few for a percentile; but with two beyond the target it cannot be held any more (see [`super::window`]).
fn few(counted: &[(Span, u64)], target: Span) -> Option<Span> {
    let (_, all) = *counted.last()?;
    let within = counted.iter().find(|(bound, _)| *bound >= target);
    let (bound, count) = within.filter(|(bound, _)| *bound != ALL)?;
    (all - count >= 2).then_some(bound.plus(Span(1)))
}
