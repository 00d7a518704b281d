mod disks;
mod memory;
mod others;
mod pace;
mod plant;
mod properties;
mod relief;
mod share;
mod sight;
mod tasks;
mod window;

use super::*;
use crate::node_policy::{NodePolicy, ReserveMemory};
use crate::sample::machine;
use crate::settings::Squeezed;

/// 10 CPUs, 1 reserved, 20 % kept idle: at most 7000m, at least 500m; 10 GiB, 1 GiB of them kept free.
pub(super) const BOUNDS: Bounds = Bounds {
    capacity: MilliCpu(10_000),
    reserve: MilliCpu(1_000),
    headroom: MilliCpu(2_000),
    most: MilliCpu(7_000),
    floor: MilliCpu(500),
    memory: Bytes::from_gib(10),
    memory_most: Bytes::from_gib(8),
    memory_free: Bytes::from_gib(1),
};

/// What goes on between two looks: CPU in thousandths of a thread, stalls as ms in each 100 ms.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scene {
    pub(super) production: u64,
    pub(super) lent: u64,
    pub(super) cpu_full: u64,
    pub(super) memory_full: u64,
    pub(super) io_full: u64,
    pub(super) memory: Option<Bytes>,
    pub(super) slo: Slo,
    /// The part of `lent` that is of the standard tier; none: not known.
    pub(super) standard: Option<u64>,
    /// What lent work reads and writes, each, in KiB a second; none: no io controller.
    pub(super) io: Option<u64>,
    pub(super) held: Option<Bytes>,
}

/// Production well below its reserve, lent work busy, nothing wrong.
pub(super) const CALM: Scene = Scene {
    production: 1_000,
    lent: 3_000,
    cpu_full: 0,
    memory_full: 0,
    io_full: 0,
    memory: Some(Bytes::from_gib(5)),
    slo: Slo::None,
    standard: None,
    io: None,
    held: None,
};

/// What Loadline's own programs use: a quarter of a CPU, which must show nowhere.
const OWN: u64 = 250;

/// A machine whose counters run, and the law that looks at it.
#[derive(Debug, Clone)]
pub(super) struct World {
    pub(super) law: Law,
    pub(super) sample: Sample,
}

impl World {
    pub(super) fn new() -> Self {
        let zero = Some(Span::ZERO);
        let sample = Sample {
            now: Span::from_secs(1000),
            cpu_all: zero,
            cpu_units: zero,
            cpu_lent: zero,
            cpu_own: Span::ZERO,
            cpu_standard: zero,
            io_lent: Some(Transferred::default()),
            memory_lent: None,
            tasks_lent: None,
            stalls: Stalls {
                cpu_full: zero,
                memory_full: zero,
                io_full: zero,
            },
            memory_available: CALM.memory,
            slo: Slo::None,
        };
        let mut law = Law::new(BOUNDS);
        let first = law.step(&sample);
        assert_eq!((first.level, first.reason), (Level::Hold, Reason::Blind));
        assert_eq!(first.setpoints, Setpoints::default());
        Self { law, sample }
    }

    /// What the next look would show.
    pub(super) fn next(&self, ms: u64, scene: &Scene) -> Sample {
        let ran = |total: Option<Span>, mcpu: u64| total.map(|total| total.plus(Span(ms * mcpu)));
        let waited =
            |total: Option<Span>, per_tenth: u64| total.map(|total| total.plus(Span(ms * per_tenth * 10)));
        let (old, zero) = (&self.sample, Some(Span::ZERO));
        let moved = |bytes: u64| {
            let before = old.io_lent.unwrap_or_default();
            let more = |total: Bytes| total.plus(Bytes(bytes * 1024 / 1000));
            Transferred {
                read: more(before.read),
                written: more(before.written),
            }
        };
        Sample {
            now: old.now.plus(Span::from_millis(ms)),
            cpu_all: ran(old.cpu_all, scene.production + scene.lent + OWN),
            cpu_units: ran(old.cpu_units, scene.production + OWN),
            cpu_lent: ran(old.cpu_lent, scene.lent),
            cpu_own: old.cpu_own.plus(Span(ms * OWN)),
            cpu_standard: scene
                .standard
                .and_then(|mcpu| ran(old.cpu_standard.or(zero), mcpu)),
            io_lent: scene.io.map(|kib| moved(ms * kib)),
            memory_lent: scene.held,
            tasks_lent: old.tasks_lent,
            stalls: Stalls {
                cpu_full: waited(old.stalls.cpu_full, scene.cpu_full),
                memory_full: waited(old.stalls.memory_full, scene.memory_full),
                io_full: waited(old.stalls.io_full, scene.io_full),
            },
            memory_available: scene.memory,
            slo: scene.slo,
        }
    }

    pub(super) fn look(&mut self, ms: u64, scene: &Scene) -> Decision {
        self.sample = self.next(ms, scene);
        self.law.step(&self.sample)
    }

    /// Looks every 100 ms; the last decision.
    pub(super) fn run(&mut self, secs: u64, scene: &Scene) -> Decision {
        let mut last = self.look(100, scene);
        (1..secs * 10).for_each(|_| last = self.look(100, scene));
        last
    }
}

/// The quota, the static line where none is set.
pub(super) fn quota(decision: &Decision) -> u64 {
    decision.setpoints.cpu.map_or(BOUNDS.most.0, |quota| quota.0)
}

#[test]
fn bounds_of_a_line() {
    // 4 CPUs: 1 reserved, 20 % = 800m kept idle, 5 % = 200m always left.
    let line = Line::fixed(&machine(2, 2, 1, 4), 0, &NodePolicy::default());
    let bounds = Bounds::of(&line);
    assert_eq!((bounds.most, bounds.floor), (MilliCpu(2200), MilliCpu(200)));
    assert_eq!((bounds.reserve, bounds.headroom), (MilliCpu(1000), MilliCpu(800)));
    assert_eq!(bounds.memory_free, line.memory.headroom);
    // A large reserve is there to be used: it says nothing about what has to be free.
    let mut policy = NodePolicy::default();
    policy.reserve.memory = ReserveMemory::Share(PerMille(600));
    let large = Bounds::of(&Line::fixed(&machine(2, 2, 1, 4), 0, &policy));
    assert_eq!(large.memory_free, line.memory.headroom);
    policy.headroom.memory = PerMille(0);
    let none = Bounds::of(&Line::fixed(&machine(2, 2, 1, 4), 0, &policy));
    assert_eq!(none.memory_free, none.memory.share(PerMille(20)));
    // Everything is reserved: only what ending needs is left, and the static line speaks.
    let mut policy = NodePolicy::default();
    policy.headroom.cpu = PerMille(1000);
    let none = Bounds::of(&Line::fixed(&machine(2, 2, 1, 4), 0, &policy));
    assert_eq!((none.most, none.floor), (MilliCpu(0), MilliCpu(50)));
    let mut law = Law::new(none);
    assert_eq!(law.step(&Sample::default()).setpoints.cpu, None);
}

const fn with_slo(slo: Slo) -> Scene {
    Scene { slo, ..CALM }
}

const fn with_memory(memory: Bytes) -> Scene {
    Scene {
        memory: Some(memory),
        ..CALM
    }
}

const fn with_stalls(cpu_full: u64, memory_full: u64, lent: u64) -> Scene {
    Scene {
        cpu_full,
        memory_full,
        lent,
        ..CALM
    }
}

#[test]
fn each_reason_has_its_level() {
    let half = Bytes::from_mib(512);
    let less = Bytes(half.0 - 1);
    let quarter = Bytes::from_mib(256);
    let little = Bytes(quarter.0 - 1);
    let ms = Span::from_millis;
    let unseen = Scene { memory: None, ..CALM };
    let cases = [
        (CALM, Level::Open, Reason::Calm),
        (with_slo(Slo::Slack(100)), Level::Open, Reason::Calm),
        (with_slo(Slo::Slack(99)), Level::Hold, Reason::SloSlack(99)),
        (with_slo(Slo::Slack(50)), Level::Hold, Reason::SloSlack(50)),
        (with_slo(Slo::Slack(49)), Level::Shrink, Reason::SloSlack(49)),
        (with_slo(Slo::Slack(0)), Level::Shrink, Reason::SloSlack(0)),
        (with_slo(Slo::Slack(-1)), Level::Squeeze, Reason::SloSlack(-1)),
        (with_slo(Slo::Unknown), Level::Hold, Reason::SloUnknown),
        (with_stalls(9, 0, 3_000), Level::Open, Reason::Calm),
        (with_stalls(20, 0, 3_000), Level::Shrink, Reason::CpuStall(ms(20))),
        (with_stalls(0, 4, 3_000), Level::Open, Reason::Calm),
        (
            with_stalls(50, 5, 3_000),
            Level::Shrink,
            Reason::MemoryStall(ms(5)),
        ),
        // No lent work ran to speak of: 2 % of 10 CPUs.
        (with_stalls(50, 0, 200), Level::Open, Reason::Calm),
        (with_memory(half), Level::Open, Reason::Calm),
        (with_memory(less), Level::Squeeze, Reason::MemoryLow(less)),
        (with_memory(quarter), Level::Squeeze, Reason::MemoryLow(quarter)),
        (with_memory(little), Level::Evict, Reason::MemoryLow(little)),
        (unseen, Level::Open, Reason::Calm),
    ];
    for (scene, level, reason) in cases {
        let mut world = World::new();
        world.run(2, &CALM);
        let decision = world.look(100, &scene);
        assert_eq!((decision.level, decision.reason), (level, reason), "{scene:?}");
    }
}

#[test]
fn production_that_leaves_only_the_floor_for_long_squeezes() {
    for (production, squeezes, left) in [(7_400, false, 600), (7_500, true, 500)] {
        let mut world = World::new();
        world.run(2, &CALM);
        let scene = Scene { production, ..CALM };
        (0..2).for_each(|_| assert_eq!(world.look(100, &scene).level, Level::Shrink));
        let decision = world.look(100, &scene);
        assert_eq!(
            (decision.level, quota(&decision)),
            (Level::Shrink, left),
            "the quota does not wait"
        );
        assert_eq!(decision.reason, Reason::ProductionUse(MilliCpu(production)));
        let first = (4..300).find(|_| world.look(100, &scene).level == Level::Squeeze);
        assert_eq!(first, squeezes.then_some(100), "{production}");
    }
}

#[test]
fn what_use_squeezed_is_let_go_without_a_hold() {
    let mut world = World::new();
    let crowded = Scene {
        production: 7_500,
        ..CALM
    };
    assert_eq!(world.run(11, &crowded).setpoints.squeezed, Squeezed::All);
    // Two floors are left once the mean is below 7000: after twelve looks at 3000.
    let calmer = Scene {
        production: 3_000,
        ..CALM
    };
    let mut seen = |squeezed| (1..50).find(|_| world.look(100, &calmer).setpoints.squeezed == squeezed);
    assert_eq!(seen(Squeezed::Burst), Some(12));
    assert_eq!(seen(Squeezed::No), Some(10));
}

#[test]
fn a_spike_of_use_squeezes_nobody() {
    let mut world = World::new();
    let spike = Scene {
        production: 10_000,
        ..CALM
    };
    let levels = [&spike, &CALM].map(|scene| (0..70).map(|_| world.look(100, scene).level).max());
    assert!(
        levels[0] == Some(Level::Shrink) && levels[1] < Some(Level::Squeeze),
        "{levels:?}"
    );
}

#[test]
fn nobody_waited_for_lent_work_longer_than_it_ran() {
    for (lent, level) in [(190, Level::Open), (200, Level::Shrink)] {
        let mut world = World::new();
        world.law = Law::new(Bounds {
            capacity: MilliCpu(4_000),
            headroom: MilliCpu(800),
            most: MilliCpu(2_200),
            floor: MilliCpu(200),
            ..BOUNDS
        });
        world.run(2, &Scene { lent, ..CALM });
        let stalled = Scene {
            lent,
            cpu_full: 90,
            ..CALM
        };
        assert_eq!(world.look(100, &stalled).level, level, "{lent}m");
    }
}

#[test]
fn what_our_own_programs_may_have_caused_is_not_lent_work_s_doing() {
    let mut small = World::new();
    small.law = Law::new(Bounds {
        capacity: MilliCpu(2_000),
        reserve: MilliCpu(0),
        headroom: MilliCpu(400),
        most: MilliCpu(1_600),
        floor: MilliCpu(100),
        ..BOUNDS
    });
    let scene = Scene {
        production: 300,
        lent: 1_000,
        ..CALM
    };
    small.run(1, &scene);
    // Ours use 250m of 2 CPUs, 100m of them as every day: 15 ms of each tenth.
    let levels = [34, 36].map(|cpu_full| small.clone().look(100, &Scene { cpu_full, ..scene }).level);
    assert_eq!(levels, [Level::Open, Level::Shrink]);
}

#[test]
fn disks_are_judged_by_two_looks() {
    let mut world = World::new();
    world.run(2, &CALM);
    let slow = Scene { io_full: 10, ..CALM };
    let levels = [world.look(100, &slow), world.look(100, &slow)].map(|decision| decision.reason);
    assert_eq!(levels, [Reason::Calm, Reason::IoStall(Span::from_millis(10))]);
}

#[test]
fn squeezes_burst_first_then_all_and_gives_back_in_the_other_order() {
    let mut world = World::new();
    world.run(2, &CALM);
    let missed = Scene {
        slo: Slo::Slack(-100),
        ..CALM
    };
    let first = world.look(100, &missed);
    // 0.7 of 7000m; then nothing until the ladder is climbed.
    assert_eq!(
        (first.setpoints.squeezed, quota(&first)),
        (Squeezed::Burst, 4_900)
    );
    let mut seen = Vec::new();
    for _ in 0..3 {
        let decision = world.look(100, &missed);
        seen.push((decision.setpoints.squeezed, quota(&decision)));
    }
    assert_eq!(
        seen,
        [
            (Squeezed::Burst, 4_900),
            (Squeezed::Burst, 4_900),
            (Squeezed::All, 500)
        ]
    );
    let mut given_back = Vec::new();
    for tenths in 1..=150 {
        let decision = world.look(100, &CALM);
        assert_eq!(
            decision.level >= Level::Squeeze,
            decision.setpoints.squeezed != Squeezed::No
        );
        if given_back
            .last()
            .is_none_or(|(_, last)| *last != decision.setpoints.squeezed)
        {
            given_back.push((tenths, decision.setpoints.squeezed));
        }
    }
    assert_eq!(
        given_back,
        [(1, Squeezed::All), (100, Squeezed::Burst), (110, Squeezed::No)]
    );
}

#[test]
fn bad_a_third_time_within_half_a_second_each_squeezes() {
    let stalled = Scene { cpu_full: 20, ..CALM };
    for (apart, level) in [(1, Level::Squeeze), (5, Level::Squeeze), (6, Level::Shrink)] {
        let mut world = World::new();
        world.run(2, &CALM);
        for cut in 1..=3 {
            let expected = if cut == 3 { level } else { Level::Shrink };
            assert_eq!(world.look(100, &stalled).level, expected, "{cut}, {apart} apart");
            (1..apart).for_each(|_| assert!(world.look(100, &CALM).level >= Level::Hold));
        }
    }
}

#[test]
fn an_early_look_neither_exaggerates_a_stall_nor_counts_it_twice() {
    let mut world = World::new();
    world.run(2, &CALM);
    // 15 ms in 25 ms are less than the 16 that are bad in 80 ms or less; with 15 more it is bad, once.
    let stalled = Scene { cpu_full: 60, ..CALM };
    assert_eq!(world.look(25, &stalled).level, Level::Open);
    assert_eq!(world.look(25, &stalled).level, Level::Shrink);
    let after = [world.look(50, &CALM), world.look(100, &CALM)];
    assert!(
        after.iter().all(|decision| decision.level == Level::Hold),
        "{after:?}"
    );
}

#[test]
fn evicts_when_squeezing_was_in_vain() {
    let mut world = World::new();
    world.run(2, &CALM);
    let missed = Scene {
        slo: Slo::Slack(-7),
        ..CALM
    };
    assert_eq!(world.run(30, &missed).level, Level::Squeeze);
    let last = world.run(1, &missed);
    assert_eq!((last.level, last.reason), (Level::Evict, Reason::SloSlack(-7)));
    // Met again: no reason to go any more, and the hold begins.
    let after = world.look(
        100,
        &Scene {
            slo: Slo::Slack(500),
            ..CALM
        },
    );
    assert_eq!((after.level, after.reason), (Level::Squeeze, Reason::Backoff));
}

#[test]
fn evicts_when_production_waits_for_memory_too_long() {
    let mut world = World::new();
    world.run(10, &CALM);
    // 6 % of the time, by idle lent work that holds memory: 500 ms are exceeded in the 84th look.
    let thrashing = Scene {
        memory_full: 6,
        lent: 0,
        memory: Some(Bytes::from_mib(1023)),
        ..CALM
    };
    assert_eq!(world.run(8, &thrashing).level, Level::Open);
    let last = world.run(1, &thrashing);
    assert!(matches!(
        (last.level, last.reason),
        (Level::Evict, Reason::MemoryStall(_))
    ));
}

#[test]
fn production_that_stalls_at_its_own_limit_costs_nobody_his_place() {
    let mut world = World::new();
    world.run(10, &CALM);
    let own_limit = Scene {
        memory_full: 60,
        lent: 0,
        ..CALM
    };
    assert!((0..300).all(|_| world.look(100, &own_limit).level < Level::Evict));
}
