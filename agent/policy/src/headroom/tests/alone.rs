//! Waits of production's own, which it has with lent work as without.

use super::*;

/// Production waits for a quarter of the time, whatever lent work does.
const BUSY: Scene = Scene { cpu_some: 25, ..CALM };
/// The same with lent work out.
const BUSY_ALONE: Scene = Scene { lent: 0, ..BUSY };

/// A law that has seen production alone for so long.
fn knowing(tenths: usize) -> World {
    let mut world = World::new();
    (0..tenths).for_each(|_| {
        world.look(100, &BUSY_ALONE);
    });
    world
}

#[test]
fn as_long_as_by_itself_is_not_bad_and_longer_is() {
    for (cpu_some, level) in [(25, Level::Open), (40, Level::Shrink)] {
        let mut world = knowing(60);
        world.run(2, &BUSY);
        assert_eq!(
            world.look(100, &Scene { cpu_some, ..BUSY }).level,
            level,
            "{cpu_some} ms"
        );
    }
}

#[test]
fn two_seconds_alone_are_known_and_less_is_not() {
    for (tenths, level) in [(19, Level::Shrink), (20, Level::Open)] {
        assert_eq!(knowing(tenths).look(100, &BUSY).level, level, "{tenths}");
    }
}

#[test]
fn it_is_known_of_this_use_and_of_more_but_not_of_less() {
    for (production, bad) in [(1_000, false), (3_500, false), (400, true)] {
        let reason = knowing(60).look(100, &Scene { production, ..BUSY }).reason;
        assert_eq!(
            matches!(reason, Reason::CpuStall(_)),
            bad,
            "{production}m: {reason:?}"
        );
    }
}

#[test]
fn waits_that_vary_by_themselves_are_given_room_to() {
    let mut world = World::new();
    let alone = |cpu_some| Scene {
        cpu_some,
        ..BUSY_ALONE
    };
    for wait in [5, 20, 35, 20].into_iter().cycle().take(120) {
        world.look(100, &alone(wait));
    }
    // Mean 20, mean distance from it about 8 ms.
    assert_eq!(
        world.clone().look(100, &Scene { cpu_some: 40, ..BUSY }).level,
        Level::Open
    );
    assert_eq!(
        world.look(100, &Scene { cpu_some: 70, ..BUSY }).level,
        Level::Shrink
    );
}

#[test]
fn a_long_wait_that_comes_again_is_a_habit_and_a_lasting_one_shows_by_its_sum() {
    let alone = |cpu_some| Scene {
        cpu_some,
        ..BUSY_ALONE
    };
    // One tenth in fifty is as bad as half of it: by mean and spread alone, of 1 ms and 2 ms, every one would be a cut.
    let rare = [50].into_iter().chain([0; 49]).cycle();
    let mut world = World::new();
    for wait in rare.clone().take(500) {
        world.look(100, &alone(wait));
    }
    let levels: Vec<Level> = rare
        .take(600)
        .map(|cpu_some| world.look(100, &Scene { cpu_some, ..BUSY }).level)
        .collect();
    assert_eq!(levels.iter().max(), Some(&Level::Open));
    // What is never so long and always there shows within a second.
    let lasting = Scene { cpu_some: 21, ..BUSY };
    let first = (1..=10).find(|_| world.look(100, &lasting).level == Level::Shrink);
    assert!(first.is_some(), "seen within a second");
}

#[test]
fn what_is_not_known_is_learnt_at_the_floor_and_lent_work_comes_back() {
    let mut world = World::new();
    // Lent work uses all it gets.
    let mut last = quota(&world.look(100, &BUSY));
    let quotas: Vec<u64> = (0..600)
        .map(|_| {
            last = quota(&world.look(100, &Scene { lent: last, ..BUSY }));
            last
        })
        .collect();
    assert_eq!(quotas.iter().min(), Some(&BOUNDS.floor.0), "it was cut");
    // A hold of 10 s, then seven tenths of what there was at 10 % a second, the rest at 2 %.
    let back = quotas.iter().rposition(|quota| *quota < 4_900).unwrap();
    assert!((150..190).contains(&back), "{back}");
    assert_eq!(last, BOUNDS.most.0);
    assert!(quotas[back..].is_sorted(), "it stays");
}

#[test]
fn an_hour_later_it_has_to_be_learnt_anew() {
    for (hours, level) in [(0, Level::Open), (1, Level::Shrink)] {
        let mut world = knowing(60);
        (0..hours * 3_600).for_each(|_| {
            world.look(1_000, &CALM);
        });
        assert_eq!(world.look(100, &BUSY).level, level, "after {hours} h");
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
    let levels = [34, 36].map(|cpu_some| small.clone().look(100, &Scene { cpu_some, ..scene }).level);
    assert_eq!(levels, [Level::Open, Level::Shrink]);
}
