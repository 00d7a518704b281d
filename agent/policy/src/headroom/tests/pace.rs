//! How fast what was taken comes back: growth, hold, deadband, against figures worked out by hand.

use super::*;

#[test]
fn a_step_of_production_is_answered_within_three_looks() {
    let mut world = World::new();
    let using = |production| Scene { production, ..CALM };
    // 10 000 − 3000 − 2000.
    assert_eq!(quota(&world.run(20, &using(3_000))), 5_000);
    // Beyond the headroom at once, all of it in the third look.
    let risen = using(7_000);
    assert!(quota(&world.look(100, &risen)) <= 3_000);
    world.look(100, &risen);
    let third = world.look(100, &risen);
    assert_eq!((quota(&third), third.level), (1_000, Level::Shrink));
    (0..100).for_each(|_| assert!(quota(&world.look(100, &risen)) <= 1_000));
}

#[test]
fn a_rise_just_before_a_look_is_looked_at_again_before_a_tick_is_over() {
    let mut world = World::new();
    let using = |production| Scene { production, ..CALM };
    world.run(20, &using(5_000));
    let waits = Scene {
        cpu_full: 20,
        ..using(5_000)
    };
    for _ in 0..2 {
        world.look(100, &waits);
    }
    let held = world.look(100, &using(5_000));
    assert!((700..=1_500).contains(&quota(&held)) && !held.rises, "{held:?}");
    // All of the machine for a fifth of a tick: less is left than before, but still more than lent work has.
    let seen = world.look(100, &using(6_000));
    assert_eq!((quota(&seen), seen.rises), (quota(&held), true), "{seen:?}");
    let mut other = world.clone();
    let gone_on = world.look(45, &using(10_000));
    assert_eq!((quota(&gone_on), gone_on.rises), (500, false), "{gone_on:?}");
    // What does not go on takes nothing, and the next look can wait.
    let over = other.look(45, &using(5_000));
    assert!(!over.rises && quota(&over) >= quota(&seen), "{over:?}");
}

#[test]
fn a_rise_is_nobody_s_concern_while_lent_work_has_nothing_to_give() {
    let mut world = World::new();
    let using = |production| Scene { production, ..CALM };
    world.run(20, &using(8_000));
    let seen = world.look(100, &using(9_500));
    assert_eq!((quota(&seen), seen.rises), (500, false), "{seen:?}");
}

#[test]
fn one_spike_costs_what_it_is_beyond_the_headroom() {
    for (spike, left) in [(5_000, 4_600..=4_850), (7_000, 2_950..=3_050)] {
        let mut world = World::new();
        let using = |production| Scene { production, ..CALM };
        world.run(20, &using(3_000));
        let during = quota(&world.look(100, &using(spike)));
        assert!(left.contains(&during), "{spike}: {during}");
        let after = quota(&world.look(100, &using(3_000)));
        assert!(after >= during, "{spike}: {after}");
    }
}

#[test]
fn of_production_that_had_all_there_was_everything_counts_at_once() {
    let mut world = World::new();
    let using = |production| Scene { production, ..CALM };
    world.run(20, &using(3_000));
    // Nine tenths of what Loadline's own 250m leave are 8775m: below, what goes beyond the headroom.
    let mut other = world.clone();
    assert!((1_250..=1_350).contains(&quota(&other.look(100, &using(8_700)))));
    assert_eq!(quota(&world.look(100, &using(8_800))), 500);
}

#[test]
fn what_production_used_comes_back_at_ten_percent_a_second() {
    let mut world = World::new();
    world.run(
        20,
        &Scene {
            production: 6_500,
            ..CALM
        },
    );
    // When a quarter of the 10 s is left of it, the percentile has forgotten.
    let mut before = quota(&world.run(8, &CALM));
    for _ in 0..3 {
        let now = quota(&world.run(1, &CALM));
        assert_eq!(now - before, 1_000);
        before = now;
    }
    assert_eq!(world.run(5, &CALM).setpoints.cpu, None);
}

#[test]
fn near_to_what_production_suffered_from_growth_is_two_percent_a_second() {
    let mut world = World::new();
    world.run(2, &CALM);
    world.look(100, &Scene { cpu_full: 20, ..CALM });
    let mut before = quota(&world.run(10, &CALM));
    for _ in 0..3 {
        let now = quota(&world.run(1, &CALM));
        assert_eq!(now - before, 200);
        before = now;
    }
    // In odd intervals no remainder is lost: 35 × 143 ms and a second are 6.005 s, of 200m each; a step of
    // 100m of it may still be to come, or have been.
    for _ in 0..35 {
        world.look(143, &CALM);
    }
    let now = quota(&world.run(1, &CALM));
    assert!((1_102..=1_300).contains(&(now - before)), "{}", now - before);
    assert_eq!(world.run(40, &CALM).setpoints.cpu, None);
}

#[test]
fn once_as_much_is_lent_again_without_harm_growth_is_careful_no_more() {
    // Within two minutes of the stall, which was at 7000m, of which 4900m were left.
    for (calm_for, is_careful) in [(15, true), (22, false)] {
        let mut world = World::new();
        world.run(2, &CALM);
        world.look(100, &Scene { cpu_full: 20, ..CALM });
        world.run(calm_for, &CALM);
        // Another reason to have less for a while: production's use leaves 5000m.
        let using = Scene {
            production: 3_000,
            ..CALM
        };
        assert_eq!(quota(&world.run(12, &using)), 5_000);
        // The percentile forgets it in about seven of the ten seconds; 2 or 10 % of the machine a second are grown in the rest.
        let grown = quota(&world.run(10, &CALM)) - 5_000;
        assert_eq!(grown < 1_000, is_careful, "{calm_for} s: {grown}");
    }
}

#[test]
fn little_growth_is_not_worth_a_write() {
    let mut world = World::new();
    world.run(
        20,
        &Scene {
            production: 3_000,
            ..CALM
        },
    );
    // 90m more would be possible: less than 1 % of the capacity.
    let same = world.run(
        60,
        &Scene {
            production: 2_910,
            ..CALM
        },
    );
    assert_eq!((quota(&same), same.level), (5_000, Level::Open));
    assert_eq!(
        quota(&world.run(
            60,
            &Scene {
                production: 2_900,
                ..CALM
            }
        )),
        5_100
    );
}

/// How long it takes until the level is open again, in tenths of a second.
fn held_for(world: &mut World) -> u64 {
    (1..1_000)
        .find(|_| world.look(100, &CALM).level == Level::Open)
        .expect("a hold that ends")
}

#[test]
fn the_hold_gets_longer_with_each_entry_and_forgets() {
    let mut world = World::new();
    world.run(2, &CALM);
    let stalled = Scene { cpu_full: 20, ..CALM };
    let mut holds = Vec::new();
    for calm in [0, 0, 0, 0, 100] {
        if calm > 0 {
            world.run(calm, &CALM);
        }
        let bad = world.look(100, &stalled);
        let held = held_for(&mut world);
        holds.push(held);
        assert_eq!(bad.level, Level::Shrink);
    }
    // Each entry adds 10 s, of which half a second is forgotten in each calm one after the first: after 10.1 s
    // 10 − 4.6 = 5.4 are left, after 15.5 s 15.4 − 7.3 = 8.1, after 18.2 s 18.1 − 8.65 = 9.45; after 100 s none.
    assert_eq!(holds, [100, 154, 181, 195, 100]);
}

#[test]
fn nothing_grows_in_the_hold() {
    let mut world = World::new();
    world.run(2, &CALM);
    let cut = world.look(100, &Scene { cpu_full: 20, ..CALM });
    assert_eq!(quota(&cut), 4_900);
    for _ in 0..99 {
        let held = world.look(100, &CALM);
        assert_eq!(
            (quota(&held), held.level, held.reason),
            (4_900, Level::Hold, Reason::Backoff)
        );
    }
    assert_eq!(world.look(100, &CALM).level, Level::Open);
    assert_eq!(quota(&world.run(1, &CALM)), 5_100);
}

#[test]
fn below_seven_tenths_of_what_production_suffered_from_growth_is_fast() {
    let mut world = World::new();
    world.run(2, &CALM);
    let missed = Scene {
        slo: Slo::Slack(-1),
        ..CALM
    };
    assert_eq!(quota(&world.run(1, &missed)), BOUNDS.floor.0);
    // 10 s of hold and 1 s for standard alone, at the floor; then 1000m a second, and from 4900 on 200m.
    let quotas: Vec<u64> = (0..18).map(|_| quota(&world.run(1, &CALM))).collect();
    assert_eq!(quotas[9], BOUNDS.floor.0, "{quotas:?}");
    let steps: Vec<u64> = quotas[11..].windows(2).map(|two| two[1] - two[0]).collect();
    assert_eq!(steps[..3], [1_000; 3], "{quotas:?}");
    assert_eq!(steps[5..], [200], "{quotas:?}");
}

#[test]
fn after_a_gap_what_was_in_force_stays_for_a_hold() {
    let mut world = World::new();
    world.law = Law::resume(BOUNDS, MilliCpu(1_000));
    assert_eq!(quota(&world.look(100, &CALM)), 1_000);
    let quotas: Vec<u64> = (0..12).map(|_| quota(&world.run(1, &CALM))).collect();
    assert_eq!(quotas[8], 1_000, "{quotas:?}");
    assert!(quotas[11] >= 2_000, "{quotas:?}");
    // The static line, or more than is allowed now, is nothing to hold.
    for in_force in [7_000, 9_000] {
        world.law = Law::resume(BOUNDS, MilliCpu(in_force));
        assert_eq!(world.run(1, &CALM).setpoints.cpu, None);
    }
}

#[test]
fn low_slack_cuts_once_a_second() {
    let mut world = World::new();
    world.run(2, &CALM);
    let close = Scene {
        slo: Slo::Slack(20),
        ..CALM
    };
    let quotas: Vec<u64> = (0..21).map(|_| quota(&world.look(100, &close))).collect();
    assert_eq!(
        (quotas[0], quotas[9], quotas[10], quotas[20]),
        (4_900, 4_900, 3_430, 2_400)
    );
    assert_eq!(quota(&world.run(20, &close)), 500);
}
