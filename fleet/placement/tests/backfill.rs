//! Backfill, against what then really happens: jobs whose times are known to the second, on machines small enough to
//! fill.

use std::collections::BTreeMap;

use loadline_model::{Span, Tier, WallTime};
use loadline_placement::policy::{Backfill, BackfillRules, End, Offer, Priority, Room};
use loadline_placement::sim::{Easy, Fcfs, Load, Processors, Running, Scheduler, SimJob, simulate};
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

/// First come first served with our backfill; notes when each reserved job was last expected, and that it moves
/// forward only.
struct Watched {
    reservations: usize,
    expected: BTreeMap<usize, WallTime>,
    late: Vec<String>,
}

impl Watched {
    fn new(reservations: usize) -> Self {
        Self {
            reservations,
            expected: BTreeMap::new(),
            late: Vec::new(),
        }
    }

    fn note(&mut self, place: usize, at: WallTime) {
        let before = *self.expected.entry(place).or_insert(at);
        if at > before {
            self.late
                .push(format!("job {place} moved from {} to {}", before.0, at.0));
        }
        self.expected.insert(place, at.min(before));
    }
}

impl Scheduler for Watched {
    fn decide(&mut self, load: &Load, waiting: &[usize], running: &[Running], now: WallTime) -> Vec<usize> {
        let held: Vec<(End, u32)> = running
            .iter()
            .map(|run| {
                let job = &load.jobs[run.job];
                (End::At(run.since.plus(job.asked)), job.processors)
            })
            .collect();
        let free = load.processors - held.iter().map(|(_, processors)| processors).sum::<u32>();
        let rules = BackfillRules {
            reservations: self.reservations,
        };
        let mut pass = Backfill::new(Processors(free), held, rules, now);
        let mut started = Vec::new();
        for place in waiting.iter().copied() {
            let job = &load.jobs[place];
            match pass.offer(&job.processors, Some(job.asked)) {
                Offer::Starts(_) => {
                    self.note(place, now);
                    started.push(place);
                }
                Offer::Reserved(End::At(at)) => self.note(place, at),
                Offer::Reserved(End::Unknown) | Offer::Never => panic!("every job fits an empty machine"),
                Offer::InTheWay | Offer::NoRoom => {}
            }
        }
        started
    }
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
    /// Whoever has a reservation starts then or earlier, whoever passes it: the times are true.
    #[test]
    fn a_reserved_job_is_never_delayed(load in loads(), reservations in 1usize..4) {
        let mut watched = Watched::new(reservations);
        let outcome = simulate(&load, &mut watched);
        prop_assert!(watched.late.is_empty(), "{:?}", watched.late);
        prop_assert!(outcome.started.iter().all(Option::is_some));
    }

    /// With one reservation and a counter of processors it is EASY, which is written apart from it.
    #[test]
    fn one_reservation_is_easy(load in loads()) {
        let ours = simulate(&load, &mut Watched::new(1));
        prop_assert_eq!(ours, simulate(&load, &mut Easy));
    }

    /// No job waits longer than if nobody passed anybody, as far as the first in line is concerned: its reservation
    /// is kept, so the last start is never later than the sum of all work, one job after the other.
    #[test]
    fn everyone_starts_within_the_work_before_and_beside(load in loads(), reservations in 1usize..4) {
        let outcome = simulate(&load, &mut Watched::new(reservations));
        let all: u64 = load.jobs.iter().map(|job| job.runs.0).sum();
        for (job, started) in load.jobs.iter().zip(&outcome.started) {
            prop_assert!(started.unwrap().since(job.submitted).0 <= all);
        }
    }
}

/// Two nodes with processors of their own: a job of several lies on one node.
#[derive(Debug, Clone, PartialEq)]
struct Nodes(Vec<u32>);

impl Room for Nodes {
    type Ask = u32;
    type Grant = (usize, u32);

    fn book(&mut self, ask: &u32) -> Option<(usize, u32)> {
        let fits = self.0.iter().enumerate().filter(|(_, free)| **free >= *ask);
        let (node, _) = fits.min_by_key(|(node, free)| (**free, *node))?;
        self.0[node] -= ask;
        Some((node, *ask))
    }

    fn repeat(&mut self, grant: &(usize, u32)) -> bool {
        let left = self.0[grant.0].checked_sub(grant.1);
        self.0[grant.0] = left.unwrap_or(self.0[grant.0]);
        left.is_some()
    }

    fn release(&mut self, grant: &(usize, u32)) {
        self.0[grant.0] += grant.1;
    }
}

const fn at(seconds: i64) -> End {
    End::At(WallTime(seconds * 1_000_000))
}

const fn secs(seconds: u64) -> Option<Span> {
    Some(Span::from_secs(seconds))
}

/// Node 0 has 2 of 4 free until 100, node 1 has 1 of 4 free until 500. A job of 4 waits for node 0.
fn blocked() -> Backfill<Nodes> {
    let held = [(at(100), (0, 2)), (at(500), (1, 3))];
    let mut pass = Backfill::new(Nodes(vec![2, 1]), held, BackfillRules::default(), WallTime(0));
    assert_eq!(pass.offer(&4, secs(1000)), Offer::Reserved(at(100)));
    pass
}

#[test]
fn the_way_is_kept_free_on_the_node_that_is_reserved_and_only_there() {
    let mut pass = blocked();
    // The tightest place for one processor is node 1, which nobody waits for.
    assert_eq!(pass.offer(&1, secs(10_000)), Offer::Starts((1, 1)));
    // Then only node 0 is left: who ends at 100 may, who ends later may not.
    assert_eq!(pass.offer(&1, secs(101)), Offer::InTheWay);
    assert_eq!(pass.offer(&1, secs(100)), Offer::Starts((0, 1)));
    assert_eq!(
        pass.offer(&1, None),
        Offer::InTheWay,
        "nobody knows when that would end"
    );
    assert_eq!(pass.offer(&3, secs(1)), Offer::NoRoom);
    assert_eq!(pass.finish(), Nodes(vec![1, 0]));
}

#[test]
fn what_is_in_the_way_books_nothing() {
    let mut pass = blocked();
    assert_eq!(pass.offer(&2, secs(101)), Offer::InTheWay);
    assert_eq!(pass.offer(&2, secs(99)), Offer::Starts((0, 2)));
}

#[test]
fn ends_that_nobody_knows_come_last() {
    let held = [(End::Unknown, (0, 4)), (at(50), (1, 2))];
    let mut pass = Backfill::new(Nodes(vec![0, 2]), held, BackfillRules::default(), WallTime(0));
    assert_eq!(pass.offer(&4, secs(10)), Offer::Reserved(at(50)));
    let held = [(End::Unknown, (0, 4))];
    let mut pass = Backfill::new(Nodes(vec![0]), held, BackfillRules::default(), WallTime(0));
    assert_eq!(pass.offer(&4, secs(10)), Offer::Reserved(End::Unknown));
    let mut pass = Backfill::new(Nodes(vec![2]), [], BackfillRules::default(), WallTime(0));
    assert_eq!(pass.offer(&4, secs(10)), Offer::Never);
    assert_eq!(
        pass.offer(&2, None),
        Offer::Starts((0, 2)),
        "who can never start holds nobody up"
    );
}

/// By hand: 4 processors. A has 3 until 10; B wants 4; C wants 1 until 5, D wants 1 until 20.
#[test]
fn the_textbook_example_comes_out_as_in_the_textbook() {
    let jobs = vec![job(0, 10, 3), job(1, 10, 4), job(2, 3, 1), job(3, 17, 1)];
    let load = Load { processors: 4, jobs };
    let starts = |scheduler: &mut dyn Scheduler| -> Vec<i64> {
        let outcome = simulate(&load, scheduler);
        outcome
            .started
            .iter()
            .map(|at| at.unwrap().0 / 1_000_000)
            .collect()
    };
    assert_eq!(starts(&mut Fcfs), [0, 10, 20, 20]);
    assert_eq!(starts(&mut Easy), [0, 10, 2, 20], "D would delay B");
    assert_eq!(starts(&mut loadline_placement::sim::Conservative), [0, 10, 2, 20]);
}
