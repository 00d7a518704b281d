//! What lent work may read and write in a second.

use super::*;

const MIB: u64 = 1 << 20;

/// Lent work reads and writes 40 MiB a second each.
const BUSY: Scene = Scene {
    io: Some(40 << 10),
    ..CALM
};
const WAITING: Scene = Scene { io_full: 10, ..BUSY };

fn rate(decision: &Decision) -> Option<u64> {
    decision.setpoints.io.map(|io| io.0 / MIB)
}

#[test]
fn a_stall_halves_it_each_second_and_leaves_the_cpus_alone() {
    let mut world = World::new();
    assert_eq!(rate(&world.run(20, &BUSY)), None);
    let stalled: Vec<Decision> = (0..12).map(|_| world.look(100, &WAITING)).collect();
    let rates: Vec<Option<u64>> = stalled.iter().map(rate).collect();
    assert_eq!(rates[..2], [None, Some(20)], "judged by two looks");
    assert_eq!(rates[10], Some(20));
    // 40 were used still, as nothing throttled them here: half of the limit all the same.
    assert_eq!(rates[11], Some(10));
    assert!(
        stalled.iter().all(|one| quota(one) == 7_000),
        "the disk's limit answers"
    );
    assert_eq!(stalled[1].level, Level::Shrink);
    assert!(stalled.iter().all(|one| one.setpoints.squeezed == Squeezed::No));
}

#[test]
fn at_the_floor_the_ladder_takes_over() {
    let mut world = World::new();
    let little = Scene {
        io: Some(1 << 10),
        ..WAITING
    };
    world.run(20, &Scene { io_full: 0, ..little });
    let last = world.run(2, &little);
    assert_eq!((rate(&last), last.level), (Some(1), Level::Squeeze));
}

#[test]
fn it_grows_by_a_tenth_in_five_seconds_and_goes_when_nobody_meets_it() {
    let mut world = World::new();
    world.run(20, &BUSY);
    world.look(100, &WAITING);
    assert_eq!(rate(&world.look(100, &WAITING)), Some(20));
    // A hold of 10 s, then 4 MiB/s every 5 s.
    let held = Scene {
        io: Some(20 << 10),
        ..CALM
    };
    assert_eq!(rate(&world.run(14, &held)), Some(20));
    assert_eq!(rate(&world.run(2, &held)), Some(24));
    assert_eq!(rate(&world.run(10, &held)), Some(32));
    // At twice of what is used for 30 s it is none any more.
    let rest = Scene {
        io: Some(5 << 10),
        ..CALM
    };
    assert!(rate(&world.run(25, &rest)).is_some());
    assert_eq!(rate(&world.run(10, &rest)), None);
}

#[test]
fn who_does_not_use_the_disk_is_not_the_cause() {
    let mut world = World::new();
    let idle = Scene {
        io: Some(100),
        io_full: 90,
        ..CALM
    };
    let all: Vec<Decision> = (0..300).map(|_| world.look(100, &idle)).collect();
    assert!(
        all.iter()
            .all(|one| one.level == Level::Open && rate(one).is_none())
    );
    // Written back by the kernel: no CPU of its own.
    let writeback = Scene { lent: 0, ..WAITING };
    world.look(100, &writeback);
    assert!(rate(&world.look(100, &writeback)).is_some());
}

#[test]
fn without_a_count_of_it_the_cpus_answer_as_ever() {
    let mut world = World::new();
    world.run(20, &CALM);
    let waiting = Scene { io_full: 10, ..CALM };
    let all: Vec<Decision> = (0..2).map(|_| world.look(100, &waiting)).collect();
    assert_eq!((rate(&all[1]), quota(&all[1])), (None, 4_900));
}

#[test]
fn a_limit_goes_once_nobody_can_say_whether_it_is_met() {
    let mut world = World::new();
    world.run(20, &BUSY);
    world.look(100, &WAITING);
    assert_eq!(rate(&world.look(100, &WAITING)), Some(20));
    // Its disks go by weight from now on.
    assert_eq!(rate(&world.run(29, &CALM)), Some(20));
    assert_eq!(rate(&world.run(2, &CALM)), None);
    // And it begins anew where they do not any more.
    assert_eq!(rate(&world.run(20, &BUSY)), None);
    let stalled: Vec<Decision> = (0..12).map(|_| world.look(100, &WAITING)).collect();
    assert!(stalled.iter().any(|one| rate(one) == Some(20)), "{stalled:?}");
}
