//! Stalls that lent work has nothing to do with.

use super::*;

const STALLED: Scene = Scene { cpu_full: 25, ..CALM };

#[test]
fn stalls_that_do_not_fall_are_productions_own() {
    let mut world = World::new();
    world.run(20, &CALM);
    world.run(6, &STALLED);
    // Three checks of 2 s; then stalls count no more, and after the hold lent work grows back in spite of them.
    world.run(1, &STALLED);
    let held = world.look(100, &STALLED);
    assert_eq!(held.reason, Reason::Backoff);
    let grown = world.run(50, &STALLED);
    assert_eq!((grown.level, grown.reason), (Level::Open, Reason::Calm));
    assert!(quota(&grown) > 6_000);
    // After 60 s it is tried again.
    let tried = (0..100)
        .map(|_| world.look(100, &STALLED))
        .find(|decision| decision.level == Level::Shrink);
    assert!(matches!(tried.expect("a new trial").reason, Reason::CpuStall(_)));
}

#[test]
fn use_promises_and_memory_still_count_then() {
    let mut muted = World::new();
    muted.run(20, &CALM);
    muted.run(30, &STALLED);
    let cases = [
        (
            Scene {
                slo: Slo::Slack(-1),
                ..STALLED
            },
            Level::Squeeze,
        ),
        (
            Scene {
                slo: Slo::Slack(10),
                ..STALLED
            },
            Level::Shrink,
        ),
        (
            Scene {
                memory: Some(Bytes(1)),
                ..STALLED
            },
            Level::Evict,
        ),
    ];
    for (scene, level) in cases {
        assert_eq!(muted.clone().look(100, &scene).level, level);
    }
    let risen = Scene {
        production: 8_000,
        ..STALLED
    };
    (0..2).for_each(|_| assert!(quota(&muted.look(100, &risen)) > 500));
    assert_eq!(quota(&muted.look(100, &risen)), 500);
    assert_eq!(muted.run(10, &risen).level, Level::Squeeze);
}

/// For how long stalls that never end do not count, in seconds, each time they are found production's own.
fn mutes(world: &mut World, scene: &Scene, tenths: usize) -> Vec<usize> {
    let counts: Vec<bool> = (0..tenths)
        .map(|_| {
            matches!(
                world.look(100, scene).reason,
                Reason::CpuStall(_) | Reason::IoStall(_)
            )
        })
        .collect();
    let pauses = counts.chunk_by(|one, other| one == other);
    pauses
        .filter(|run| !run[0] && run.len() > 300)
        .map(|run| run.len() / 10)
        .collect()
}

#[test]
fn each_time_in_vain_it_is_left_alone_for_twice_as_long() {
    let mut world = World::new();
    world.run(20, &CALM);
    let found = mutes(&mut world, &STALLED, 24_000);
    assert_eq!(found[..6], [60, 120, 240, 480, 480, 480], "{found:?}");
    // A cut that helps: the next time it is tried again after a minute.
    world.run(500, &CALM);
    world.look(100, &STALLED);
    world.run(5, &CALM);
    let again = mutes(&mut world, &STALLED, 1_000);
    assert!(again[0].abs_diff(60) <= 1, "{again:?}");
}

#[test]
fn a_slow_disk_of_production_s_own_hides_no_wait_for_cpus() {
    let mut world = World::new();
    let slow = Scene {
        io_full: 20,
        io: Some(40 << 10),
        ..CALM
    };
    world.run(20, &slow);
    let still = world.run(2, &slow);
    assert!(
        !matches!(still.reason, Reason::IoStall(_)),
        "muted by now: {still:?}"
    );
    world.look(100, &Scene { cpu_full: 40, ..slow });
    let reason = world.look(100, &Scene { cpu_full: 40, ..slow }).reason;
    assert!(matches!(reason, Reason::CpuStall(_)), "{reason:?}");
}

#[test]
fn stalls_that_end_with_the_cut_stay_lent_works_own() {
    // Each time lent work is back, production stalls until both tiers are squeezed: six times over, it still counts.
    let mut world = World::new();
    world.run(20, &CALM);
    for _ in 0..6 {
        let first = world.look(100, &STALLED);
        assert!(matches!(first.reason, Reason::CpuStall(_)), "{first:?}");
        for _ in 0..4 {
            world.look(100, &STALLED);
        }
        world.run(40, &Scene { lent: 500, ..CALM });
    }
}
