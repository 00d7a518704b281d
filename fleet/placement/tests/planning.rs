//! The planner goes by the rules of sharing: whole days in virtual time, each plan judged by the independent checker.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

#[path = "planning/day.rs"]
mod day;

use day::{Day, Rules, Shape, job_id};
use loadline_model::{Priority, Span, Tier};
use loadline_placement::policy::{AtOnce, Budget, Period, Quota, Team};
use loadline_placement::{Policy, ReasonCode};
use proptest::prelude::*;

const MINUTE: u64 = 60;
const HOUR: u64 = 3600;

fn team(weight: u32) -> Team {
    Team {
        weight,
        ..Team::default()
    }
}

/// A small random generator of its own, so that a story is the same on every machine.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

#[test]
fn shares_converge_to_weights_within_two_per_cent_in_a_day() {
    let weights = [("left", 100u32), ("middle", 300), ("right", 600)];
    let mut day = Day::new(&[16, 16, 16, 16], Policy::default());
    for (name, weight) in weights {
        day.set_team(name, team(weight));
    }
    let mut random = Random(7);
    let mut waiting = [0i32; 3];
    let mut number = 0;
    let mut had = [0u64; 3];
    while day.now() < 24 * HOUR {
        // Each always wants more than there is.
        for (index, (name, _)) in weights.iter().enumerate() {
            while waiting[index] < 60 {
                number += 1;
                waiting[index] += 1;
                day.submit(Shape {
                    number,
                    cpus: 1 + u32::try_from(random.below(3)).unwrap(),
                    runs: MINUTE * (3 + random.below(20)),
                    asked: Some(30 * MINUTE),
                    team: (*name).into(),
                    user: format!("{name}-{}", random.below(3)),
                    ..Shape::default()
                });
            }
        }
        for started in day.step() {
            let index = weights
                .iter()
                .position(|(name, _)| *name == started.team)
                .unwrap();
            waiting[index] -= 1;
            had[index] += u64::from(started.cpus) * started.runs;
        }
        day.next_event();
    }
    let all: u64 = had.iter().sum();
    for ((name, weight), had) in weights.into_iter().zip(had) {
        let (share, due) = (had as f64 / all as f64, f64::from(weight) / 1000.0);
        assert!(
            (share - due).abs() < 0.02,
            "{name} got {share:.3} of the day, {due} was due"
        );
    }
    assert!(day.used() > 0.9, "{:.3} of the machine was used", day.used());
}

/// Small jobs that always fill the fleet, and one that needs a whole node.
fn squeezed_in(asked: Option<u64>) -> u64 {
    let mut day = Day::new(&[8, 8, 8], Policy::default());
    let mut random = Random(11);
    let mut number = 1;
    let mut small = |day: &mut Day, random: &mut Random| {
        number += 1;
        day.submit(Shape {
            number,
            cpus: 1,
            runs: MINUTE * (2 + random.below(8)),
            asked,
            team: "small".into(),
            user: "ada".into(),
            ..Shape::default()
        });
    };
    for _ in 0..100 {
        small(&mut day, &mut random);
    }
    let mut submitted = None;
    let mut since = 0;
    while since < 12 * HOUR {
        if day.now() > HOUR && submitted.is_none() {
            submitted = Some(day.now());
            day.submit(Shape {
                number: 1,
                cpus: 8,
                runs: HOUR,
                asked: Some(HOUR),
                team: "large".into(),
                user: "bob".into(),
                ..Shape::default()
            });
        }
        for started in day.step() {
            if started.number == 1 {
                return day.now() - submitted.unwrap();
            }
            small(&mut day, &mut random);
        }
        day.next_event();
        since = day.now();
    }
    panic!("the large job starves");
}

#[test]
fn a_large_job_waits_no_longer_than_the_longest_before_it() {
    for asked in [Some(10 * MINUTE), Some(HOUR), None] {
        let waited = squeezed_in(asked);
        // What runs when it comes has ended after ten minutes.
        assert!(waited <= 11 * MINUTE, "{asked:?}: it waited {waited} s");
    }
}

#[test]
fn burst_yields_ends_and_is_not_pushed_to_and_fro() {
    let mut day = Day::new(&[8], Policy::default());
    day.submit(Shape {
        number: 1,
        cpus: 8,
        runs: 2 * HOUR,
        tier: Tier::Burst,
        user: "ada".into(),
        ..Shape::default()
    });
    let mut number = 1;
    let mut evictions = 0;
    while day.now() < 24 * HOUR && !day.is_done(1) {
        // A standard job of ten minutes each half hour.
        if day.now() / (30 * MINUTE) >= number {
            number += 1;
            day.submit(Shape {
                number,
                cpus: 4,
                runs: 10 * MINUTE,
                asked: Some(10 * MINUTE),
                user: "bob".into(),
                ..Shape::default()
            });
        }
        day.step();
        evictions += day.evicted();
        day.wait(MINUTE);
    }
    assert!(
        day.is_done(1),
        "who yields is left alone longer each time, and so comes to its end"
    );
    assert!((2..=8).contains(&evictions), "it yielded {evictions} times");
    assert!(
        day.waits_longest_of("bob") > MINUTE,
        "who has just started is left alone"
    );
}

#[test]
fn the_higher_priority_goes_first_and_the_lower_yields_to_it() {
    let mut day = Day::new(&[4], Policy::default());
    let job = |number, priority| Shape {
        number,
        cpus: 4,
        runs: HOUR,
        asked: Some(HOUR),
        user: "ada".into(),
        priority: Priority(priority),
        ..Shape::default()
    };
    day.submit(job(1, 0));
    assert_eq!(day.step().len(), 1);
    for (number, priority) in [(2, 0), (3, 5), (4, -5)] {
        day.submit(job(number, priority));
    }
    day.wait(2 * MINUTE);
    day.step();
    assert_eq!(day.evicted(), 1, "the first makes room for the third");
    let order: Vec<u64> = std::iter::from_fn(|| {
        day.next_event();
        Some(day.step().first().map_or(0, |started| started.number))
    })
    .take(500)
    .filter(|number| *number > 0)
    .take(4)
    .collect();
    assert_eq!(order, [3, 1, 2, 4]);
}

#[test]
fn nobody_goes_for_one_whose_turn_is_below() {
    let mut day = Day::new(&[2], Policy::default());
    let job = |number, priority, tier| Shape {
        number,
        cpus: 1,
        runs: HOUR,
        asked: Some(HOUR),
        user: "ada".into(),
        priority: Priority(priority),
        tier,
        ..Shape::default()
    };
    day.submit(job(1, 0, Tier::Standard));
    day.submit(job(2, 0, Tier::Standard));
    assert_eq!(day.step().len(), 2);
    // Room is kept for its turn.
    day.submit(job(3, 0, Tier::Burst));
    day.step();
    day.wait(2 * MINUTE);
    day.submit(job(4, 5, Tier::Standard));
    day.step();
    assert_eq!(day.evicted(), 1, "one CPU takes one worker to go");
    day.wait(MINUTE);
    assert_eq!(day.step().first().map(|started| started.number), Some(4));
    assert_eq!(day.evicted(), 0);
}

#[test]
fn a_gang_is_not_broken_for_nothing() {
    let mut day = Day::new(&[4, 4], Policy::default());
    day.submit(Shape {
        number: 1,
        cpus: 4,
        workers: 2,
        gang: true,
        runs: 5 * HOUR,
        tier: Tier::Burst,
        user: "ada".into(),
        ..Shape::default()
    });
    assert_eq!(day.step().len(), 2);
    day.wait(HOUR);
    // More than one node lends: nobody yields in vain.
    day.submit(Shape {
        number: 2,
        cpus: 5,
        runs: HOUR,
        user: "bob".into(),
        ..Shape::default()
    });
    day.step();
    assert_eq!(day.evicted(), 0);
    day.submit(Shape {
        number: 3,
        cpus: 2,
        runs: HOUR,
        user: "bob".into(),
        ..Shape::default()
    });
    day.step();
    assert_eq!(day.evicted(), 2, "both of its workers, as one alone is of no use");
}

fn elastic(number: u64, least: u32, workers: u32) -> Shape {
    Shape {
        number,
        workers,
        least: Some(least),
        runs: 5 * HOUR,
        user: "ada".into(),
        ..Shape::default()
    }
}

fn plain(number: u64, cpus: u32, minutes: u64) -> Shape {
    Shape {
        number,
        cpus,
        runs: minutes * MINUTE,
        asked: Some(minutes * MINUTE),
        user: "bob".into(),
        ..Shape::default()
    }
}

#[test]
fn what_an_elastic_job_has_beyond_its_least_goes_to_equals_that_have_nothing() {
    let mut day = Day::new(&[8], Policy::default());
    day.submit(elastic(1, 2, 8));
    assert_eq!(day.step().len(), 8, "it grows into what is free");
    day.submit(plain(2, 3, 60));
    day.step();
    assert_eq!(day.evicted(), 0, "who has just started is left alone");
    day.wait(MINUTE);
    day.step();
    assert_eq!((day.evicted(), day.staying(1)), (3, 5));
    let why = day.why(2).unwrap();
    assert!(why.expected.unwrap().yielding, "{why:?}");
    day.wait(MINUTE);
    let started: Vec<u64> = day.step().iter().map(|started| started.number).collect();
    assert_eq!(
        started,
        [2],
        "what was given back is theirs, and the job does not grow back into it"
    );
    // Three more can go. Of a job that needs four nobody goes in vain.
    day.submit(plain(3, 4, 60));
    day.wait(MINUTE);
    day.step();
    assert_eq!((day.evicted(), day.staying(1)), (0, 5));
    day.submit(plain(4, 3, 50));
    day.wait(MINUTE);
    day.step();
    assert_eq!((day.evicted(), day.staying(1)), (3, 2));
    day.submit(plain(5, 1, 10));
    for _ in 0..30 {
        day.wait(MINUTE);
        day.step();
        assert_eq!((day.evicted(), day.staying(1)), (0, 2), "it keeps its least");
    }
}

#[test]
fn what_is_beyond_the_least_does_not_ask_and_does_not_yield_to_lower_ranks() {
    let mut day = Day::new(&[4], Policy::default());
    day.submit(elastic(1, 1, 4));
    assert_eq!(day.step().len(), 4);
    // One that wants more than it needs gets that of nobody; who is burst, or less urgent, gets nothing.
    day.submit(Shape {
        tier: Tier::Burst,
        ..plain(2, 1, 10)
    });
    day.submit(Shape {
        priority: Priority(-1),
        ..plain(3, 1, 10)
    });
    for _ in 0..20 {
        day.wait(MINUTE);
        day.step();
        assert_eq!(day.evicted(), 0);
    }
    day.submit(Shape {
        user: "bob".into(),
        ..elastic(4, 2, 4)
    });
    for _ in 0..20 {
        day.wait(MINUTE);
        day.step();
    }
    assert_eq!((day.staying(1), day.staying(4)), (2, 2), "its least, and no more");
}

#[test]
fn an_elastic_job_of_lower_rank_goes_as_a_whole_or_keeps_its_least() {
    let burst = Shape {
        tier: Tier::Burst,
        ..elastic(1, 3, 5)
    };
    // Two can go alone; for a third all five have to.
    for (cpus, evicted, stay) in [(2, 2, 3), (3, 5, 0)] {
        let mut day = Day::new(&[5], Policy::default());
        day.submit(burst.clone());
        assert_eq!(day.step().len(), 5);
        day.wait(MINUTE);
        day.submit(plain(2, cpus, 60));
        day.step();
        assert_eq!(
            (day.evicted(), day.staying(1)),
            (evicted, stay),
            "{cpus} CPUs are asked for"
        );
    }
}

/// Small jobs come for a day to a fleet that one elastic job fills: how often it gave back, and its fewest workers.
#[test]
fn an_elastic_job_gives_back_without_to_and_fro() {
    let mut day = Day::new(&[4, 4], Policy::default());
    day.submit(Shape {
        runs: 48 * HOUR,
        ..elastic(1, 2, 8)
    });
    day.step();
    let (mut random, mut number, mut gave_back, mut next) = (Random(5), 1, 0, MINUTE);
    while day.now() < 24 * HOUR {
        if day.now() >= next {
            number += 1;
            next = day.now() + MINUTE * (1 + random.below(30));
            day.submit(plain(
                number,
                1 + u32::try_from(random.below(3)).unwrap(),
                1 + random.below(20),
            ));
        }
        day.step();
        gave_back += day.evicted();
        assert!(day.staying(1) >= 2, "it keeps its least");
        day.next_event();
    }
    let all = usize::try_from(number).unwrap();
    assert!(
        (all / 4..=all * 3).contains(&gave_back),
        "{gave_back} workers went for {all} jobs"
    );
    // A minute in which who has started is left alone, the grace, and a plan after.
    let longest = day.waits_longest_of("bob");
    assert!(longest <= 10 * MINUTE, "one waited for {longest} s");
    assert!(day.used() > 0.9, "{:.3} of the machine was used", day.used());
}

#[test]
fn who_is_gone_in_time_passes_and_who_is_not_is_told_so() {
    let mut day = Day::new(&[4], Policy::default());
    let job = |number, cpus, minutes| Shape {
        number,
        cpus,
        runs: minutes * MINUTE,
        asked: Some(minutes * MINUTE),
        user: format!("user{number}"),
        team: format!("team{number}"),
        ..Shape::default()
    };
    day.submit(job(1, 3, 30));
    day.step();
    day.submit(job(2, 4, 60));
    day.submit(job(3, 1, 60));
    day.submit(job(4, 1, 20));
    let started: Vec<u64> = day.step().iter().map(|started| started.number).collect();
    assert_eq!(started, [4], "it is gone before the second begins");
    day.wait(21 * MINUTE);
    day.step();
    let why = day.why(3).unwrap();
    assert_eq!(why.reasons[0].code, ReasonCode::KeptForOthers, "{why:?}");
    assert_eq!(
        why.reasons[0].sentence,
        "n0 has room, kept for job 2, which is expected to start in 10 min"
    );
    assert!(why.advice().contains("--time 9m"), "{}", why.advice());
    let second = day.why(2).unwrap();
    assert!(second.expected.unwrap().at.is_some(), "{second:?}");
    assert_eq!(second.before, 0);
}

fn shape() -> impl Strategy<Value = Shape> {
    let what = (1u32..6, 1u32..4, 1u64..90, prop::option::weighted(0.7, 1u64..120));
    let who = (
        0usize..3,
        0usize..3,
        -1i16..2,
        prop::bool::weighted(0.3),
        prop::bool::weighted(0.2),
        prop::option::weighted(0.3, 1u32..3),
    );
    (what, who).prop_map(
        |((cpus, workers, runs, more), (team, user, priority, burst, gang, least))| Shape {
            number: 0,
            cpus,
            workers,
            gang: gang && workers > 1,
            least: least.filter(|_| !gang).map(|least| least.min(workers)),
            runs: runs * MINUTE,
            asked: more.map(|more| (runs + more) * MINUTE),
            team: ["", "left", "right"][team].into(),
            user: ["ada", "bob", "eve"][user].into(),
            tier: if burst { Tier::Burst } else { Tier::Standard },
            priority: Priority(priority),
        },
    )
}

fn quota() -> impl Strategy<Value = Quota> {
    let limits = (
        prop::option::weighted(0.5, 1u64..10),
        prop::option::weighted(0.3, 0u32..5),
        prop::option::weighted(0.3, 1u64..6),
        prop::option::weighted(0.3, 1u64..40),
    );
    limits.prop_map(|(cpus, workers, user_cpus, hours)| Quota {
        team: AtOnce {
            cpu: cpus.map(|cpus| loadline_model::MilliCpu(cpus * 1000)),
            workers,
            ..AtOnce::default()
        },
        user: AtOnce {
            cpu: user_cpus.map(|cpus| loadline_model::MilliCpu(cpus * 1000)),
            ..AtOnce::default()
        },
        budget: hours.map(|hours| Budget {
            period: Period::DAY,
            cpu_hours: Some(hours),
            gib_hours: None,
            gpu_hours: None,
        }),
    })
}

/// What happens: a job comes, some time passes, a team may something else.
#[derive(Debug, Clone)]
enum Event {
    Submit(Shape),
    Wait(u64),
    Next,
    Quota(usize, Quota),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => shape().prop_map(Event::Submit),
        3 => (1u64..40).prop_map(|minutes| Event::Wait(minutes * MINUTE)),
        4 => Just(Event::Next),
        1 => (0usize..2, quota()).prop_map(|(team, quota)| Event::Quota(team, quota)),
    ]
}

/// Plays a story; every plan is judged by the checkers.
fn play(events: &[Event], judge: impl Fn(&Day)) -> (Day, Vec<String>) {
    let mut day = Day::new(&[4, 6], Policy::default());
    let mut told = Vec::new();
    let mut number = 0;
    for event in events {
        match event {
            Event::Submit(shape) => {
                number += 1;
                day.submit(Shape {
                    number,
                    ..shape.clone()
                });
            }
            Event::Wait(seconds) => day.wait(*seconds),
            Event::Next => day.next_event(),
            Event::Quota(index, quota) => {
                let team = Team {
                    quota: *quota,
                    ..Team::default()
                };
                day.set_team(["left", "right"][*index], team);
            }
        }
        day.step();
        told.push(format!("{:?}", day.last));
        judge(&day);
    }
    (day, told)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    /// The checkers run in each step: lines, quotas, what is kept, who yields to whom.
    #[test]
    fn whatever_happens_the_rules_hold_and_all_that_can_run_comes_to_its_end(
        events in prop::collection::vec(event(), 1..40),
    ) {
        let (mut day, _) = play(&events, |_| {});
        // Without quotas and newcomers everyone who fits at all gets a turn.
        day.set_team("left", Team::default());
        day.set_team("right", Team::default());
        for _ in 0..2000 {
            day.step();
            if day.waiting() == 0 {
                break;
            }
            day.next_event();
        }
        for number in day.waiting_numbers() {
            prop_assert!(!day.is_feasible(number), "job {number} never starts");
        }
    }

    #[test]
    fn a_replay_is_identical(events in prop::collection::vec(event(), 1..30)) {
        let (_, first) = play(&events, |_| {});
        let (_, second) = play(&events, |_| {});
        prop_assert_eq!(first, second);
    }

    /// Take away what is named, and the job starts; leave any of it, and it does not.
    #[test]
    fn what_explain_names_is_why(events in prop::collection::vec(event(), 1..30)) {
        play(&events, |day| {
            for number in day.waiting_numbers() {
                day.judge_why(number);
            }
        });
    }
}

#[test]
fn rules_are_said_once() {
    // The day's own idea of a job's identity orders as its number does.
    assert!(job_id(1) < job_id(2));
    assert_eq!(Rules::default().grace, Span::from_secs(10));
}
