use super::*;
use crate::allocation::{Allocation, Machine};
use crate::check;
use crate::line::Line;
use crate::node_policy::{NodePolicy, ReserveCpus};
use crate::sample::{attempt, machine};
use crate::settings::Pinning;
use alloc::string::String;
use loadline_model::{Bytes, CpuRequest, MilliCpu, PerMille, Tier, WorkerRequest};
use proptest::prelude::*;

fn set(list: &str) -> CpuSet {
    list.parse().unwrap()
}

fn layout(slices: &str, workers: &[(u128, bool, &str)]) -> CpuLayout {
    let worker = |(number, exclusive, cpus): &(u128, bool, &str)| {
        (
            attempt(*number),
            WorkerCpus {
                exclusive: *exclusive,
                cpus: set(cpus),
            },
        )
    };
    CpuLayout {
        slices: set(slices),
        workers: workers.iter().map(worker).collect(),
    }
}

/// Carries out one step on a model of the host, as the kernel would.
fn apply(now: &mut CpuLayout, step: &Step, new: &CpuLayout) {
    match step {
        Step::Stop(attempt) => {
            now.workers.remove(attempt).expect("only what runs is stopped");
        }
        Step::Shrink(attempt, cpus) | Step::Grow(attempt, cpus) => {
            let worker = now.workers.get_mut(attempt).expect("only what runs is changed");
            worker.cpus = cpus.clone();
        }
        Step::ShrinkSlices(cpus) | Step::GrowSlices(cpus) => now.slices = cpus.clone(),
        Step::Start(attempt, cpus) => {
            let exclusive = new.workers[attempt].exclusive;
            let before = now.workers.insert(
                *attempt,
                WorkerCpus {
                    exclusive,
                    cpus: cpus.clone(),
                },
            );
            assert_eq!(before, None, "started twice");
        }
    }
}

/// Replays the plan and checks every moment; returns how it went wrong.
fn replay(old: &CpuLayout, new: &CpuLayout, steps: &[Step]) -> Vec<String> {
    let mut now = old.clone();
    // Whose CPUs are to be shared owns them no longer, from the first moment on.
    for (attempt, worker) in &mut now.workers {
        worker.exclusive &= new.workers.get(attempt).is_none_or(|after| after.exclusive);
    }
    let mut wrong = Vec::new();
    for step in steps {
        apply(&mut now, step, new);
        wrong.extend(check::layout(&now));
    }
    // A worker whose kind changed and whose CPUs did not is not touched; only its kind is new.
    for (attempt, worker) in &mut now.workers {
        worker.exclusive = new.workers[attempt].exclusive;
    }
    assert_eq!(&now, new, "the plan leads elsewhere");
    wrong
}

#[test]
fn the_pool_gives_before_the_newcomer_takes() {
    let old = layout("1-3", &[(1, false, "1-3"), (2, false, "1-3")]);
    let new = layout("1-3", &[(1, false, "1"), (2, false, "1"), (3, true, "2-3")]);
    let steps = plan_transition(&old, &new).unwrap();
    assert_eq!(
        steps,
        [
            Step::Shrink(attempt(1), set("1")),
            Step::Shrink(attempt(2), set("1")),
            Step::Start(attempt(3), set("2-3")),
        ]
    );
}

#[test]
fn children_shrink_before_parents_and_grow_after_them() {
    let old = layout("1-3", &[(1, false, "1-3")]);
    let new = layout("2-4", &[(1, false, "2-4")]);
    let steps = plan_transition(&old, &new).unwrap();
    assert_eq!(
        steps,
        [
            Step::Shrink(attempt(1), set("2-3")),
            Step::ShrinkSlices(set("2-3")),
            Step::GrowSlices(set("2-4")),
            Step::Grow(attempt(1), set("2-4")),
        ]
    );
    assert_eq!(replay(&old, &new, &steps), [""; 0]);
}

#[test]
fn who_must_move_keeps_the_slices_wide_until_it_has() {
    let old = layout("1-2", &[(1, false, "1-2")]);
    let new = layout("3", &[(1, false, "3")]);
    let steps = plan_transition(&old, &new).unwrap();
    assert_eq!(
        steps,
        [
            Step::GrowSlices(set("1-3")),
            Step::Grow(attempt(1), set("3")),
            Step::ShrinkSlices(set("3")),
        ]
    );
    assert_eq!(replay(&old, &new, &steps), [""; 0]);
}

#[test]
fn moves_wait_for_each_other_and_swaps_are_refused() {
    let old = layout("1-3", &[(1, true, "1"), (2, true, "2")]);
    let new = layout("1-3", &[(1, true, "2"), (2, true, "3")]);
    let steps = plan_transition(&old, &new).unwrap();
    assert_eq!(
        steps,
        [Step::Grow(attempt(2), set("3")), Step::Grow(attempt(1), set("2"))]
    );
    let swap = layout("1-3", &[(1, true, "2"), (2, true, "1")]);
    assert_eq!(
        plan_transition(&old, &swap),
        Err(TransitionProblem::Swap([attempt(1), attempt(2)].into()))
    );
}

#[test]
fn nobody_is_left_without_a_cpu() {
    let old = layout("1", &[(1, false, "1")]);
    let new = layout("1", &[(1, false, "")]);
    assert_eq!(
        plan_transition(&old, &new),
        Err(TransitionProblem::Empty(attempt(1)))
    );
}

#[test]
fn nothing_to_do_is_no_step() {
    let same = layout("1-3", &[(1, true, "1"), (2, false, "2-3")]);
    assert_eq!(plan_transition(&same, &same), Ok(Vec::new()));
}

/// What one round of churn asks for: leave, join with so many CPUs (0: a share), or another reserve.
#[derive(Debug, Clone)]
enum Churn {
    Leave(u128),
    Join(u128, u32),
    Reserve(u32),
}

fn churn() -> impl Strategy<Value = Vec<Churn>> {
    let one = prop_oneof![
        3 => (0u128..10).prop_map(Churn::Leave),
        6 => (0u128..10, 0u32..5).prop_map(|(number, cpus)| Churn::Join(number, cpus)),
        1 => (0u32..6).prop_map(Churn::Reserve),
    ];
    prop::collection::vec(one, 1..6)
}

proptest! {
    /// Many rounds; in each, some leave, some join, perhaps the reserve changes; every moment is checked.
    #[test]
    fn no_cpu_is_ever_in_two_exclusive_sets(smt in 1u32..3, rounds in prop::collection::vec(churn(), 1..12)) {
        let topology = machine(2, 4, smt, 64);
        let mut policy = NodePolicy::default();
        policy.headroom.cpu = PerMille(0);
        policy.reserve.cpus = ReserveCpus::Count(1);
        let mut line = Line::fixed(&topology, 0, &policy);
        let mut allocation = Allocation::new(line.lendable.clone());
        let mut before = allocation.layout();
        for round in rounds {
            for churn in round {
                match churn {
                    Churn::Leave(number) => {
                        allocation.release(attempt(number));
                    }
                    Churn::Join(number, cpus) => {
                        let cpus = if cpus == 0 { CpuRequest::Shared(MilliCpu(100)) } else { CpuRequest::Exclusive(cpus) };
                        let request = WorkerRequest { cpus, memory: Bytes(1), gpus: 0 };
                        let machine = Machine { topology: &topology, line: &line, pinning: &Pinning::Cpuset };
                        // Refused or not: both must be safe.
                        let _ = allocation.grant(machine, attempt(number), Tier::Standard, &request);
                    }
                    Churn::Reserve(count) => {
                        policy.reserve.cpus = ReserveCpus::Count(count);
                        line = Line::fixed(&topology, 0, &policy);
                        let mut next = Allocation::new(line.lendable.clone());
                        for (attempt, holding) in allocation.holdings() {
                            next.restore(*attempt, holding.clone());
                        }
                        // Who shares an empty pool goes.
                        let stay = next.pool();
                        let holdings = next.holdings().clone();
                        for (attempt, holding) in holdings {
                            if stay.is_empty() && holding.grant == crate::allocation::Grant::Shared {
                                next.release(attempt);
                            }
                        }
                        allocation = next;
                    }
                }
            }
            let after = allocation.layout();
            // An attempt that left and came back within a round is another one in truth.
            let machine = Machine { topology: &topology, line: &line, pinning: &Pinning::Cpuset };
            prop_assert_eq!(check::allocation(machine, &allocation), Vec::<String>::new());
            match plan_transition(&before, &after) {
                Ok(steps) => prop_assert_eq!(replay(&before, &after, &steps), Vec::<String>::new()),
                Err(TransitionProblem::Swap(_)) => prop_assume!(false),
                Err(problem) => prop_assert!(false, "{problem}"),
            }
            before = after;
        }
    }

    /// Whatever the layouts, even ones that no allocation would give: a plan is safe, or there is none.
    #[test]
    fn any_two_sound_layouts(
        old in prop::collection::vec((0u32..4, 0u32..12), 12), new in prop::collection::vec((0u32..4, 0u32..12), 12),
    ) {
        let (old, new) = (sound(&old), sound(&new));
        prop_assert_eq!(check::layout(&old), Vec::<String>::new());
        // Only kinds that stay: a worker is exclusive for life.
        let same_kind = |(attempt, worker): (&AttemptId, &WorkerCpus)| {
            old.workers.get(attempt).is_none_or(|before| before.exclusive == worker.exclusive)
        };
        prop_assume!(new.workers.iter().all(same_kind));
        if let Ok(steps) = plan_transition(&old, &new) {
            prop_assert_eq!(replay(&old, &new, &steps), Vec::<String>::new());
            let rank = |step: &Step| match step {
                Step::Stop(_) => 0,
                Step::Shrink(..) => 1,
                Step::ShrinkSlices(_) | Step::GrowSlices(_) | Step::Grow(..) => 2,
                Step::Start(..) => 3,
            };
            prop_assert!(steps.windows(2).all(|pair| rank(&pair[0]) <= rank(&pair[1])));
        }
    }
}

/// A layout from noise: each CPU goes to the exclusive worker drawn for it, or to the pool that others share.
fn sound(noise: &[(u32, u32)]) -> CpuLayout {
    let mut layout = CpuLayout::default();
    let mut pool = CpuSet::new();
    for (cpu, (kind, worker)) in (0u32..).zip(noise) {
        layout.slices.insert(cpu);
        if *kind == 0 {
            let worker = attempt(u128::from(worker % 4));
            let cpus = layout.workers.entry(worker).or_insert(WorkerCpus {
                exclusive: true,
                cpus: CpuSet::new(),
            });
            cpus.cpus.insert(cpu);
        } else if *kind < 3 {
            pool.insert(cpu);
        }
    }
    for (_, worker) in noise.iter().filter(|(kind, _)| *kind == 1) {
        let cpus = pool.clone();
        layout.workers.insert(
            attempt(u128::from(100 + worker % 4)),
            WorkerCpus {
                exclusive: false,
                cpus,
            },
        );
    }
    layout
}
