//! Backfill, against what then really happens: jobs whose times are known to the second, on machines small enough to
//! fill, through the real planner.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

use std::collections::BTreeMap;

use loadline_model::{Span, Tier, WallTime};
use loadline_placement::policy::{BackfillRules, End, Priority};
use loadline_placement::sim::{Conservative, Easy, Fcfs, Fleet, Load, Outcome, SimJob, simulate};
use loadline_placement::{KeptFor, Policy};
use proptest::prelude::*;

fn job(submitted: i64, runs: u64, processors: u32) -> SimJob {
    SimJob {
        submitted: WallTime(submitted * 1_000_000),
        runs: Span::from_secs(runs),
        asked: Span::from_secs(runs),
        processors,
        user: "ada".into(),
        team: "vision".into(),
        tier: Tier::Standard,
        priority: Priority::default(),
    }
}

fn policy(reservations: usize) -> Policy {
    Policy {
        backfill: BackfillRules { reservations },
        ..Policy::default()
    }
}

/// Plays a load; notes when jobs with room kept were last expected, and that it moves forward only.
fn watched(load: &Load) -> (Outcome, Vec<String>) {
    let mut expected: BTreeMap<u64, WallTime> = BTreeMap::new();
    let mut late = Vec::new();
    let mut look = |fleet: &Fleet| {
        for kept in fleet.planner().kept() {
            let (KeptFor::Turn, End::At(at)) = (kept.why, kept.at) else {
                late.push(format!(
                    "job {} is kept {:?} until {:?}",
                    kept.number, kept.why, kept.at
                ));
                continue;
            };
            let before = *expected.entry(kept.number).or_insert(at);
            if at > before {
                late.push(format!("job {} moved from {} to {}", kept.number, before.0, at.0));
            }
            expected.insert(kept.number, at.min(before));
        }
    };
    let outcome = load.watched(Policy::default(), &[], &mut look).unwrap();
    for (number, at) in expected {
        let started = outcome.started[usize::try_from(number).unwrap() - 1];
        if started.is_none_or(|started| started > at) {
            late.push(format!(
                "job {number} was expected at {} and came at {started:?}",
                at.0
            ));
        }
    }
    (outcome, late)
}

fn loads() -> impl Strategy<Value = Load> {
    prop::collection::vec((0i64..2_000, 1u64..500, 1u32..=16), 1..60).prop_map(|jobs| {
        let mut jobs: Vec<SimJob> = jobs
            .into_iter()
            .map(|(at, runs, processors)| job(at, runs, processors))
            .collect();
        jobs.sort_by_key(|job| job.submitted);
        Load { processors: 16, jobs }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    /// Whoever has room kept starts then or earlier, whoever passes it: the times are true.
    #[test]
    fn who_has_room_kept_is_never_delayed(load in loads()) {
        let (outcome, late) = watched(&load);
        prop_assert!(late.is_empty(), "{:?}", late);
        prop_assert!(outcome.started.iter().all(Option::is_some));
    }

    /// Nothing that runs is more than there is, and each runs as long as it does: seen from the outcome alone.
    #[test]
    fn what_runs_fits_the_machine(load in loads()) {
        let outcome = load.in_fleet(Policy::default(), &[]).unwrap();
        let mut changes: Vec<(i64, i64)> = Vec::new();
        for (job, ran) in load.jobs.iter().zip(&outcome.ran) {
            let (from, until) = ran.unwrap();
            prop_assert!(from >= job.submitted);
            prop_assert_eq!(until.since(from), job.runs);
            changes.extend([(from.0, i64::from(job.processors)), (until.0, -i64::from(job.processors))]);
        }
        // Who ends makes room for who starts at the same moment.
        changes.sort_unstable();
        let mut used = 0;
        for (_, change) in changes {
            used += change;
            prop_assert!((0..=16).contains(&used), "{} of 16 are used", used);
        }
    }

    /// The last start is never later than the sum of all work, one job after the other.
    #[test]
    fn everyone_starts_within_the_work_before_and_beside(load in loads(), reservations in 1usize..4) {
        let outcome = load.in_fleet(policy(reservations), &[]).unwrap();
        let all: u64 = load.jobs.iter().map(|job| job.runs.0).sum();
        for (job, started) in load.jobs.iter().zip(&outcome.started) {
            prop_assert!(started.unwrap().since(job.submitted).0 <= all);
        }
    }
}

/// By hand: 4 processors. A has 3 until 10; B wants 4; C wants 1 until 5, D wants 1 until 20.
#[test]
fn the_textbook_example_comes_out_as_in_the_textbook() {
    let jobs = vec![job(0, 10, 3), job(1, 10, 4), job(2, 3, 1), job(3, 17, 1)];
    let load = Load { processors: 4, jobs };
    let starts = |outcome: Outcome| -> Vec<i64> {
        let started = outcome.started.iter();
        started.map(|at| at.unwrap().0 / 1_000_000).collect()
    };
    assert_eq!(starts(simulate(&load, &mut Fcfs)), [0, 10, 20, 20]);
    assert_eq!(
        starts(simulate(&load, &mut Easy)),
        [0, 10, 2, 20],
        "D would delay B"
    );
    assert_eq!(starts(simulate(&load, &mut Conservative)), [0, 10, 2, 20]);
    let ours = load.in_fleet(Policy::default(), &[]).unwrap();
    assert_eq!(starts(ours), [0, 10, 2, 20]);
}
