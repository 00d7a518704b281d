//! What holds for every machine and every past, against an oracle of its own.

use super::*;
use crate::headroom::intake::SHORTEST;
use proptest::prelude::*;
use proptest::sample::select;

#[derive(Debug, Clone, Copy)]
enum Event {
    Look(u64, Scene),
    NoAll,
    NoUnits,
    NoLent,
    Anew,
    Rebound(Bounds),
}

fn slo() -> impl Strategy<Value = Slo> {
    prop_oneof![
        8 => Just(Slo::None),
        1 => Just(Slo::Unknown),
        3 => (-300i32..900).prop_map(Slo::Slack),
    ]
}

prop_compose! {
    fn scene()(
        production in 0u64..9_000, lent in select(vec![0u64, 100, 300, 2_000, 6_000]),
        cpu_full in select(vec![0u64, 0, 0, 4, 19, 21, 60]), memory_full in select(vec![0u64, 0, 0, 0, 4, 6]),
        io_full in select(vec![0u64, 0, 0, 0, 8, 12]),
        standard in select(vec![None, Some(0), Some(100), Some(1_500)]), io in select(vec![None, Some(0), Some(900), Some(40_000)]),
        held in prop::option::of(0u64..90), memory in 1u64..40, tight in any::<bool>(), slo in slo(),
    ) -> Scene {
        let memory = if tight { Bytes(memory << 26) } else { Bytes::from_gib(memory) };
        let standard = standard.map(|mcpu: u64| mcpu.min(lent));
        let held = held.map(|held| Bytes(held << 26));
        Scene { production, lent, cpu_full, memory_full, io_full, memory: Some(memory), slo, standard, io, held }
    }
}

fn event() -> impl Strategy<Value = Event> {
    let ms = prop_oneof![8 => Just(100u64), 2 => 0u64..400, 1 => 400u64..20_000];
    prop_oneof![
        60 => (ms, scene()).prop_map(|(ms, scene)| Event::Look(ms, scene)),
        1 => Just(Event::NoAll),
        1 => Just(Event::NoUnits),
        1 => Just(Event::NoLent),
        1 => Just(Event::Anew),
        1 => (0u64..6_000).prop_map(|most| Event::Rebound(Bounds {
            most: MilliCpu(most.max(500)),
            headroom: MilliCpu(9_000 - most.max(500)),
            ..BOUNDS
        })),
    ]
}

/// Runs of one kind last, as in life; single looks lie between.
fn story() -> impl Strategy<Value = Vec<Event>> {
    let part = (event(), prop_oneof![3 => Just(1usize), 1 => 1usize..80]);
    prop::collection::vec(part, 1..30).prop_map(|parts| {
        parts
            .into_iter()
            .flat_map(|(event, times)| vec![event; times])
            .collect()
    })
}

impl World {
    fn happen(&mut self, event: &Event) -> Decision {
        match event {
            Event::Look(ms, scene) => return self.look(*ms, scene),
            Event::Rebound(bounds) => self.law.rebound(*bounds),
            Event::Anew => self.sample.cpu_lent = Some(Span::ZERO),
            Event::NoAll | Event::NoUnits | Event::NoLent => {}
        }
        let mut shown = self.next(100, &CALM);
        self.sample = shown;
        match event {
            Event::NoAll => shown.cpu_all = None,
            Event::NoUnits => shown.cpu_units = None,
            Event::NoLent => shown.cpu_lent = None,
            _ => {}
        }
        self.law.step(&shown)
    }
}

/// The quota in force, under the bounds in force.
fn in_force(decision: &Decision, bounds: &Bounds) -> u64 {
    decision.setpoints.cpu.unwrap_or(bounds.most).0
}

/// What every decision keeps to for burst, memory and disks, counted apart from the law.
fn wrong_elsewhere(decision: &Decision, bounds: &Bounds, sample: &Sample) -> Option<&'static str> {
    const MIB: u64 = 1 << 20;
    let Decision {
        setpoints, reclaim, ..
    } = decision;
    let quota = in_force(decision, bounds);
    if setpoints
        .burst
        .is_some_and(|burst| burst.0 >= quota || burst.0 < 50)
    {
        return Some("a share of burst that is above the quota or below its floor");
    }
    if setpoints.io.is_some_and(|io| io.0 < MIB) {
        return Some("a bandwidth below its floor");
    }
    let high = setpoints.memory_high.unwrap_or(bounds.memory_most).0;
    if setpoints
        .memory_high
        .is_some_and(|high| high >= bounds.memory_most || high.0 < 64 * MIB)
    {
        return Some("a memory limit that is none, or below its floor");
    }
    let (Some(left), Some(lent)) = (sample.memory_available, sample.memory_lent) else {
        return (reclaim.0 != 0).then_some("memory taken without a look");
    };
    let enough = (lent.0 + left.0).saturating_sub(bounds.memory_free.0);
    if high > enough.max(lent.0.saturating_sub(64 * MIB)).max(64 * MIB) {
        return Some("lent work may grow into what is to stay free");
    }
    let short = bounds.memory_free.0.saturating_sub(left.0);
    if reclaim.0 > short.min(64 * MIB) || reclaim.0 > lent.0.saturating_sub(64 * MIB) {
        return Some("more memory taken than is short, or than lent work can spare");
    }
    if reclaim.0 > 0 && decision.level < Level::Shrink {
        return Some("memory taken and not said so");
    }
    None
}

/// What every decision keeps to, counted apart from the law.
fn wrong(decision: &Decision, bounds: &Bounds) -> Option<&'static str> {
    let now = in_force(decision, bounds);
    let kept = decision.production.0 + bounds.headroom.0;
    let line = bounds.capacity.0.saturating_sub(kept);
    if decision
        .setpoints
        .cpu
        .is_some_and(|cpu| cpu >= bounds.most || !cpu.0.is_multiple_of(10))
    {
        return Some("a quota that is no quota below the static line");
    }
    if now < bounds.floor.0 {
        return Some("below the floor");
    }
    if now > line.max(bounds.floor.0) {
        return Some("above the line of now");
    }
    if (decision.level >= Level::Squeeze) != (decision.setpoints.squeezed != Squeezed::No) {
        return Some("squeezed and not said so");
    }
    if decision.setpoints.squeezed == Squeezed::All && now != bounds.floor.0 {
        return Some("squeezed above the floor");
    }
    None
}

/// A worse version of a scene, in one way. A wait is judged at the use it came with: more use makes it no worse.
fn worse(scene: &Scene, way: u8, by: u64) -> Scene {
    let mut worse = *scene;
    match way {
        0 if scene.cpu_full == 0 => worse.production += by * 10,
        0 | 1 => worse.cpu_full += by / 10,
        2 => worse.memory_full += by / 10,
        3 => worse.io_full += by / 10,
        4 => worse.memory = worse.memory.map(|memory| memory.minus(Bytes(by << 24))),
        _ => {
            worse.slo = match worse.slo {
                Slo::Slack(slack) => Slo::Slack(slack - i32::try_from(by).unwrap()),
                Slo::None => Slo::Slack(100 - i32::try_from(by).unwrap()),
                Slo::Unknown => Slo::Unknown,
            }
        }
    }
    worse
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn every_decision_keeps_to_the_bounds(story in story()) {
        let (mut world, mut bounds) = (World::new(), BOUNDS);
        for event in &story {
            if let Event::Rebound(new) = event {
                bounds = *new;
            }
            let decision = world.happen(event);
            prop_assert_eq!(wrong(&decision, &bounds), None, "{:?} after {:?}", decision, event);
            let elsewhere = wrong_elsewhere(&decision, &bounds, &world.sample);
            prop_assert_eq!(elsewhere, None, "{:?} after {:?}", decision, event);
        }
    }

    #[test]
    fn what_was_measured_in_full_tenths_is_seen(story in story(), scene in scene()) {
        // Three intervals of the same: whatever was before, at least so much is known to be used.
        let mut world = World::new();
        for event in &story {
            world.happen(event);
        }
        (0..3).for_each(|_| {
            world.look(100, &scene);
        });
        let decision = world.look(100, &scene);
        prop_assert!(decision.production.0 >= scene.production);
    }

    #[test]
    fn growth_is_bounded_over_any_time(story in story()) {
        let mut world = World::new();
        let mut seen: Vec<(u64, u64)> = Vec::new();
        for event in story.iter().filter(|event| !matches!(event, Event::Rebound(_))) {
            let decision = world.happen(event);
            seen.push((world.sample.now.0, quota(&decision)));
        }
        for (index, (from, before)) in seen.iter().enumerate() {
            for (to, after) in &seen[index..] {
                // 10 % of 10 CPUs a second, and the 1 % that is saved up for one step. Time that was too short to measure
                // counts when it is measured.
                let may = 100 + (to - from + SHORTEST.0) / 1_000;
                prop_assert!(*after <= before + may, "{before} to {after} in {} us", to - from);
            }
        }
    }

    #[test]
    fn nothing_grows_for_ten_seconds_after_a_bad_moment(story in story()) {
        let mut world = World::new();
        let mut last: Option<(u64, u64)> = None;
        for event in story.iter().filter(|event| !matches!(event, Event::Rebound(_))) {
            let decision = world.happen(event);
            let (now, quota) = (world.sample.now.0, quota(&decision));
            if let Some((since, before)) = last {
                prop_assert!(now >= since + 10_000_000 || quota <= before);
            }
            let stalled = matches!(
                decision.reason,
                Reason::CpuStall(_) | Reason::MemoryStall(_) | Reason::IoStall(_) | Reason::SloSlack(..0)
            );
            if stalled || decision.level == Level::Evict {
                last = Some((now, quota));
            }
        }
    }

    #[test]
    fn a_worse_look_never_gives_more(
        story in story(), ms in prop_oneof![Just(100u64), 0u64..500], scene in scene(), way in 0u8..6, by in 0u64..500,
    ) {
        let (mut world, mut bounds) = (World::new(), BOUNDS);
        for event in &story {
            world.happen(event);
            if let Event::Rebound(new) = event {
                bounds = *new;
            }
        }
        let mut other = world.clone();
        let better = world.look(ms, &scene);
        let worse = other.look(ms, &worse(&scene, way, by));
        prop_assert!(in_force(&worse, &bounds) <= in_force(&better, &bounds), "{better:?} {worse:?}");
        prop_assert!(worse.level >= better.level, "{better:?} {worse:?}");
        prop_assert!(worse.setpoints.squeezed >= better.setpoints.squeezed, "{better:?} {worse:?}");
        let burst = |one: &Decision| one.setpoints.burst.map_or(in_force(one, &bounds), |burst| burst.0);
        prop_assert!(burst(&worse) <= burst(&better), "{better:?} {worse:?}");
        let high = |one: &Decision| one.setpoints.memory_high.map_or(u64::MAX, |high| high.0);
        prop_assert!(high(&worse) <= high(&better), "{better:?} {worse:?}");
        prop_assert!(worse.reclaim >= better.reclaim, "{better:?} {worse:?}");
        let io = |one: &Decision| one.setpoints.io.map_or(u64::MAX, |io| io.0);
        prop_assert!(io(&worse) <= io(&better), "{better:?} {worse:?}");
    }

    #[test]
    fn a_replay_is_identical(story in story(), cut in any::<prop::sample::Index>()) {
        let cut = cut.index(story.len());
        let mut world = World::new();
        let first: Vec<Decision> = story.iter().map(|event| world.happen(event)).collect();
        let mut again = World::new();
        let mut second: Vec<Decision> = story[..cut].iter().map(|event| again.happen(event)).collect();
        let mut copy = again.clone();
        second.extend(story[cut..].iter().map(|event| copy.happen(event)));
        prop_assert_eq!(first, second);
    }
}

/// How often the quota turned from falling to rising or back.
fn turns(quotas: &[u64]) -> usize {
    let moves: Vec<bool> = quotas
        .windows(2)
        .filter(|two| two[0] != two[1])
        .map(|two| two[0] < two[1])
        .collect();
    moves.windows(2).filter(|two| two[0] != two[1]).count()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn a_constant_machine_comes_to_rest(story in story(), scene in scene()) {
        // Without stalls: those that nothing ends are tried again every minute, on purpose.
        let scene = Scene { cpu_full: 0, memory_full: 0, io_full: 0, ..scene };
        let mut world = World::new();
        for event in story.iter().filter(|event| !matches!(event, Event::Rebound(_))) {
            world.happen(event);
        }
        let quotas: Vec<u64> = (0..2_400).map(|_| quota(&world.look(100, &scene))).collect();
        prop_assert!(quotas.chunks(600).all(|minute| turns(minute) <= 1));
        let rest = world.look(100, &scene).setpoints;
        for _ in 0..600 {
            prop_assert_eq!(world.look(100, &scene).setpoints, rest);
        }
    }

    #[test]
    fn a_little_noise_does_not_chatter(production in 1_000u64..6_500, noise in prop::collection::vec(0u64..80, 1_800)) {
        let mut world = World::new();
        world.run(2, &Scene { production, ..CALM });
        let quotas: Vec<u64> = noise
            .iter()
            .map(|noise| quota(&world.look(100, &Scene { production: production + noise, ..CALM })))
            .collect();
        prop_assert!(quotas.chunks(600).all(|minute| turns(minute) <= 1), "{quotas:?}");
    }

    #[test]
    fn stalls_without_end_turn_at_most_twice_a_minute(scene in scene()) {
        let scene = Scene { cpu_full: 30, ..scene };
        let mut world = World::new();
        let quotas: Vec<u64> = (0..3_000).map(|_| quota(&world.look(100, &scene))).collect();
        prop_assert!(quotas.chunks(600).all(|minute| turns(minute) <= 2), "{quotas:?}");
    }
}
