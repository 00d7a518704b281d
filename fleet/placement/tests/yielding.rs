//! Who makes room: against the sum of what could go, against every smaller choice, and against time.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

use std::collections::{BTreeMap, BTreeSet};

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
        least: None,
        extra: 0,
        aged: false,
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
        worker.least = Some(2);
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
fn what_a_job_has_too_much_goes_to_equals_the_least_lost_first() {
    let mut workers: Vec<Victim> = (0..4u32)
        .map(|place| victim(1, place as usize, 10 + i64::from(place)))
        .collect();
    for (place, worker) in (0u32..).zip(&mut workers) {
        (worker.worker, worker.tier) = (place, Tier::Standard);
        (worker.least, worker.extra) = (Some(2), 2);
    }
    let rooms = full(4, amounts(2, 2, 0));
    let two = Claimant {
        workers: 2,
        ..STANDARD
    };
    assert_eq!(chosen(&two, &rooms, &workers).unwrap().victims, [0, 1]);
    // The youngest is left alone for a while.
    workers[0].started = NOW;
    assert_eq!(chosen(&two, &rooms, &workers).unwrap().victims, [1, 2]);
    let three = Claimant {
        workers: 3,
        ..STANDARD
    };
    assert_eq!(chosen(&three, &rooms, &workers), None, "it keeps its least");
    let burst = Claimant {
        tier: Tier::Burst,
        ..STANDARD
    };
    assert_eq!(
        chosen(&burst, &rooms, &workers),
        None,
        "to lower ranks it gives nothing"
    );
}

/// Rooms in two domains, of which each gets so many.
#[derive(Debug, Clone, Copy)]
struct Domained {
    free: Free,
    domain: (usize, u32),
}

impl NodeRoom for Domained {
    fn give_back(&mut self, victim: &Victim) {
        self.free.give_back(victim);
    }

    fn take(&mut self) -> bool {
        self.free.take()
    }

    fn domain(&self) -> Option<(usize, u32)> {
        Some(self.domain)
    }
}

#[test]
fn a_domain_gets_no_more_than_it_may_however_cheap_its_nodes_are() {
    let rooms: Vec<Domained> = full(4, amounts(2, 2, 0))
        .into_iter()
        .zip([(0, 2), (0, 2), (0, 2), (1, 1)])
        .map(|(free, domain)| Domained { free, domain })
        .collect();
    // In the second domain much is lost.
    let workers = [
        victim(1, 0, 2),
        victim(2, 1, 3),
        victim(3, 2, 4),
        victim(4, 3, 6000),
    ];
    let of = |workers_wanted| {
        let claimant = Claimant {
            workers: workers_wanted,
            ..STANDARD
        };
        choose(&claimant, &rooms, &workers, &YieldRules::default(), NOW)
    };
    assert_eq!(of(2).unwrap().victims, [0, 1]);
    assert_eq!(of(3).unwrap().victims, [0, 1, 3]);
    assert_eq!(of(4), None);
}

#[test]
fn who_has_yielded_is_left_alone_twice_as_long_each_time() {
    let rules = YieldRules::default();
    let left: Vec<u64> = (0..4).map(|times| rules.left_alone(times).as_secs()).collect();
    assert_eq!(left, [60, 120, 240, 480]);
    assert_eq!(rules.left_alone(200), rules.cool_down_max);
    let extra: Vec<u64> = [0, 2, 5, 200]
        .map(|times| rules.extra_left_alone(times).as_secs())
        .into();
    assert_eq!(extra, [60, 240, 600, 600], "its job can do without it");
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
            // All workers of a job have its rank and ask for the same; jobs with even numbers are gangs.
            if let Some(first) = workers.iter().find(|worker| worker.job == new.job) {
                (new.tier, new.priority, new.yielded) = (first.tier, first.priority, first.yielded);
                new.amounts = first.amounts;
            }
            workers.push(new);
        }
        // Jobs with even numbers need several at once, every other of them all it has.
        let all = workers.clone();
        for worker in workers
            .iter_mut()
            .filter(|it| it.job.as_bytes()[0].is_multiple_of(2))
        {
            let has = u32::try_from(all.iter().filter(|it| it.job == worker.job).count()).unwrap();
            worker.extra = if worker.job.as_bytes()[0].is_multiple_of(4) {
                has / 2
            } else {
                0
            };
            worker.least = Some(has - worker.extra);
        }
        workers
    })
}

/// The workers that may go at all, all of them together: outranked and not left alone, with all that run with them.
fn free_to_go(workers: &[Victim], claimant: &Claimant) -> BTreeSet<usize> {
    let may = |worker: &Victim| rank(worker.tier, worker.priority) < rank(claimant.tier, claimant.priority);
    let may = |worker: &Victim| may(worker) && is_rested(worker);
    let whole = |worker: &Victim| {
        worker.least.is_none() || workers.iter().filter(|other| other.job == worker.job).all(may)
    };
    (0..workers.len())
        .filter(|place| may(&workers[*place]) && whole(&workers[*place]))
        .collect()
}

fn rank(tier: Tier, priority: Priority) -> (bool, i16) {
    (tier == Tier::Standard, priority.0)
}

/// None of them has yielded often enough for the most to matter.
fn is_rested(worker: &Victim) -> bool {
    NOW.since(worker.started) >= Span::from_secs(60 << worker.yielded)
}

/// Of what may go beside those: of each job so many as it has too much, wherever they are.
fn extra_on(workers: &[Victim], claimant: &Claimant, whole: &BTreeSet<usize>, node: usize) -> Vec<usize> {
    let mut taken: BTreeMap<JobId, u32> = BTreeMap::new();
    let mut found = Vec::new();
    for (place, worker) in workers.iter().enumerate() {
        let equal = rank(worker.tier, worker.priority) <= rank(claimant.tier, claimant.priority);
        let taken = taken.entry(worker.job).or_default();
        if !whole.contains(&place)
            && worker.node == node
            && equal
            && is_rested(worker)
            && *taken < worker.extra
        {
            *taken += 1;
            found.push(place);
        }
    }
    found
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

    /// Found if it fits with everyone gone who is outranked, and one worker also if what others have too much is
    /// enough; nobody goes who may not, no job is left with fewer than it needs, and nobody goes in vain.
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
        let one_fits = (0..rooms.len()).any(|node| {
            let extra = extra_on(&workers, &claimant, &may, node);
            let gone = may.iter().copied().chain(extra).collect();
            fit(&rooms, &workers, &gone, &[node])
        });
        let Some(Yielded { victims, nodes }) = chosen(&claimant, &rooms, &workers) else {
            prop_assert!(room < count as usize, "it would fit");
            prop_assert!(count > 1 || !one_fits, "it would fit beside what is needed");
            return Ok(());
        };
        prop_assert!(count > 1 || one_fits);
        let gone: BTreeSet<usize> = victims.iter().copied().collect();
        prop_assert_eq!(nodes.len(), count as usize);
        prop_assert!(fit(&rooms, &workers, &gone, &nodes));
        for place in &gone {
            let worker = &workers[*place];
            let of_job: Vec<usize> =
                (0..workers.len()).filter(|other| workers[*other].job == worker.job).collect();
            let stay = of_job.iter().filter(|other| !gone.contains(other)).count();
            let enough = worker.least.is_some_and(|least| stay >= least as usize);
            let equal = rank(worker.tier, worker.priority) <= rank(claimant.tier, claimant.priority);
            prop_assert!(may.contains(place) || (enough && equal && is_rested(worker)), "{} may not go", place);
            prop_assert!(worker.least.is_none() || enough || stay == 0, "a torn gang");
            let with: Vec<usize> = if stay == 0 && worker.least.is_some() { of_job } else { vec![*place] };
            let stays: BTreeSet<usize> = gone.iter().copied().filter(|other| !with.contains(other)).collect();
            prop_assert!(!fit(&rooms, &workers, &stays, &nodes), "{} went in vain", place);
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

#[test]
fn who_has_waited_beyond_the_patience_yields_to_the_other_tier_only() {
    let rules = YieldRules::default();
    let aged = Victim {
        tier: Tier::Standard,
        aged: true,
        ..victim(1, 0, 600)
    };
    let urgent = Claimant {
        priority: Priority(100),
        ..STANDARD
    };
    assert!(may_yield(&Victim { aged: false, ..aged }, &urgent, &rules, NOW));
    assert!(!may_yield(&aged, &urgent, &rules, NOW));
    assert!(may_yield(
        &Victim {
            tier: Tier::Burst,
            ..aged
        },
        &urgent,
        &rules,
        NOW
    ));
}
