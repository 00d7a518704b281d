//! The number of processes and threads: held in a storm and while memory is short, otherwise as it is without us.

use super::*;
use crate::settings::{TasksLimit, TasksWhy};
use proptest::prelude::*;

/// With memory to spare; less than half of what is to stay free.
const SHORT: Scene = Scene {
    memory: Some(Bytes::from_mib(400)),
    held: Some(Bytes::from_gib(1)),
    ..CALM
};

impl World {
    /// A look at which lent work has so many.
    fn with_tasks(&mut self, tasks: u64, ms: u64, scene: &Scene) -> Option<TasksLimit> {
        self.sample.tasks_lent = Some(tasks);
        self.look(ms, scene).setpoints.tasks
    }
}

/// Forks so many in a tenth of a second, as far as the limit lets it.
fn storm(world: &mut World, there: &mut u64, by: u64) -> Option<TasksLimit> {
    let most = world.law.setpoints().tasks.map_or(16_384, |limit| limit.most);
    *there = (*there + by).min(most.max(*there));
    world.with_tasks(*there, 100, &CALM)
}

#[test]
fn what_comes_and_goes_is_left_alone() {
    let mut world = World::new();
    for second in 0..60 {
        for look in 0..10 {
            // 10 CPUs: up to 1343 more within a second are no storm.
            let tasks = 200 + (second % 5) * 250 + look * 20;
            assert_eq!(world.with_tasks(tasks, 100, &CALM), None);
        }
    }
    assert_eq!(
        world.with_tasks(16_000, 5_000, &CALM),
        None,
        "nobody looked meanwhile"
    );
    let unknown = Sample {
        tasks_lent: None,
        ..world.next(100, &CALM)
    };
    assert_eq!(world.law.step(&unknown).setpoints.tasks, None);
}

#[test]
fn a_storm_is_held_above_what_is_there_and_turns_once() {
    let (mut world, mut there) = (World::new(), 300);
    world.with_tasks(there, 100, &CALM);
    let limits: Vec<Option<TasksLimit>> = (0..12_000).map(|_| storm(&mut world, &mut there, 400)).collect();
    let first = limits.iter().position(Option::is_some).unwrap();
    assert!(first < 10, "held at look {first}");
    let held = limits[first].unwrap();
    assert_eq!(held.why, TasksWhy::Growth);
    assert!(held.most <= 300 + 10 * 400 + 736, "{held:?}");
    let mut most: Vec<u64> = limits[first..]
        .iter()
        .map(|limit| limit.map_or(16_384, |one| one.most))
        .collect();
    assert!(most.is_sorted(), "it only rises from there");
    most.dedup();
    assert!((4..=9).contains(&most.len()), "by steps: {most:?}");
    // It ends by itself: then the limit is gone, and calm work is as before.
    let mut world = World::new();
    let mut there = 300;
    world.with_tasks(there, 100, &CALM);
    for _ in 0..20 {
        storm(&mut world, &mut there, 400);
    }
    let gone = (0..150).find(|_| world.with_tasks(200, 100, &CALM).is_none());
    assert!(gone.is_some_and(|looks| (95..110).contains(&looks)), "{gone:?}");
}

#[test]
fn while_memory_is_short_only_a_few_more_may_come() {
    let mut world = World::new();
    assert_eq!(world.with_tasks(800, 100, &CALM), None);
    let held = world.with_tasks(800, 100, &SHORT).unwrap();
    assert_eq!(
        (held.most, held.why),
        (1_024, TasksWhy::Memory),
        "800 + 64 + 100, in whole 64"
    );
    assert_eq!(world.with_tasks(790, 100, &SHORT), Some(held), "not for a few");
    assert_eq!(world.with_tasks(300, 100, &SHORT).unwrap().most, 448);
    // What is left of a handful can still end: a floor.
    assert_eq!(world.with_tasks(2, 100, &SHORT).unwrap().most, 256);
    // Back once setpoints grow again, which they do not in the hold that follows.
    let back = (0..600).find(|_| world.with_tasks(2, 100, &CALM).is_none());
    assert!(back.is_some_and(|looks| looks >= 190), "{back:?}");
}

/// What lent work has, for how long, in which scene.
fn story() -> impl Strategy<Value = Vec<(u64, u64, bool)>> {
    let look = (
        0u64..16_000,
        prop_oneof![9 => Just(100u64), 1 => 0u64..5_000],
        prop::bool::weighted(0.2),
    );
    let runs = prop::collection::vec((look, 1usize..40), 1..20);
    runs.prop_map(|runs| {
        runs.into_iter()
            .flat_map(|(look, times)| vec![look; times])
            .collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn the_limit_is_bounded_and_falls_by_danger_alone(story in story()) {
        let (mut world, mut again) = (World::new(), World::new());
        let (mut before, mut seen) = (None::<TasksLimit>, Vec::new());
        for (tasks, ms, short) in story {
            let scene = if short { SHORT } else { CALM };
            let limit = world.with_tasks(tasks, ms, &scene);
            prop_assert_eq!(again.with_tasks(tasks, ms, &scene), limit, "the same looks, the same limit");
            let [was, most] = [before, limit].map(|limit| limit.map_or(16_384, |limit| limit.most));
            prop_assert!((256..=16_384).contains(&most));
            prop_assert!(limit.is_none_or(|limit| limit.most < 16_384));
            let now = world.sample.now.0;
            seen.push((now, tasks));
            if most < was {
                let lately = seen.iter().filter(|(at, _)| at + 2_000_000 >= now);
                let least = lately.map(|(_, tasks)| *tasks).min().unwrap_or(tasks);
                prop_assert!(most >= tasks, "{most} below the {tasks} that are there");
                prop_assert!(short || tasks - least >= 1_344, "lowered to {most}, from {least} to {tasks}");
            }
            prop_assert!(most <= was || !short, "raised while memory is short");
            before = limit;
        }
    }

    #[test]
    fn a_worse_look_never_lets_more_come(story in story(), tasks in 0u64..16_000, left in 0u64..6_000, less in 0u64..3_000) {
        let mut world = World::new();
        for (tasks, ms, short) in story {
            world.with_tasks(tasks, ms, if short { &SHORT } else { &CALM });
        }
        let mut other = world.clone();
        let with = |left| Scene { memory: Some(Bytes::from_mib(left)), ..SHORT };
        let better = world.with_tasks(tasks, 100, &with(left + less));
        let worse = other.with_tasks(tasks, 100, &with(left));
        let most = |limit: Option<TasksLimit>| limit.map_or(16_384, |limit| limit.most);
        prop_assert!(most(worse) <= most(better), "{better:?} {worse:?}");
    }
}
