//! Looks that see nothing, too much at once, or another policy.

use super::*;

/// A quota below the static line that would grow if it could.
fn growing() -> World {
    let mut world = World::new();
    world.run(
        20,
        &Scene {
            production: 6_000,
            ..CALM
        },
    );
    world.run(15, &CALM);
    assert_eq!(world.look(100, &CALM).level, Level::Open);
    world
}

#[test]
fn missing_figures_neither_grow_nor_shrink() {
    let mut world = growing();
    let before = world.law.clone().step(&world.next(100, &CALM)).setpoints;
    for blank in [
        |sample: &mut Sample| sample.cpu_units = None,
        |sample: &mut Sample| sample.cpu_lent = None,
    ] {
        let mut law = world.law.clone();
        let mut sample = world.sample;
        for _ in 0..300 {
            let mut shown = world.next(
                100,
                &Scene {
                    production: 9_000,
                    cpu_full: 90,
                    ..CALM
                },
            );
            shown.now = sample.now.plus(Span::from_millis(100));
            sample = shown;
            blank(&mut shown);
            let blind = law.step(&shown);
            assert_eq!((blind.level, blind.reason), (Level::Hold, Reason::Blind));
            assert!(blind.setpoints.cpu <= before.cpu && blind.setpoints.squeezed == Squeezed::No);
        }
        // Two readings are needed again.
        assert_eq!(law.step(&sample).reason, Reason::Blind);
    }
    assert_eq!(world.look(100, &CALM).level, Level::Open);
}

#[test]
fn what_no_unit_accounts_for_is_production_s() {
    let mut world = World::new();
    world.run(20, &CALM);
    for _ in 0..100 {
        let mut shown = world.next(100, &CALM);
        // Kernel threads and interrupts, on a CPU and a half.
        shown.cpu_all = shown.cpu_all.map(|all| all.plus(Span::from_millis(150)));
        world.sample = shown;
        world.law.step(&shown);
    }
    let decision = world.look(100, &CALM);
    let all = CALM.production + 1_500;
    assert!((all - 50..=all).contains(&decision.production.0), "{decision:?}");
}

#[test]
fn a_slice_made_anew_is_one_blind_look() {
    let mut world = growing();
    world.sample.cpu_lent = Some(Span::from_secs(9_000_000));
    let before = quota(&world.law.step(&world.sample));
    world.sample.cpu_lent = Some(Span::ZERO);
    let blind = world.look(100, &CALM);
    assert_eq!((blind.reason, quota(&blind)), (Reason::Blind, before));
    assert_eq!(world.look(100, &CALM).reason, Reason::Calm);
}

#[test]
fn a_stall_that_is_not_counted_is_not_bad_and_blinds_nobody() {
    let mut world = growing();
    world.sample.stalls = Stalls::default();
    let stalled = Scene {
        cpu_full: 90,
        memory_full: 90,
        io_full: 90,
        ..CALM
    };
    assert_eq!(world.run(20, &stalled).reason, Reason::Calm);
    // A cgroup made anew: less than before.
    world.sample.stalls.cpu_full = Some(Span::from_secs(100));
    world.look(100, &CALM);
    world.sample.stalls.cpu_full = Some(Span::ZERO);
    assert_eq!(world.look(100, &CALM).reason, Reason::Calm);
}

#[test]
fn a_blind_look_still_sees_memory_and_promises() {
    let mut world = growing();
    world.sample.cpu_units = None;
    let low = Scene {
        memory: Some(Bytes(1)),
        ..CALM
    };
    assert_eq!(world.look(100, &low).level, Level::Evict);
    let missed = world.look(
        100,
        &Scene {
            slo: Slo::Slack(-5),
            ..CALM
        },
    );
    assert_eq!(
        (missed.level, missed.reason),
        (Level::Squeeze, Reason::SloSlack(-5))
    );
    let after = world.look(100, &CALM);
    // What is squeezed stays so, and is said.
    assert_eq!((after.level, after.reason), (Level::Squeeze, Reason::Blind));
    assert_ne!(after.setpoints.squeezed, Squeezed::No);
}

#[test]
fn a_clock_that_stands_still_gives_nothing() {
    let mut world = growing();
    let before = quota(&world.look(100, &CALM));
    for _ in 0..1_000 {
        let still = world.look(0, &CALM);
        assert!(quota(&still) <= before);
    }
    // Nor does one that goes back.
    world.sample.now = Span::from_secs(3);
    let back = world.law.step(&world.sample);
    assert_eq!((back.reason, quota(&back)), (Reason::Blind, before));
}

#[test]
fn close_looks_are_put_together() {
    let mut world = World::new();
    world.run(10, &CALM);
    // Counters are written in ticks: 4 ms of CPU within 1 ms say nothing about 100 ms.
    world.sample.cpu_units = world
        .sample
        .cpu_units
        .map(|used| used.plus(Span::from_millis(200)));
    let soon = world.look(1, &CALM);
    assert_eq!(soon.production, MilliCpu(1_000));
    let later = world.look(99, &CALM);
    // 3000m over 100 ms: (1000 × 10 + 3000) / 11 = 1181.8; 2000m of them are the headroom's to bear.
    assert_eq!(later.production, MilliCpu(1_182));
}

#[test]
fn a_huge_gap_grows_by_one_second() {
    let mut world = growing();
    let before = quota(&world.look(100, &CALM));
    let after = world.look(3_600_000, &CALM);
    assert!(
        (before..=before + 300).contains(&quota(&after)),
        "{before} {after:?}"
    );
    // And what it showed is believed: a busy hour is a busy window.
    let busy = world.look(
        3_600_000,
        &Scene {
            production: 6_000,
            ..CALM
        },
    );
    assert_eq!(quota(&busy), 2_000);
}

#[test]
fn a_new_policy_shrinks_at_once_and_grows_slowly() {
    let mut world = World::new();
    world.run(20, &CALM);
    let less = Bounds {
        most: MilliCpu(4_000),
        headroom: MilliCpu(5_000),
        ..BOUNDS
    };
    world.law.rebound(less);
    world.sample = world.next(100, &CALM);
    assert_eq!(world.law.step(&world.sample).setpoints.cpu, None);
    world.law.rebound(BOUNDS);
    let first = world.look(100, &CALM);
    assert!((4_000..=4_100).contains(&quota(&first)), "{first:?}");
    assert!(quota(&world.run(1, &CALM)) <= 5_100);
}
