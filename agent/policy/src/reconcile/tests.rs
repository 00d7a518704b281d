//! Stories of one node, and any history with failures at any action.

mod acting;
mod control;
mod world;

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use loadline_model::{Bytes, CpuRequest, MilliCpu, ReceiptAction, Span, Tier};
use proptest::prelude::*;

use super::*;
use crate::attempt::{MainEnd, UnitEnd};
use crate::node_policy::Mode;
use crate::sample::attempt;
use crate::settings::{Limit, Pinning, Squeezed};
use world::{SimUnit, World};

const HALF: CpuRequest = CpuRequest::Shared(MilliCpu(500));

fn own(cpus: u32) -> CpuRequest {
    CpuRequest::Exclusive(cpus)
}

fn started(plan: &Plan) -> Vec<AttemptId> {
    let starts = plan
        .actions
        .iter()
        .filter(|planned| planned.stage == Stage::Start);
    starts.filter_map(|planned| planned.attempt).collect()
}

fn sentences(world: &World, action: ReceiptAction) -> Vec<String> {
    let receipts = world.receipts.iter().filter(|receipt| receipt.action == action);
    receipts.map(|receipt| receipt.sentence.clone()).collect()
}

#[test]
fn an_order_runs_and_ends_once() {
    let mut world = World::new();
    world.order(1, Tier::Standard, own(2));
    world.quiet();
    assert_eq!((world.cpus(1).as_str(), world.slices.len()), ("1-2", 3));
    assert!(matches!(world.ledger[&attempt(1)].life, Life::Running { .. }));
    world.unit_ends(attempt(1), "exit-code", MainEnd::Exited(7), true);
    world.quiet();
    assert_eq!(
        (world.reason(1), world.ledger.len(), world.records.len()),
        ("exited", 0, 0)
    );
}

#[test]
fn a_newcomer_takes_its_cpus_from_the_pool_first() {
    let mut world = World::new();
    world.order(1, Tier::Standard, HALF);
    world.order(2, Tier::Burst, own(2));
    world.quiet();
    assert_eq!((world.cpus(1), world.cpus(2)), ("1-7".into(), "1-7".into()));
    world.order(3, Tier::Standard, own(4));
    let plan = world.plan();
    let stages: Vec<Stage> = plan.actions.iter().map(|planned| planned.stage).collect();
    assert_eq!(stages, [Stage::Shrink, Stage::Shrink, Stage::Start]);
    world.quiet();
    assert_eq!(
        (world.cpus(1), world.cpus(2), world.cpus(3)),
        ("1-3".into(), "1-3".into(), "4-7".into())
    );
    world.cancel(3);
    world.quiet();
    assert_eq!((world.cpus(1), world.reason(3)), ("1-7".into(), "cancelled"));
}

#[test]
fn nothing_starts_after_a_shrink_has_failed() {
    let mut world = World::new();
    world.order(1, Tier::Standard, HALF);
    world.quiet();
    world.order(2, Tier::Standard, own(2));
    world.pass(|planned| planned.stage == Stage::Shrink);
    assert_eq!(world.ledger[&attempt(2)].life, Life::Accepted);
    world.quiet();
    assert_eq!(world.cpus(2), "1-2");
}

#[test]
fn a_slice_does_not_shrink_over_a_worker_that_kept_its_cpus() {
    let mut world = World::new();
    world.order(1, Tier::Standard, own(1));
    world.order(2, Tier::Standard, HALF);
    world.quiet();
    world.reserve("0-2");
    world.pass(|planned| planned.stage == Stage::Shrink && planned.attempt == Some(attempt(2)));
    let root = |world: &World| {
        world.slices[&Slice::Root]
            .cpus_effective
            .as_ref()
            .unwrap()
            .to_string()
    };
    assert_eq!(
        (root(&world), world.cpus(1), world.cpus(2)),
        ("1-7".into(), "1".into(), "2-7".into())
    );
    world.pass(|_| false);
    assert_eq!(
        (root(&world), world.cpus(1), world.cpus(2)),
        ("3-7".into(), "3-7".into(), "3-7".into())
    );
}

#[test]
fn an_order_waits_for_a_worker_that_is_on_its_way_out() {
    let mut world = World::new();
    world.order(1, Tier::Standard, own(7));
    world.quiet();
    world.cancel(1);
    world.order(2, Tier::Standard, own(7));
    let plan = world.pass(|_| false);
    assert_eq!((started(&plan), plan.waiting.len()), (Vec::new(), 1));
    world.quiet();
    assert_eq!((world.reason(1), world.cpus(2).as_str()), ("cancelled", "1-7"));
    // With nobody on the way out it is refused for now, with a receipt.
    world.order(3, Tier::Standard, own(1));
    world.quiet();
    assert_eq!(world.reason(3), "refused");
    assert_eq!(
        sentences(&world, ReceiptAction::Refused),
        ["it asks for 1 CPUs and this node lends 0 now (the free part of its firm line)"]
    );
}

#[test]
fn nothing_stops_by_absence() {
    let mut world = World::new();
    world.order(1, Tier::Standard, own(2));
    world.order(2, Tier::Standard, HALF);
    world.quiet();
    // The ledger is lost; the units are found, adopted and left running on their CPUs.
    world.ledger.clear();
    world.quiet();
    assert_eq!(world.units.len(), 2);
    assert!(
        world
            .ledger
            .values()
            .all(|entry| entry.order.is_none() && entry.holding.is_some())
    );
    assert_eq!(sentences(&world, ReceiptAction::OrphanAdopted).len(), 2);
    assert_eq!(world.cpus(1), "1-2");
    // Nobody gets the orphan's CPUs, and an order can end it.
    world.order(3, Tier::Standard, own(3));
    world.quiet();
    assert_eq!((world.cpus(1).as_str(), world.cpus(3).as_str()), ("1-2", "4-6"));
    world.cancel(1);
    world.quiet();
    assert_eq!(world.reason(1), "cancelled");
}

#[test]
fn an_older_ledger_starts_nothing_twice() {
    let mut world = World::new();
    world.order(1, Tier::Standard, own(2));
    world.order(2, Tier::Standard, own(1));
    let before = world.ledger.clone();
    world.quiet();
    // The ledger comes back from a copy that was made before anything had started.
    world.ledger = before;
    world.unit_ends(attempt(2), "success", MainEnd::Exited(0), true);
    world.order(3, Tier::Standard, own(2));
    world.quiet();
    assert_eq!(
        (world.cpus(1), world.reason(2), world.cpus(3)),
        ("1-2".into(), "exited", "4-5".into())
    );
}

#[test]
fn an_end_that_nobody_knows_is_reported_too() {
    let mut world = World::new();
    world.order(1, Tier::Standard, own(2));
    world.quiet();
    world.ledger.clear();
    world.unit_ends(attempt(1), "success", MainEnd::Exited(0), true);
    world.quiet();
    assert_eq!(world.reason(1), "exited");
}

#[test]
fn a_reboot_ends_what_was_there_and_a_record_from_before_wins() {
    let mut world = World::new();
    for number in 1..=3 {
        world.order(number, Tier::Standard, own(1));
    }
    world.quiet();
    world.order(4, Tier::Standard, own(1));
    world.unit_ends(attempt(2), "success", MainEnd::Exited(0), true);
    world.reboot();
    world.quiet();
    let reasons: Vec<_> = (1..=4).map(|number| world.reason(number)).collect();
    assert_eq!(
        reasons,
        ["node_rebooted", "exited", "node_rebooted", "node_rebooted"]
    );
}

#[test]
fn an_end_without_a_record_is_waited_for_and_then_told() {
    let mut world = World::new();
    world.order(1, Tier::Standard, own(1));
    world.quiet();
    world.unit_ends(attempt(1), "success", MainEnd::Exited(0), false);
    assert_eq!(world.pass(|_| false).actions, []);
    world.wait(89);
    assert_eq!(world.pass(|_| false).actions, []);
    world.wait(1);
    world.pass(|_| false);
    assert_eq!(world.reason(1), "node_lost");
}

#[test]
fn systemd_s_own_word_is_enough_but_not_what_it_says_of_forgotten_units() {
    let mut world = World::new();
    world.order(1, Tier::Standard, own(1));
    world.quiet();
    let over = |world: &mut World, result: &str, main| {
        let unit = world.units.get_mut(&attempt(1)).unwrap();
        unit.active = UnitActive::Over;
        unit.end = Some(UnitEnd {
            result: result.into(),
            main,
        });
    };
    over(&mut world, "success", MainEnd::Unknown);
    assert_eq!(world.pass(|_| false).actions, []);
    over(&mut world, "oom-kill", MainEnd::Killed(9));
    world.pass(|_| false);
    assert_eq!(world.reason(1), "out_of_memory");
    assert_eq!(sentences(&world, ReceiptAction::OutOfMemory).len(), 1);
    // The dead unit may be forgotten; it is no orphan.
    let plan = world.pass(|_| false);
    assert_eq!(
        plan.actions
            .iter()
            .map(|planned| &planned.action)
            .collect::<Vec<_>>(),
        [&Action::Forget]
    );
    assert!(world.units.is_empty());
}

#[test]
fn a_raised_reserve_evicts_with_receipts_and_shrinks_at_once() {
    let mut world = World::new();
    world.order(1, Tier::Standard, own(2));
    world.order(2, Tier::Standard, own(3));
    world.order(3, Tier::Burst, HALF);
    world.quiet();
    assert_eq!(
        (world.cpus(1), world.cpus(2), world.cpus(3)),
        ("1-2".into(), "4-6".into(), "3,7".into())
    );
    world.reserve("0-3");
    world.pass(|_| false);
    let Life::Stopping { why, .. } = &world.ledger[&attempt(1)].life else {
        panic!("it is evicted")
    };
    assert_eq!(*why, crate::attempt::StopWhy::Evicted);
    // While it ends it shares what is left; production has its CPUs already.
    assert_eq!((world.cpus(1), world.cpus(3)), ("7".into(), "7".into()));
    world.quiet();
    assert_eq!(
        (world.reason(1), world.reason(2), world.reason(3)),
        ("evicted", "-", "-")
    );
    assert_eq!(
        sentences(&world, ReceiptAction::Evicted),
        ["evicted: CPU 1-2 is reserved for production now (production.reserve.cpus)"]
    );
}

#[test]
fn burst_goes_before_standard_and_the_newest_first() {
    let mut world = World::new();
    world.order(1, Tier::Burst, CpuRequest::Shared(MilliCpu(900)));
    world.order(2, Tier::Burst, CpuRequest::Shared(MilliCpu(900)));
    world.order(3, Tier::Standard, CpuRequest::Shared(MilliCpu(900)));
    world.quiet();
    world.reserve("0-5"); // 2 CPUs are left: 1800m of 2700m may stay
    world.quiet();
    assert_eq!(
        (world.reason(1), world.reason(2), world.reason(3)),
        ("-", "evicted", "-")
    );
    world.reserve("0-6");
    world.quiet();
    assert_eq!((world.reason(1), world.reason(3)), ("evicted", "-"));
}

#[test]
fn production_in_need_evicts_one_at_a_time_the_least_lost_first() {
    let mut world = World::new();
    world.order(1, Tier::Burst, HALF);
    world.order(2, Tier::Burst, HALF);
    world.order(3, Tier::Standard, HALF);
    world.quiet();
    let gone = |world: &World| [1, 2, 3].map(|number| world.reason(number));
    for expected in [["-", "evicted", "-"], ["evicted", "evicted", "-"], ["evicted"; 3]] {
        world.evict = Some("only 90 MiB of memory can still be had");
        world.quiet();
        assert_eq!(gone(&world), expected);
    }
    let told = sentences(&world, ReceiptAction::Evicted);
    assert_eq!(told.len(), 3);
    assert!(
        told[0].starts_with("evicted: only 90 MiB of memory can still be had; "),
        "{told:?}"
    );
    // With nobody left there is nothing to do.
    world.evict = Some("only 80 MiB of memory can still be had");
    world.quiet();
}

#[test]
fn modes_say_what_becomes_of_what_runs() {
    let mut world = World::new();
    world.order(1, Tier::Standard, own(1));
    world.quiet();
    world.policy.lend.mode = Mode::Shadow;
    world.order(2, Tier::Standard, own(1));
    world.quiet();
    assert_eq!(
        (world.reason(1), world.reason(2)),
        ("-", "refused"),
        "shadow touches nothing"
    );
    world.policy.lend.mode = Mode::Off;
    world.quiet();
    assert_eq!(world.reason(1), "evicted");
    assert_eq!(
        sentences(&world, ReceiptAction::Evicted),
        ["evicted: this node lends nothing: its mode is `off`"]
    );
}

#[test]
fn a_node_that_only_watches_is_not_touched() {
    let mut world = World::new();
    world.order(1, Tier::Standard, own(1));
    world.quiet();
    world.policy.lend.mode = Mode::Shadow;
    let change =
        |world: &mut World| world.slices.get_mut(&Slice::Root).unwrap().memory_max = Some(Limit::Max);
    change(&mut world);
    let stages = |plan: &Plan| {
        plan.actions
            .iter()
            .map(|planned| planned.stage)
            .collect::<Vec<_>>()
    };
    assert_eq!(
        stages(&world.pass(|_| false)),
        [Stage::Slices],
        "what still runs is held"
    );
    world.unit_ends(attempt(1), "success", MainEnd::Exited(0), true);
    world.quiet();
    change(&mut world);
    assert_eq!(world.pass(|_| false).actions, []);
}

#[test]
fn a_worker_that_does_not_end_is_killed_when_its_grace_is_over() {
    let mut world = World::new();
    world.order(1, Tier::Standard, own(1));
    world.quiet();
    world.cancel(1);
    let asked = world.pass(|_| false);
    assert!(matches!(asked.actions[0].action, Action::Stop(_)));
    world.wait(19);
    assert_eq!(world.pass(|_| false).actions, [], "systemd is at it");
    world.wait(1);
    assert!(matches!(world.pass(|_| false).actions[0].action, Action::Kill));
    world.quiet();
    assert_eq!(world.reason(1), "cancelled");
}

#[test]
fn time_is_up_after_a_restart_too() {
    let mut world = World::new();
    world.order(1, Tier::Standard, own(1));
    world.quiet();
    world.wait(3_500);
    world.restart();
    assert_eq!(world.pass(|_| false).actions, []);
    world.wait(150);
    world.quiet();
    assert_eq!(world.reason(1), "time_limit");
    assert_eq!(sentences(&world, ReceiptAction::TimeLimit).len(), 1);
}

#[test]
fn what_someone_changed_is_put_back_with_a_receipt() {
    let mut world = World::new();
    world.order(1, Tier::Standard, own(2));
    world.quiet();
    let unit = world.units.get_mut(&attempt(1)).unwrap();
    unit.limits.memory_max = Some(Limit::Max);
    unit.cpus = Some("1-5".parse().unwrap());
    world.slices.get_mut(&Slice::Root).unwrap().cpu_max = Some(Limit::Max);
    world.slices.get_mut(&Slice::Standard).unwrap().cpus_effective = Some("1".parse().unwrap());
    world.quiet();
    assert_eq!(world.cpus(1), "1-2");
    assert_eq!(
        sentences(&world, ReceiptAction::LimitRepaired),
        [
            "it ran on CPU 1-5 instead of 1-2, changed by someone else; put back",
            "cpu.max should be 7000m and is max; set again",
            "memory.max should be 1073741824 and is max; set again",
        ]
    );
}

#[test]
fn what_cannot_be_read_is_said_and_not_set_for_ever() {
    let mut world = World::new();
    world.order(1, Tier::Standard, own(2));
    world.quiet();
    world.units.get_mut(&attempt(1)).unwrap().limits.memory_swap_max = None;
    let plan = world.pass(|_| false);
    assert_eq!(plan.actions, []);
    let (unit, mismatch) = &plan.unverified[0];
    assert_eq!(*unit, attempt(1).unit_name());
    assert_eq!(
        mismatch.to_string(),
        "memory.swap.max should be 0 and could not be read"
    );
}

#[test]
fn a_worker_without_a_cpuset_is_pinned() {
    let mut world = World::new();
    world.order(1, Tier::Standard, own(2));
    world.quiet();
    world.units.get_mut(&attempt(1)).unwrap().cpus = None;
    let plan = world.pass(|_| false);
    assert_eq!(plan.actions.len(), 1);
    assert_eq!(world.cpus(1), "1-2");
}

#[test]
fn a_weights_only_node_sets_no_cpus_and_refuses_exclusive_ones() {
    let mut world = World::new();
    world.pinning = Pinning::WeightsOnly {
        why: "pid 1 (db) runs on CPU 1 only".into(),
    };
    world.order(1, Tier::Standard, HALF);
    world.order(2, Tier::Standard, own(1));
    world.order(3, Tier::Burst, own(1));
    world.quiet();
    assert_eq!((world.cpus(1).as_str(), world.reason(2)), ("all", "refused"));
    assert!(
        world
            .slices
            .values()
            .all(|observed| observed.cpus_effective.is_none())
    );
    assert_eq!(world.units.len(), 2);
}

#[test]
fn setpoints_squeeze_and_release() {
    let mut world = World::new();
    world.order(1, Tier::Standard, HALF);
    world.order(2, Tier::Burst, HALF);
    world.quiet();
    world.setpoints.squeezed = Squeezed::Burst;
    world.setpoints.cpu = Some(MilliCpu(3000));
    world.quiet();
    assert!(matches!(world.ledger[&attempt(1)].life, Life::Running { .. }));
    assert!(matches!(world.ledger[&attempt(2)].life, Life::Squeezed { .. }));
    let Some(Limit::At(root)) = world.slices[&Slice::Root].cpu_max else {
        panic!("a quota")
    };
    assert_eq!(root.quota_us * 1000 / root.period_us, 3000);
    // Nothing is started into a starved slice.
    world.order(3, Tier::Burst, HALF);
    world.quiet();
    assert_eq!(world.reason(3), "refused");
    world.setpoints = crate::settings::Setpoints::default();
    world.quiet();
    assert!(matches!(world.ledger[&attempt(2)].life, Life::Running { .. }));
}

#[test]
fn memory_that_was_promised_is_not_cut_while_its_holder_ends() {
    let mut world = World::new();
    for number in 1..=10 {
        world.order(number, Tier::Standard, HALF);
    }
    world.quiet();
    world.policy.reserve.memory = crate::node_policy::ReserveMemory::Amount(Bytes::from_gib(12));
    world.pass(|_| false);
    let max = |world: &World| world.slices[&Slice::Root].memory_max;
    assert_eq!(max(&world), Some(Limit::At(Bytes::from_gib(10))));
    world.quiet();
    assert_eq!(max(&world), Some(Limit::At(Bytes::from_gib(4))));
    assert_eq!(
        (world.units.len(), sentences(&world, ReceiptAction::Evicted).len()),
        (4, 6)
    );
}

#[test]
fn a_live_unit_of_an_ended_attempt_is_told_and_left_alone() {
    let mut world = World::new();
    world.order(1, Tier::Standard, own(1));
    world.quiet();
    let unit: SimUnit = world.units[&attempt(1)].clone();
    world.unit_ends(attempt(1), "success", MainEnd::Exited(0), true);
    world.quiet();
    world.units.insert(attempt(1), unit);
    let plan = world.pass(|_| false);
    assert_eq!(
        plan.contradictions,
        [(attempt(1), "an attempt that had ended has a live unit")]
    );
    assert_eq!(plan.actions, []);
}

/// What may happen to a node between two passes.
#[derive(Debug, Clone)]
enum Happening {
    Order {
        number: u128,
        burst: bool,
        cpus: u32,
        uid: u32,
    },
    Cancel(u128),
    Ends {
        number: u128,
        code: u8,
        recorded: bool,
    },
    Settle,
    Wait(u64),
    Restart,
    Reboot,
    LedgerLost,
    Reserve(u32),
    Mode(Mode),
    Line(u16),
    Week(Option<u64>),
    MemoryChanged(u128),
    Squeeze(Squeezed),
}

fn happening() -> impl Strategy<Value = Happening> {
    let number = 1u128..14;
    prop_oneof![
        10 => (number.clone(), any::<bool>(), 0u32..5, prop_oneof![9 => Just(1000u32), 1 => Just(0u32)])
            .prop_map(|(number, burst, cpus, uid)| Happening::Order { number, burst, cpus, uid }),
        3 => number.clone().prop_map(Happening::Cancel),
        4 => (number.clone(), any::<u8>(), prop::bool::weighted(0.9))
            .prop_map(|(number, code, recorded)| Happening::Ends { number, code, recorded }),
        5 => Just(Happening::Settle),
        3 => (1u64..200).prop_map(Happening::Wait),
        1 => Just(Happening::Restart),
        1 => Just(Happening::Reboot),
        1 => Just(Happening::LedgerLost),
        1 => (0u32..9).prop_map(Happening::Reserve),
        1 => prop_oneof![1 => Just(Mode::Off), 1 => Just(Mode::Shadow), 4 => Just(Mode::Enforce)].prop_map(Happening::Mode),
        1 => prop_oneof![1 => Just(0u16), 2 => 0u16..1000, 3 => Just(1000u16)].prop_map(Happening::Line),
        1 => prop::option::of(0u64..9_000).prop_map(Happening::Week),
        1 => number.prop_map(Happening::MemoryChanged),
        1 => prop_oneof![2 => Just(Squeezed::No), 1 => Just(Squeezed::Burst), 1 => Just(Squeezed::All)]
            .prop_map(Happening::Squeeze),
    ]
}

fn happen(world: &mut World, happening: Happening) {
    match happening {
        Happening::Order {
            number,
            burst,
            cpus,
            uid,
        } => {
            let tier = if burst { Tier::Burst } else { Tier::Standard };
            world.order_for(number, tier, if cpus == 0 { HALF } else { own(cpus) }, uid);
        }
        Happening::Cancel(number) => world.cancel(number),
        Happening::Ends {
            number,
            code,
            recorded,
        } => {
            world.unit_ends(attempt(number), "exit-code", MainEnd::Exited(code), recorded);
        }
        Happening::Settle => world.settle(),
        Happening::Wait(secs) => world.wait(secs),
        Happening::Restart => world.restart(),
        Happening::Reboot => world.reboot(),
        // Only what runs can be found again; the fleet would order the rest anew under new ids.
        Happening::LedgerLost => {
            world.lost.extend(world.units.keys());
            world.ledger.retain(|id, _| !world.lost.contains(id));
        }
        Happening::Reserve(count) => {
            world.policy.reserve.cpus = crate::node_policy::ReserveCpus::Count(count);
        }
        Happening::Mode(mode) => world.policy.lend.mode = mode,
        Happening::Line(share) => world.set_line(share),
        Happening::Week(cpu) => world.week.cpu = cpu.map(MilliCpu),
        Happening::MemoryChanged(number) => {
            if let Some(unit) = world.units.get_mut(&attempt(number)) {
                unit.limits.memory_max = Some(Limit::Max);
            }
        }
        Happening::Squeeze(squeezed) => world.setpoints.squeezed = squeezed,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    /// Any history, with actions failing at random: every moment is sound (checked in `pass`), no command runs
    /// twice, nothing ends twice, and once it is quiet there is nothing left to do.
    #[test]
    fn any_history_is_safe_and_settles(
        history in prop::collection::vec((prop::collection::vec(happening(), 0..4), any::<u32>()), 1..25),
    ) {
        let mut world = World::new();
        for (happenings, luck) in history {
            for happening in happenings {
                happen(&mut world, happening);
            }
            // One action in four fails.
            let mut bits = luck;
            world.pass(|_| {
                bits = bits.rotate_left(2).wrapping_mul(0x9E37_79B1).wrapping_add(1);
                luck & 1 == 1 && bits >> 30 == 0
            });
        }
        world.quiet();
        let last = world.pass(|_| false);
        prop_assert_eq!(last.actions, Vec::new());
        prop_assert!(last.unverified.is_empty());
        for id in world.runs.keys().filter(|id| !world.lost.contains(id)) {
            prop_assert!(world.ended.contains_key(id) || world.ledger.contains_key(id), "{id} was forgotten");
        }
        prop_assert!(world.now.boot >= Span::ZERO);
    }
}
