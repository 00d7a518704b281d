//! Who makes room: against the sum of what could go, against every smaller choice, and against time.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

use std::collections::BTreeSet;

use loadline_model::{Amounts, Bytes, JobId, MilliCpu, Span, Tier, WallTime};
use loadline_placement::policy::yielding::{Claimant, NodeRoom, Yielded, may_yield};
use loadline_placement::policy::{Priority, Victim, YieldRules, choose};
use proptest::prelude::*;

/// What is free on a node, and what one worker of the claimant needs there.
#[derive(Debug, Clone, Copy)]
struct Free {
    left: Amounts,
    needs: Amounts,
}

impl NodeRoom for Free {
    fn give_back(&mut self, victim: &Victim) {
        self.left = self.left.plus(victim.amounts);
    }

    fn take(&mut self) -> bool {
        let fits = self.needs.fits_in(&self.left);
        if fits {
            self.left = self.left.minus(self.needs);
        }
        fits
    }
}

fn amounts(cpus: u32, gib: u64, gpus: u32) -> Amounts {
    Amounts {
        cpu: MilliCpu::from_cpus(cpus),
        memory: Bytes::from_gib(gib),
        gpus,
    }
}

fn job(number: u8) -> JobId {
    JobId::from_slice(&[number; 16]).unwrap()
}

const NOW: WallTime = WallTime(1_000_000_000_000);

fn victim(number: u8, node: usize, minutes: i64) -> Victim {
    let started = WallTime(NOW.0 - minutes * 60_000_000);
    Victim {
        job: job(number),
        worker: 0,
        node,
        tier: Tier::Burst,
        priority: Priority(0),
        amounts: amounts(2, 2, 0),
        whole_cpus: 0,
        gpu_shares: 0,
        scratch: Bytes::ZERO,
        started,
        saved: started,
        yielded: 0,
        gang: false,
    }
}

const STANDARD: Claimant = Claimant {
    tier: Tier::Standard,
    priority: Priority(0),
    workers: 1,
};

fn full(nodes: usize, needs: Amounts) -> Vec<Free> {
    let left = amounts(0, 0, 0);
    vec![Free { left, needs }; nodes]
}

fn chosen(claimant: &Claimant, rooms: &[Free], workers: &[Victim]) -> Option<Yielded> {
    choose(claimant, rooms, workers, &YieldRules::default(), NOW)
}

#[test]
fn the_node_where_least_is_lost_makes_room() {
    let workers = [victim(1, 0, 600), victim(2, 1, 30), victim(3, 2, 60)];
    let yielded = chosen(&STANDARD, &full(3, amounts(2, 2, 0)), &workers).unwrap();
    assert_eq!((yielded.victims, yielded.nodes), (vec![1], vec![1]));
    // The one that has just saved its state loses less still.
    let mut saved = workers;
    saved[0].saved = NOW;
    let yielded = chosen(&STANDARD, &full(3, amounts(2, 2, 0)), &saved).unwrap();
    assert_eq!(yielded.victims, [0]);
}

#[test]
fn a_gang_stays_whole_while_anyone_else_can_go() {
    let mut workers = vec![
        victim(1, 0, 2),
        victim(1, 1, 2),
        victim(2, 2, 6000),
        victim(3, 3, 2),
    ];
    workers[1].worker = 1;
    for worker in &mut workers[..2] {
        worker.gang = true;
    }
    workers.truncate(3);
    let yielded = chosen(&STANDARD, &full(3, amounts(2, 2, 0)), &workers).unwrap();
    assert_eq!(
        yielded.victims,
        [2],
        "a hundred hours of one are lost rather than a gang"
    );
    workers.truncate(2);
    let yielded = chosen(&STANDARD, &full(3, amounts(2, 2, 0)), &workers).unwrap();
    assert_eq!(yielded.victims, [0, 1], "if it has to go, all of it goes");
    workers[1].started = NOW;
    assert_eq!(
        chosen(&STANDARD, &full(3, amounts(2, 2, 0)), &workers),
        None,
        "one of the gang has just begun"
    );
}

#[test]
fn nobody_goes_for_a_gang_that_does_not_fit_as_a_whole() {
    let claimant = Claimant {
        workers: 3,
        ..STANDARD
    };
    let workers = [victim(1, 0, 60), victim(2, 1, 60)];
    assert_eq!(chosen(&claimant, &full(2, amounts(2, 2, 0)), &workers), None);
}

#[test]
fn burst_goes_before_standard_and_equals_stay() {
    let mut urgent = victim(1, 0, 2);
    urgent.tier = Tier::Standard;
    let workers = [urgent, victim(2, 1, 6000)];
    let claimant = Claimant {
        priority: Priority(5),
        ..STANDARD
    };
    let rooms = full(2, amounts(2, 2, 0));
    assert_eq!(chosen(&claimant, &rooms, &workers).unwrap().victims, [1]);
    assert_eq!(chosen(&STANDARD, &rooms[..1], &workers[..1]), None);
    assert_eq!(
        chosen(&claimant, &rooms[..1], &workers[..1]).unwrap().victims,
        [0]
    );
}

#[test]
fn who_has_yielded_is_left_alone_twice_as_long_each_time() {
    let rules = YieldRules::default();
    let left: Vec<u64> = (0..4).map(|times| rules.left_alone(times).as_secs()).collect();
    assert_eq!(left, [60, 120, 240, 480]);
    assert_eq!(rules.left_alone(200), rules.cool_down_max);
    let mut worker = victim(1, 0, 3);
    worker.yielded = 2;
    assert!(!may_yield(&worker, &STANDARD, &rules, NOW));
    worker.yielded = 1;
    assert!(may_yield(&worker, &STANDARD, &rules, NOW));
}

fn workers() -> impl Strategy<Value = Vec<Victim>> {
    let worker = (
        0u8..8,
        0usize..4,
        0i64..20,
        any::<bool>(),
        -2i16..3,
        (0u32..4, 0u64..4, 0u32..2),
        0u32..3,
    );
    prop::collection::vec(worker, 0..12).prop_map(|list| {
        let mut workers: Vec<Victim> = Vec::new();
        for (place, (number, node, minutes, burst, priority, (cpus, gib, gpus), yielded)) in
            (0u32..).zip(list)
        {
            let mut new = victim(number, node, minutes);
            new.worker = place;
            new.amounts = amounts(cpus, gib, gpus);
            new.tier = if burst { Tier::Burst } else { Tier::Standard };
            new.priority = Priority(priority);
            new.yielded = yielded;
            // All workers of a job have its rank; jobs with even numbers are gangs.
            if let Some(first) = workers.iter().find(|worker| worker.job == new.job) {
                (new.tier, new.priority, new.yielded) = (first.tier, first.priority, first.yielded);
            }
            new.gang = number.is_multiple_of(2);
            workers.push(new);
        }
        workers
    })
}

/// The workers that may go at all: outranked and not left alone, with their whole gang.
fn free_to_go(workers: &[Victim], claimant: &Claimant) -> BTreeSet<usize> {
    let rules = YieldRules::default();
    let rank = |tier: Tier, priority: Priority| (tier == Tier::Standard, priority.0);
    let may = |worker: &Victim| {
        let cool = Span::from_secs(60 << worker.yielded);
        rank(worker.tier, worker.priority) < rank(claimant.tier, claimant.priority)
            && NOW.since(worker.started) >= cool.min(rules.cool_down_max)
    };
    let whole =
        |worker: &Victim| !worker.gang || workers.iter().filter(|other| other.job == worker.job).all(may);
    (0..workers.len())
        .filter(|place| may(&workers[*place]) && whole(&workers[*place]))
        .collect()
}

/// True if the claimant's workers fit on those nodes once these have gone.
fn fit(rooms: &[Free], workers: &[Victim], gone: &BTreeSet<usize>, nodes: &[usize]) -> bool {
    let mut rooms = rooms.to_vec();
    for place in gone {
        rooms[workers[*place].node].give_back(&workers[*place]);
    }
    nodes.iter().all(|node| rooms[*node].take())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Found if and only if it fits with everyone gone who may go; nobody else goes, gangs go whole, and nobody in
    /// vain.
    #[test]
    fn room_is_made_exactly_where_it_can_be_and_by_nobody_too_many(
        workers in workers(),
        free in prop::collection::vec((0u32..3, 0u64..3, 0u32..2), 4),
        needs in (1u32..5, 0u64..5, 0u32..2),
        count in 1u32..4,
        burst in any::<bool>(),
        priority in -2i16..3,
    ) {
        let tier = if burst { Tier::Burst } else { Tier::Standard };
        let claimant = Claimant { tier, priority: Priority(priority), workers: count };
        let needs = amounts(needs.0, needs.1, needs.2);
        let rooms: Vec<Free> = free.iter().map(|(c, m, g)| Free { left: amounts(*c, *m, *g), needs }).collect();
        let may = free_to_go(&workers, &claimant);
        let mut emptied = rooms.clone();
        for place in &may {
            emptied[workers[*place].node].give_back(&workers[*place]);
        }
        let room: usize = emptied.iter_mut().map(|room| (0..count).take_while(|_| room.take()).count()).sum();
        let Some(Yielded { victims, nodes }) = chosen(&claimant, &rooms, &workers) else {
            prop_assert!(room < count as usize, "it would fit");
            return Ok(());
        };
        let gone: BTreeSet<usize> = victims.iter().copied().collect();
        prop_assert_eq!(nodes.len(), count as usize);
        prop_assert!(gone.is_subset(&may));
        prop_assert!(fit(&rooms, &workers, &gone, &nodes));
        for place in &gone {
            let unit = |other: &usize| {
                let (this, other) = (&workers[*place], &workers[*other]);
                this.gang && this.job == other.job
            };
            let stays: BTreeSet<usize> =
                gone.iter().copied().filter(|other| other != place && !unit(other)).collect();
            prop_assert!(!fit(&rooms, &workers, &stays, &nodes), "{} went in vain", place);
            let whole = (0..workers.len()).filter(unit).all(|other| gone.contains(&other));
            prop_assert!(whole, "a torn gang");
        }
    }

    /// A small world in which everyone wants the same node, minute by minute: nobody yields to whom it has made
    /// yield, and all come to their end, however they were submitted.
    #[test]
    fn nobody_goes_to_and_fro(jobs in prop::collection::vec((any::<bool>(), 0i16..3, 1i64..40, 0i64..60), 1..8)) {
        let world = World::run(&jobs);
        for (victim, claimant) in &world.yielded_to {
            prop_assert!(!world.yielded_to.contains(&(*claimant, *victim)), "{} and {} push each other", victim, claimant);
        }
        prop_assert_eq!(world.done, jobs.len(), "some never ended");
    }
}

#[derive(Default)]
struct World {
    yielded_to: BTreeSet<(usize, usize)>,
    done: usize,
}

impl World {
    /// Jobs are (burst, priority, minutes of work without a saved state, minute of submission); one runs at a time.
    fn run(jobs: &[(bool, i16, i64, i64)]) -> Self {
        let mut world = Self::default();
        let mut waiting: BTreeSet<usize> = BTreeSet::new();
        let mut running: Option<(usize, i64)> = None;
        let mut yielded = vec![0; jobs.len()];
        let tier = |place: usize| {
            if jobs[place].0 {
                Tier::Burst
            } else {
                Tier::Standard
            }
        };
        // The cool-down doubles up to a day, in which any of these ends.
        for minute in 0..8 * 24 * 60 {
            waiting.extend((0..jobs.len()).filter(|place| jobs[*place].3 == minute));
            if let Some((place, since)) = running
                && minute - since >= jobs[place].2
            {
                running = None;
                world.done += 1;
            }
            let next = waiting
                .iter()
                .copied()
                .min_by_key(|place| (tier(*place), -jobs[*place].1, *place));
            let Some(next) = next else { continue };
            if let Some((place, since)) = running {
                let began = WallTime(since * 60_000_000);
                let worker = Victim {
                    tier: tier(place),
                    priority: Priority(jobs[place].1),
                    started: began,
                    saved: began,
                    yielded: yielded[place],
                    ..victim(u8::try_from(place).unwrap(), 0, 0)
                };
                let claimant = Claimant {
                    tier: tier(next),
                    priority: Priority(jobs[next].1),
                    workers: 1,
                };
                let now = WallTime(minute * 60_000_000);
                let rooms = full(1, amounts(2, 2, 0));
                if choose(&claimant, &rooms, &[worker], &YieldRules::default(), now).is_none() {
                    continue;
                }
                world.yielded_to.insert((place, next));
                yielded[place] += 1;
                waiting.insert(place);
            }
            waiting.remove(&next);
            running = Some((next, minute));
        }
        world
    }
}
