//! What lent work may hold, against figures worked out by hand: 10 GiB, 8 of them lendable, 1 kept free.

use super::*;

const MIB: u64 = 1 << 20;

/// Lent work holds so much, and so much is left, in MiB.
const fn memory(held: u64, left: u64) -> Scene {
    Scene {
        memory: Some(Bytes(left * MIB)),
        held: Some(Bytes(held * MIB)),
        ..CALM
    }
}

fn high(decision: &Decision) -> Option<u64> {
    decision.setpoints.memory_high.map(|high| high.0 / MIB)
}

#[test]
fn lent_work_may_hold_what_production_leaves() {
    let mut world = World::new();
    let cases = [
        // 2 + 7 − 1 GiB are the static line.
        ((2048, 7168), (None, 0, Level::Open)),
        // Production took 2 GiB: nothing is short, but no more than 6 may be held.
        ((2048, 5120), (Some(6144), 0, Level::Open)),
        // Lent work takes them all: the same limit, and just enough is left.
        ((6144, 1024), (Some(6144), 0, Level::Open)),
        // Production takes 40 MiB more: these are short, and taken back.
        ((6144, 984), (Some(6096), 40, Level::Shrink)),
        // And 300 more: a bite at a time.
        ((6144, 684), (Some(6080), 64, Level::Shrink)),
        ((6080, 748), (Some(6016), 64, Level::Shrink)),
    ];
    for ((held, left), (limit, taken, level)) in cases {
        let decision = world.look(100, &memory(held, left));
        assert_eq!(
            (high(&decision), decision.reclaim.0 / MIB, decision.level),
            (limit, taken, level),
            "{held} held, {left} left"
        );
    }
}

#[test]
fn it_is_back_slowly() {
    let mut world = World::new();
    world.look(100, &memory(6144, 1024));
    let first = high(&world.look(100, &memory(2048, 7400)));
    assert_eq!(first, Some(6144));
    // 2 % of 10 GiB a second: 1 GiB in 5 s.
    let later = high(&world.run(5, &memory(2048, 7400))).unwrap();
    assert!((7000..=7168).contains(&later), "{later}");
    assert_eq!(high(&world.run(6, &memory(2048, 7400))), None);
}

#[test]
fn noise_at_the_top_is_answered_once() {
    let mut world = World::new();
    assert_eq!(high(&world.run(2, &memory(2048, 7168))), None);
    assert_eq!(high(&world.look(100, &memory(2048, 7160))), Some(8176));
    // Up again only with 1 % to spare.
    assert_eq!(high(&world.run(60, &memory(2048, 7200))), Some(8176));
    assert_eq!(high(&world.run(60, &memory(2048, 7300))), None);
}

/// Pages that CPUs have counted for themselves only: the sum is 40 MiB off now and then, also where that is much.
#[test]
fn noise_below_the_top_is_answered_once() {
    let small = Bounds {
        memory: Bytes::from_gib(2),
        memory_most: Bytes::from_mib(1536),
        memory_free: Bytes::from_mib(256),
        ..BOUNDS
    };
    let mut world = World::new();
    world.law = Law::new(small);
    world.look(100, &memory(256, 768));
    let told: Vec<_> = (0..100)
        .map(|look| high(&world.look(100, &memory(256, if look % 10 == 0 { 728 } else { 768 }))))
        .collect();
    assert!(
        told.iter().all(|high| *high == Some(720)),
        "in grains of 16 MiB: {told:?}"
    );
}

#[test]
fn nothing_is_taken_below_the_floor_nor_from_who_is_not_seen() {
    let mut world = World::new();
    let floor = (0..100)
        .map(|_| world.look(100, &memory(100, 10)))
        .next_back()
        .unwrap();
    assert_eq!((high(&floor), floor.reclaim.0 / MIB), (Some(64), 36));
    let gone = world.look(100, &memory(64, 10));
    assert_eq!((high(&gone), gone.reclaim), (Some(64), Bytes::ZERO));
    let unseen = world.look(
        100,
        &Scene {
            held: None,
            ..memory(0, 10)
        },
    );
    assert_eq!((high(&unseen), unseen.reclaim), (Some(64), Bytes::ZERO));
}

#[test]
fn a_leak_meets_its_limit_before_anyone_has_to_go() {
    // 100 MB a second, until the kernel holds it at the limit of the last look.
    let mut world = World::new();
    let (mut held, mut levels) = (500, Vec::new());
    for _ in 0..1_000 {
        let decision = world.look(100, &memory(held, 7_000 - held));
        held = (held + 10).min(high(&decision).unwrap_or(8_192));
        levels.push(decision.level);
    }
    assert!(levels.iter().all(|level| *level < Level::Squeeze));
    assert!((5_900..=5_976).contains(&held), "{held} of 7000 − 1024");
}
