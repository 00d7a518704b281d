//! What burst gets of the quota.

use super::*;
use crate::settings::{Limit, Slice, cpu_quota};

/// Production leaves 4000m, of which standard uses some.
const fn shared(standard: u64) -> Scene {
    Scene {
        production: 4_000,
        standard: Some(standard),
        ..CALM
    }
}

fn burst(decision: &Decision) -> Option<u64> {
    decision.setpoints.burst.map(|burst| burst.0)
}

#[test]
fn burst_gives_its_share_first() {
    let mut world = World::new();
    let calm = world.run(
        20,
        &Scene {
            standard: Some(2_000),
            ..CALM
        },
    );
    assert_eq!(
        (quota(&calm), burst(&calm)),
        (7_000, None),
        "at the static line nobody has to share"
    );
    let risen = world.run(10, &shared(2_000));
    assert_eq!((quota(&risen), burst(&risen)), (4_000, Some(2_000)));
    // Standard wants more than there is: burst is at its floor before standard gets less than it used.
    let full = world.run(20, &shared(4_500));
    assert_eq!((quota(&full), burst(&full)), (4_000, Some(50)));
    // Standard has gone: its part comes back as the quota does, 10 % of 10 CPUs a second, and is then no limit.
    let one = burst(&world.run(3, &shared(0))).unwrap();
    let two = burst(&world.run(1, &shared(0))).unwrap_or(4_000);
    assert!((500..=1_100).contains(&(two - one)), "{one} {two}");
    assert_eq!(burst(&world.run(20, &shared(0))), None);
}

#[test]
fn a_cut_is_burst_s_to_bear() {
    let mut world = World::new();
    world.run(20, &shared(2_000));
    let cut = world.look(
        100,
        &Scene {
            cpu_full: 30,
            ..shared(2_000)
        },
    );
    // 0.7 of 4000 is 2800; standard keeps its 2000.
    assert_eq!((quota(&cut), burst(&cut)), (2_800, Some(800)));
}

#[test]
fn without_a_figure_for_standard_burst_has_what_all_have() {
    let mut world = World::new();
    let decision = world.run(
        20,
        &Scene {
            standard: None,
            ..shared(0)
        },
    );
    assert_eq!((quota(&decision), burst(&decision)), (4_000, None));
}

#[test]
fn the_slice_gets_it_unless_it_is_squeezed() {
    let set = |squeezed| Setpoints {
        cpu: Some(MilliCpu(4_000)),
        burst: Some(MilliCpu(815)),
        squeezed,
        ..Setpoints::default()
    };
    let of = |slice, squeezed| cpu_quota(slice, MilliCpu(7_000), &set(squeezed));
    assert_eq!(of(Slice::Burst, Squeezed::No), Limit::At(MilliCpu(810)));
    assert_eq!(of(Slice::Standard, Squeezed::No), Limit::Max);
    assert_eq!(of(Slice::Burst, Squeezed::Burst), Limit::At(QUOTA_FLOOR));
}
