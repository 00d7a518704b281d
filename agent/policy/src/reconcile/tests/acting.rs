//! What happens to lent work while production needs its room: what is not started, and who goes first.

use alloc::collections::BTreeMap;
use alloc::string::ToString;
use alloc::vec::Vec;

use loadline_model::{CpuRequest, Elastic, JobDraft, JobSpec, MilliCpu, ReceiptAction, Span, Tier, Workers};
use proptest::prelude::*;

use super::sentences;
use super::world::World;
use crate::attempt::{Life, RunClock, StopWhy};
use crate::headroom::Bounds;
use crate::reconcile::{Action, AtOnce, Plan};
use crate::sample::{self, attempt};
use crate::settings::{Setpoints, Squeezed};

const HALF: CpuRequest = CpuRequest::Shared(MilliCpu(500));

#[test]
fn nothing_is_started_where_it_would_starve() {
    // 8 CPUs: the floor is 400m, which is more than a start needs.
    let world = World::new();
    assert_eq!(Bounds::of(&world.line()).floor, MilliCpu(400));
    let none = Squeezed::No;
    for (told, at_once, squeezed, starts) in [
        (None, None, none, true),
        (None, Some(410), none, true),
        (None, Some(400), none, false),
        (None, Some(0), none, false),
        (Some(410), None, none, true),
        (Some(400), None, none, false),
        // The lower one counts, whichever systemd was told.
        (Some(3000), Some(400), none, false),
        (Some(400), Some(3000), none, false),
        // Not told yet, and in force by the brake.
        (None, None, Squeezed::Burst, true),
        (None, None, Squeezed::All, false),
    ] {
        let mut world = World::new();
        world.setpoints = Setpoints {
            cpu: told.map(MilliCpu),
            ..Setpoints::default()
        };
        world.at_once = AtOnce {
            cpu: at_once.map(MilliCpu),
            squeezed,
            why: "production uses 7.6 CPUs",
        };
        world.order(1, Tier::Standard, HALF);
        world.quiet();
        let case = (told, at_once, squeezed);
        assert_eq!(world.ledger.contains_key(&attempt(1)), starts, "{case:?}");
        if !starts {
            let ended = &world.ended[&attempt(1)];
            assert_eq!(ended.reason.word(), "refused", "{case:?}");
            assert!(
                matches!(
                    ended.reason,
                    loadline_model::EndReason::Refused { for_good: false }
                ),
                "{ended:?}"
            );
            assert!(ended.detail.contains("production uses 7.6 CPUs"), "{ended:?}");
        }
    }
}

#[test]
fn a_small_line_is_no_starved_one() {
    let mut world = World::new();
    world.topology = sample::machine(1, 2, 1, 8);
    world.policy.reserve.cpus = crate::node_policy::ReserveCpus::Count(1);
    // 2 CPUs: the floor is 100m. What a start needs is more than that.
    for (cpu, starts) in [
        (None, true),
        (Some(200), true),
        (Some(190), false),
        (Some(110), false),
    ] {
        let mut world = world.clone();
        world.at_once.cpu = cpu.map(MilliCpu);
        world.order(1, Tier::Standard, CpuRequest::Shared(MilliCpu(100)));
        world.quiet();
        assert_eq!(world.ledger.contains_key(&attempt(1)), starts, "{cpu:?}");
    }
}

#[derive(Debug, Clone, Copy)]
struct Worker {
    tier: Tier,
    elastic: bool,
    /// Milliseconds of CPU time, if that is known, and of running.
    used: Option<u64>,
    ran: u64,
}

/// A node with these workers running, numbered from 1 in order of age.
fn world_of(workers: &[Worker]) -> World {
    let mut world = World::new();
    for (number, worker) in (1..).zip(workers) {
        world.order(number, worker.tier, CpuRequest::Shared(MilliCpu(100)));
    }
    world.quiet();
    for (number, worker) in (1..).zip(workers) {
        let now = world.now.boot;
        let entry = world.ledger.get_mut(&attempt(number)).unwrap();
        let order = entry.order.as_mut().unwrap();
        let draft = sample::draft(
            worker.tier,
            CpuRequest::Shared(MilliCpu(100)),
            loadline_model::Bytes::from_gib(1),
        );
        let workers = if worker.elastic {
            Workers::Elastic(Elastic { min: 1, max: 3 })
        } else {
            Workers::Fixed(1)
        };
        order.spec = JobSpec::new(JobDraft { workers, ..draft }).unwrap();
        entry.peaks.cpu_time = worker.used.map(Span::from_millis);
        let clock = RunClock {
            spent: Span::from_millis(worker.ran / 2),
            counted_to: now.minus(Span::from_millis(worker.ran - worker.ran / 2)),
        };
        entry.life = Life::Running { clock };
    }
    world
}

/// The order in which they go.
fn order_of_going(workers: &[Worker]) -> Vec<usize> {
    let mut world = world_of(workers);
    let mut gone = Vec::new();
    for _ in workers {
        let before = world.ended.len();
        world.evict = Some("only 90 MiB of memory can still be had");
        // Asked to end, then gone. Time stands still meanwhile.
        for _ in 0..3 {
            world.pass(|_| false);
            world.settle();
        }
        assert_eq!(world.ended.len(), before + 1, "one at a time");
        let next = (1..).zip(workers).position(|(number, _)| {
            world.ended.contains_key(&attempt(number)) && !gone.contains(&usize::try_from(number).unwrap())
        });
        gone.push(next.unwrap() + 1);
    }
    gone
}

#[test]
fn the_least_work_is_lost() {
    let worker = |tier, elastic, used, ran| Worker {
        tier,
        elastic,
        used,
        ran,
    };
    let (standard, burst) = (Tier::Standard, Tier::Burst);
    for (workers, order) in [
        // Burst before standard, whatever was done.
        (
            [
                worker(burst, false, Some(9_000), 0),
                worker(standard, true, Some(1), 0),
                worker(standard, false, Some(1), 0),
            ],
            [1, 2, 3],
        ),
        // Elastic before fixed, within a tier.
        (
            [
                worker(burst, true, Some(9_000), 0),
                worker(burst, false, Some(1), 0),
                worker(burst, true, Some(8_000), 0),
            ],
            [3, 1, 2],
        ),
        // The least done, not the newest; of equals the newest.
        (
            [
                worker(standard, false, Some(50), 0),
                worker(standard, false, Some(70), 0),
                worker(standard, false, Some(70), 0),
            ],
            [1, 3, 2],
        ),
        // CPU time where it is known, else the time it ran.
        (
            [
                worker(burst, false, None, 5_000),
                worker(burst, false, Some(4_000), 90_000),
                worker(burst, false, None, 3_000),
            ],
            [3, 2, 1],
        ),
    ] {
        assert_eq!(order_of_going(&workers), order, "{workers:?}");
    }
}

#[test]
fn who_hangs_at_its_memory_limit_is_ended_at_once_with_that_reason_and_one_receipt() {
    let mut world = World::new();
    world.order(1, Tier::Standard, HALF);
    world.order(2, Tier::Burst, HALF);
    world.quiet();
    world.setpoints.squeezed = Squeezed::All;
    let told = "it reached its memory limit of 1GiB";
    world.hung = [(attempt(1), told.to_string())].into();
    world.evict = Some("only 90 MiB of memory can still be had");
    let plan = world.pass(|_| false);
    let Life::Stopping { why, kill_at, .. } = &world.ledger[&attempt(1)].life else {
        panic!("it is ended");
    };
    assert_eq!(
        (*why, *kill_at),
        (StopWhy::OutOfMemory, world.now.boot),
        "without a grace"
    );
    let dying: Vec<_> = plan.dying.iter().map(|one| one.attempt).collect();
    assert!(dying.contains(&attempt(1)), "with the CPU for it: {dying:?}");
    // Its processes do not end by SIGTERM.
    let killed = |plan: &Plan| {
        let kills = plan
            .actions
            .iter()
            .filter(|planned| planned.action == Action::Kill);
        kills.filter_map(|planned| planned.attempt).collect::<Vec<_>>()
    };
    assert_eq!(killed(&world.pass(|_| false)), [attempt(1)]);
    world.setpoints.squeezed = Squeezed::No;
    world.quiet();
    let ended = &world.ended[&attempt(1)];
    assert_eq!(
        (ended.reason.word(), ended.detail.as_str()),
        ("out_of_memory", told)
    );
    assert_eq!(sentences(&world, ReceiptAction::OutOfMemory), [told]);
}

fn any_worker() -> impl Strategy<Value = Worker> {
    let tier = prop_oneof![Just(Tier::Standard), Just(Tier::Burst)];
    (tier, any::<bool>(), proptest::option::of(0..4_u64), 0..4_u64).prop_map(|(tier, elastic, used, ran)| {
        Worker {
            tier,
            elastic,
            used: used.map(|used| used * 1000),
            ran: ran * 1000,
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Said again in other words: by repeated elimination, rule after rule.
    #[test]
    fn whoever_goes_is_last_by_each_rule_in_turn(workers in proptest::collection::vec(any_worker(), 1..6)) {
        let mut left: BTreeMap<usize, Worker> = (1..).zip(workers.iter().copied()).collect();
        for gone in order_of_going(&workers) {
            let mut rest: Vec<usize> = left.keys().copied().collect();
            for rule in [
                |one: &Worker| u64::from(one.tier != Tier::Burst),
                |one: &Worker| u64::from(!one.elastic),
                |one: &Worker| one.used.unwrap_or(one.ran),
            ] {
                let least = rest.iter().map(|number| rule(&left[number])).min().unwrap();
                rest.retain(|number| rule(&left[number]) == least);
            }
            prop_assert_eq!(gone, rest.into_iter().max().unwrap(), "{:?}", left);
            left.remove(&gone);
        }
    }
}
