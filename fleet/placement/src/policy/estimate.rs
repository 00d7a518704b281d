//! How long a job will run: what its user said, corrected by how far that user's words were from what happened.
//!
//! Problem: people ask for far more time than they use, so a plan made of what they ask for sees no gap to fill.
//! Approach: for each user the last few runs are kept, as parts of what was asked for and as times; a percentile of
//! them is the estimate. Terms: *asked*, the job's time limit; *estimate*, when it will probably end.
//!
//! Properties: an estimate is never beyond the limit, since the node ends the work there; a job that has outlived its
//! estimate gets a new one that lies ahead ([`outlived`]). Estimates order and fill the queue; nothing is ever ended
//! because of one (Tsafrir, Etsion and Feitelson, IEEE TPDS 2007, keep the two apart for the same reason).

use alloc::collections::{BTreeMap, VecDeque};
use alloc::string::String;
use alloc::vec::Vec;

use loadline_model::{PerMille, Span};
use serde::{Deserialize, Serialize};

/// How estimates are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct EstimateRules {
    /// So many of a user's last runs count.
    pub runs: usize,
    /// Which of them, in ascending order, is the estimate.
    pub percentile: PerMille,
    /// Fewer runs than this correct nothing.
    pub runs_min: usize,
}

impl Default for EstimateRules {
    /// The longest of the last 20. A reservation that comes too early keeps others from passing: of a generated month
    /// at 90 % of the machine (ten seeds) the 90th percentile left 0.3 points more of it unused.
    fn default() -> Self {
        Self {
            runs: 20,
            percentile: PerMille::ONE,
            runs_min: 3,
        }
    }
}

/// One run that has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Run {
    /// Of what was asked for; none where nothing was.
    used: Option<PerMille>,
    ran: Span,
}

/// The last runs of one user, and what follows from them: asked a hundred thousand times a pass, it is kept.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct History {
    runs: VecDeque<Run>,
    /// Of what was asked for, in thousandths.
    used: Option<u64>,
    /// In microseconds.
    ran: Option<u64>,
}

/// What is known of each user's runs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Estimates {
    rules: EstimateRules,
    users: BTreeMap<String, History>,
}

impl Estimates {
    /// Knowing nothing yet.
    #[must_use]
    pub const fn new(rules: EstimateRules) -> Self {
        Self {
            rules,
            users: BTreeMap::new(),
        }
    }

    /// A run of the user has come to its own end, after so long. Runs that were stopped say nothing.
    pub fn learn(&mut self, user: &str, asked: Option<Span>, ran: Span) {
        let used = asked.map(|asked| {
            let part = u128::from(ran.0) * 1000 / u128::from(asked.0.max(1));
            PerMille(u16::try_from(part).unwrap_or(1000).min(1000))
        });
        let mut history = self.users.remove(user).unwrap_or_default();
        history.runs.push_back(Run { used, ran });
        while history.runs.len() > self.rules.runs {
            history.runs.pop_front();
        }
        let parts = history.runs.iter().filter_map(|run| run.used);
        history.used = self.percentile(parts.map(|used| used.0.into()).collect());
        history.ran = self.percentile(history.runs.iter().map(|run| run.ran.0).collect());
        self.users.insert(user.into(), history);
    }

    /// How long a run of the user will take; none if nothing is asked for and nothing known.
    #[must_use]
    pub fn of(&self, user: &str, asked: Option<Span>) -> Option<Span> {
        let history = self.users.get(user);
        let Some(asked) = asked else {
            return history?.ran.map(|micros| Span(micros.max(1)));
        };
        let Some(used) = history.and_then(|history| history.used) else {
            return Some(asked);
        };
        // A thousandth more, so that a run which always takes the same part is not outlived by rounding.
        let share = u16::try_from(used + 1).unwrap_or(1000).min(1000);
        Some(Span(asked.share(PerMille(share)).0.max(1)).min(asked))
    }

    fn percentile(&self, mut values: Vec<u64>) -> Option<u64> {
        if values.is_empty() || values.len() < self.rules.runs_min {
            return None;
        }
        values.sort_unstable();
        // Nearest rank: the smallest value that at least so many do not exceed.
        let rank = (values.len() * usize::from(self.rules.percentile.0)).div_ceil(1000);
        values.get(rank.max(1) - 1).or(values.last()).copied()
    }
}

/// The estimate of a run that has taken longer than its last one: twice what it has run, within its limit.
#[must_use]
pub fn outlived(ran: Span, asked: Option<Span>) -> Span {
    let ahead = Span(ran.0.saturating_mul(2).max(ran.0.saturating_add(60_000_000)));
    asked.map_or(ahead, |asked| ahead.min(asked.max(ran)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HOUR: Span = Span::from_secs(3600);

    #[test]
    fn who_asks_for_ten_times_too_much_is_believed_a_tenth() {
        let mut estimates = Estimates::default();
        assert_eq!(estimates.of("ada", Some(HOUR)), Some(HOUR));
        for _ in 0..3 {
            estimates.learn("ada", Some(HOUR), Span::from_secs(360));
        }
        assert_eq!(
            estimates.of("ada", Some(Span::from_secs(7200))),
            Some(Span(727_200_000))
        );
        assert_eq!(
            estimates.of("bob", Some(HOUR)),
            Some(HOUR),
            "of bob nothing is known"
        );
    }

    #[test]
    fn without_a_limit_the_last_runs_say_how_long() {
        let mut estimates = Estimates::new(EstimateRules {
            percentile: PerMille(900),
            ..EstimateRules::default()
        });
        assert_eq!(estimates.of("ada", None), None);
        for seconds in [10, 20, 30, 40, 50, 60, 70, 80, 90, 1000] {
            estimates.learn("ada", None, Span::from_secs(seconds));
        }
        assert_eq!(estimates.of("ada", None), Some(Span::from_secs(90)));
    }

    #[test]
    fn only_the_last_runs_count() {
        let mut estimates = Estimates::default();
        for seconds in (0..40).map(|run| if run < 20 { 3600 } else { 36 }) {
            estimates.learn("ada", Some(HOUR), Span::from_secs(seconds));
        }
        assert_eq!(estimates.of("ada", Some(HOUR)), Some(Span(39_600_000)));
    }

    proptest! {
        /// An estimate lies within the limit; one that was outlived is followed by one ahead, until the limit.
        #[test]
        fn estimates_lie_within_the_limit_and_ahead(
            runs in prop::collection::vec((1u64..100_000, 1u64..200_000), 0..30),
            asked in 1u64..1_000_000_000,
            ran in 0u64..2_000_000_000,
        ) {
            let mut estimates = Estimates::default();
            for (asked, ran) in runs {
                estimates.learn("ada", Some(Span(asked)), Span(ran));
            }
            let estimate = estimates.of("ada", Some(Span(asked))).unwrap();
            prop_assert!(estimate.0 >= 1 && estimate.0 <= asked);
            let next = outlived(Span(ran), Some(Span(asked)));
            prop_assert!(next.0 > ran || ran >= asked);
            prop_assert!(next.0 <= asked.max(ran));
        }
    }
}
