//! What the rounds of one resource come to: pairs, ratios, a verdict, the pooled latencies of both sides.

use loadline_model::{PerMille, Span};
use loadline_policy::prove::estimate::{Ratio, Verdict, interval, median, quantile, verdict};
use loadline_policy::prove::{Resource, Side};

use super::flow::{Outcome, Round};
use super::report::{Latency, Ratios, ResourceReport, RoundReport};

/// An antagonist that got less did not press anything.
const WORK_LEAST: Span = Span::from_millis(10);
/// The points of the plotted distribution, in thousandths.
const CURVE: [u16; 14] = [1, 100, 200, 300, 400, 500, 600, 700, 800, 900, 950, 980, 990, 999];

/// The report of one resource.
pub fn summarise(outcome: &Outcome, resource: Resource, seed: u64) -> ResourceReport {
    let of: Vec<&Round> = outcome
        .rounds
        .iter()
        .filter(|round| round.step.resource == resource)
        .collect();
    let kept = |side| of.iter().copied().filter(move |round| counts(round, side));
    let pairs: Vec<(&Round, &Round)> = kept(Side::Alone)
        .filter_map(|alone| {
            let mate = kept(Side::Lent).find(|lent| lent.step.pair == alone.step.pair)?;
            Some((alone, mate))
        })
        .collect();
    let ratios = |share| ratios(&pairs, share, seed);
    let p99 = ratios(990);
    let why_not = outcome
        .not_measured
        .get(&resource)
        .cloned()
        .or_else(|| worked_too_little(&pairs))
        .or_else(|| nothing_left(outcome, &of, &pairs));
    let verdict = match (&p99, why_not) {
        _ if outcome.harmful == Some(resource) => Verdict::Cost,
        (Some(p99), None) => verdict(p99.pairs, p99.median, p99.interval),
        (_, why) => Verdict::NotMeasured {
            why: why.unwrap_or_default(),
        },
    };
    ResourceReport {
        resource,
        verdict,
        p99,
        p50: ratios(500),
        alone: latency(kept(Side::Alone)),
        lent: latency(kept(Side::Lent)),
        work_cpu_us: total(of.iter().filter_map(|round| Some(round.work.cpu_time?.0))),
        work_memory_peak_bytes: of
            .iter()
            .filter_map(|round| Some(round.work.memory_peak?.0))
            .max(),
        rounds: of.iter().map(|round| shown(round)).collect(),
    }
}

fn counts(round: &Round, side: Side) -> bool {
    round.step.side == side && round.discarded.is_none()
}

fn ratios(pairs: &[(&Round, &Round)], share: u16, seed: u64) -> Option<Ratios> {
    let ratio = |(alone, lent): &(&Round, &Round)| {
        Some(Ratio::of(
            lent.measured.quantile(share)?,
            alone.measured.quantile(share)?,
        ))
    };
    let all: Vec<Ratio> = pairs.iter().filter_map(ratio).collect();
    Some(Ratios {
        pairs: u32::try_from(all.len()).unwrap_or(u32::MAX),
        median: median(&all)?,
        interval: interval(&all, seed)?,
        each: all,
    })
}

/// "Protected from nothing" is no verdict.
fn worked_too_little(pairs: &[(&Round, &Round)]) -> Option<String> {
    let idle = |(_, lent): &(&Round, &Round)| lent.work.cpu_time.is_some_and(|time| time < WORK_LEAST);
    let all = !pairs.is_empty() && pairs.iter().all(idle);
    all.then(|| {
        "lent work got next to no CPU time, so it pressed nothing: production left it none".to_owned()
    })
}

fn nothing_left(outcome: &Outcome, of: &[&Round], pairs: &[(&Round, &Round)]) -> Option<String> {
    if !pairs.is_empty() {
        return None;
    }
    let first = of.iter().find_map(|round| round.discarded.clone());
    Some(match (first, &outcome.aborted) {
        (Some(why), _) => format!("no pair of rounds is left; the first one discarded: {why}"),
        (None, Some(_)) => "the test was stopped before".to_owned(),
        (None, None) => "no pair of rounds came to its end".to_owned(),
    })
}

fn latency<'a>(rounds: impl Iterator<Item = &'a Round>) -> Option<Latency> {
    let mut all: Vec<Span> = rounds
        .flat_map(|round| round.measured.latencies.iter().copied())
        .collect();
    all.sort_unstable();
    let at = |share| quantile(&all, PerMille(share)).map(|span| span.0);
    Some(Latency {
        p50_us: at(500)?,
        p99_us: at(990)?,
        answers: all.len() as u64,
        curve: CURVE
            .iter()
            .filter_map(|share| Some((*share, at(*share)?)))
            .collect(),
    })
}

fn total(parts: impl Iterator<Item = u64>) -> Option<u64> {
    parts.reduce(u64::saturating_add)
}

fn shown(round: &Round) -> RoundReport {
    let at = |share| round.measured.quantile(share).map(|span| span.0);
    RoundReport {
        pair: round.step.pair,
        side: round.step.side,
        p50_us: at(500),
        p99_us: at(990),
        requests: round.measured.requests,
        errors: round.measured.errors,
        lateness_p99_us: round.measured.lateness_p99.0,
        work_cpu_us: round.work.cpu_time.map(|time| time.0),
        discarded: round.discarded.clone(),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::prove::flow::Work;
    use crate::prove::probe::Measured;
    use loadline_policy::prove::estimate::Interval;
    use loadline_policy::prove::plan::Step;

    pub(crate) fn round(resource: Resource, pair: u32, side: Side, p99: u64) -> Round {
        let mut latencies: Vec<Span> = (0..990).map(|place| Span(p99 / 4 + place % 100)).collect();
        latencies.extend([Span(p99); 10]);
        latencies.sort_unstable();
        Round {
            step: Step { resource, pair, side },
            measured: Measured {
                // The 990th of 1000 is the largest of the many; one more slow one makes it the slow ones' first.
                latencies: latencies.into_iter().skip(1).collect(),
                lateness_p99: Span(20),
                served_p99: Span(p99),
                requests: 999,
                errors: 0,
            },
            discarded: None,
            work: Work {
                cpu_time: (side == Side::Lent).then_some(Span::from_secs(7)),
                memory_peak: None,
            },
        }
    }

    /// Pairs with these p99 in microseconds.
    pub(crate) fn outcome(resource: Resource, pairs: &[(u64, u64)]) -> Outcome {
        let mut outcome = Outcome::default();
        for (pair, (alone, lent)) in (0..).zip(pairs) {
            outcome.rounds.push(round(resource, pair, Side::Alone, *alone));
            outcome.rounds.push(round(resource, pair, Side::Lent, *lent));
        }
        outcome
    }

    #[test]
    fn a_worked_example() {
        // Ratios 1.00, 1.05, 1.10, 1.00: the median is 1.025.
        let pairs = [(4000, 4000), (4000, 4200), (4000, 4400), (5000, 5000)];
        let report = summarise(&outcome(Resource::Cpu, &pairs), Resource::Cpu, 1);
        let p99 = report.p99.unwrap();
        assert_eq!((p99.pairs, p99.median), (4, Ratio(1025)));
        assert!(p99.interval.upper <= Ratio(1100));
        assert_eq!(report.verdict, Verdict::Protected);
        assert_eq!(report.work_cpu_us, Some(28_000_000));
        let alone = report.alone.unwrap();
        // Of 3996 answers the 3957th: of the 40 slow ones at the end the first, and 30 of them took 4000.
        assert_eq!((alone.answers, alone.p99_us), (4 * 999, 4000));
        assert_eq!(report.rounds.len(), 8);
        let other = summarise(&outcome(Resource::Cpu, &pairs), Resource::Disk, 1);
        assert!(matches!(other.verdict, Verdict::NotMeasured { .. }));
    }

    #[test]
    fn a_discarded_round_takes_its_mate_with_it() {
        let mut outcome = outcome(Resource::Cpu, &[(4000, 4000), (4000, 9000), (4000, 4000)]);
        outcome.rounds[3].discarded = Some("too late".into());
        let report = summarise(&outcome, Resource::Cpu, 1);
        let p99 = report.p99.unwrap();
        assert_eq!((p99.pairs, p99.median), (2, Ratio(1000)));
        assert_eq!(
            p99.interval,
            Interval {
                lower: Ratio(1000),
                upper: Ratio(1000)
            }
        );
        assert_eq!(report.verdict, Verdict::Unclear { more_rounds: Some(2) });
    }

    #[test]
    fn what_brought_production_into_danger_has_cost_it() {
        let mut outcome = outcome(Resource::Disk, &[(4000, 4000)]);
        outcome.harmful = Some(Resource::Disk);
        outcome.aborted = Some("danger".into());
        assert_eq!(summarise(&outcome, Resource::Disk, 1).verdict, Verdict::Cost);
        let other = summarise(&outcome, Resource::Cpu, 1).verdict;
        assert_eq!(
            other,
            Verdict::NotMeasured {
                why: "the test was stopped before".into()
            }
        );
    }

    #[test]
    fn work_that_got_no_cpu_protects_no_one() {
        let mut outcome = outcome(Resource::Cpu, &[(4000, 4000); 5]);
        for round in &mut outcome.rounds {
            round.work.cpu_time = Some(Span::from_millis(9));
        }
        let why = summarise(&outcome, Resource::Cpu, 1).verdict;
        assert!(
            matches!(&why, Verdict::NotMeasured { why } if why.contains("no CPU")),
            "{why:?}"
        );
        outcome.rounds[1].work.cpu_time = Some(Span::from_millis(10));
        assert_eq!(summarise(&outcome, Resource::Cpu, 1).verdict, Verdict::Protected);
    }
}
