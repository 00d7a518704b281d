use alloc::vec;

use super::history::HOURS;
use super::*;
use proptest::prelude::*;

const GIB: u64 = 1 << 30;
const CAPACITY: Capacity = Capacity {
    cpu: MilliCpu(4000),
    memory: Bytes(8 * GIB),
};

fn look(secs: u64, cpu: u64, memory: u64) -> Look {
    Look {
        over: Span::from_secs(secs),
        cpu: Some(MilliCpu(cpu)),
        memory: Some(Bytes(memory)),
    }
}

/// `hours` of the same use, in looks of a minute.
fn spend(week: &mut Week, capacity: &Capacity, hours: u64, cpu: u64) {
    for _ in 0..hours * 60 {
        assert!(week.see(capacity, &look(60, cpu, cpu * 1_000_000)));
    }
}

#[test]
fn a_day_has_to_be_watched_before_anything_is_known() {
    let mut week = Week::default();
    assert_eq!((week.known(), week.watched()), (Known::default(), Span::ZERO));
    spend(&mut week, &CAPACITY, 23, 1000);
    for _ in 0..59 {
        week.see(&CAPACITY, &look(60, 1000, GIB));
    }
    assert_eq!(week.known(), Known::default());
    week.see(&CAPACITY, &look(60, 1000, GIB));
    // 4000 / 256, rounded up, is 16 thousandths: 1000 lies in the bucket that ends at 1008.
    assert_eq!(week.known().cpu, Some(MilliCpu(1008)));
    assert_eq!(week.watched(), KNOWN_FROM);
}

#[test]
fn a_hundredth_of_the_time_is_left_out_and_no_more() {
    let mut week = Week::default();
    spend(&mut week, &CAPACITY, 99, 400);
    spend(&mut week, &CAPACITY, 1, 4000);
    assert_eq!(week.known().cpu, Some(MilliCpu(400)));
    week.see(&CAPACITY, &look(60, 4000, GIB));
    assert_eq!(week.known().cpu, Some(MilliCpu(4000)));
}

#[test]
fn what_is_older_than_a_week_falls_out() {
    let mut week = Week::default();
    spend(&mut week, &CAPACITY, 2, 4000);
    spend(&mut week, &CAPACITY, 166, 400);
    assert_eq!(week.known().cpu, Some(MilliCpu(4000)), "2 of 168 hours");
    spend(&mut week, &CAPACITY, 1, 400);
    assert_eq!(week.known().cpu, Some(MilliCpu(400)), "1 of 168 hours");
    assert_eq!(week.watched(), Span::from_secs(168 * 3600));
}

#[test]
fn a_look_that_hides_what_there_was_is_none() {
    let mut week = Week::default();
    assert!(!week.see(&CAPACITY, &look(0, 10, 10)));
    assert!(
        !week.see(&CAPACITY, &look(61, 10, 10)),
        "the machine stood still, or the clock jumped"
    );
    assert!(!week.see(&CAPACITY, &look(u64::MAX / 1_000_000, 10, 10)));
    let nothing = Look {
        over: Span::from_secs(5),
        cpu: None,
        memory: None,
    };
    assert!(!week.see(&CAPACITY, &nothing));
    assert_eq!(week, Week::default());
}

#[test]
fn one_resource_that_cannot_be_read_does_not_hide_the_other() {
    let mut week = Week::default();
    for _ in 0..24 * 60 {
        week.see(
            &CAPACITY,
            &Look {
                memory: None,
                ..look(60, 160, 0)
            },
        );
    }
    let known = Known {
        cpu: Some(MilliCpu(160)),
        memory: None,
    };
    assert_eq!((week.known(), week.watched()), (known, Span::ZERO));
}

#[test]
fn another_capacity_changes_nothing_that_was_seen() {
    let mut week = Week::default();
    spend(&mut week, &CAPACITY, 100, 2000);
    let before = week.known().cpu;
    let more = Capacity {
        cpu: MilliCpu(64_000),
        ..CAPACITY
    };
    spend(&mut week, &more, 1, 2000);
    let less = Capacity {
        cpu: MilliCpu(1000),
        ..CAPACITY
    };
    spend(&mut week, &less, 1, 1000);
    assert_eq!(week.known().cpu, before, "amounts, not shares");
}

#[test]
fn a_capacity_that_comes_and_goes_adds_no_error() {
    let large = Capacity {
        cpu: MilliCpu(8000),
        ..CAPACITY
    };
    let (mut flaps, mut stays) = (Week::default(), Week::default());
    for minute in 0..24 * 60u64 {
        let capacity = if minute % 2 == 0 { &CAPACITY } else { &large };
        flaps.see(capacity, &look(60, 1234, GIB));
        stays.see(&large, &look(60, 1234, GIB));
    }
    assert_eq!(flaps.known(), stays.known());
}

#[test]
fn what_was_kept_comes_back_and_what_was_not_is_refused() {
    let mut week = Week::default();
    spend(&mut week, &CAPACITY, 30, 1000);
    let kept = week.kept();
    let text = serde_json::to_string(&kept).unwrap();
    assert_eq!(serde_json::from_str::<Kept>(&text).unwrap(), kept);
    assert_eq!(Week::restore(&kept), Ok(week));
    let hour = |width, buckets| KeptHour(width, buckets);
    for (cpu, problem) in [
        (
            vec![hour(16, vec![(1, 1)]); HOURS + 1],
            KeptProblem::Hours(HOURS + 1),
        ),
        (vec![hour(0, vec![(1, 1)])], KeptProblem::Width(0)),
        (vec![hour(u64::MAX, vec![(1, 1)])], KeptProblem::Width(0)),
        (
            vec![hour(1, vec![(1, 1)]), hour(1, vec![(2, 1), (2, 1)])],
            KeptProblem::Bucket(1),
        ),
        (vec![hour(1, vec![(257, 1)])], KeptProblem::Bucket(0)),
        (vec![hour(1, vec![(1, 0)])], KeptProblem::Time(0)),
        (vec![hour(1, vec![])], KeptProblem::Time(0)),
        (vec![hour(1, vec![(1, 36_600)])], KeptProblem::Time(0)),
        (
            vec![hour(1, vec![(1, u32::MAX), (2, u32::MAX)])],
            KeptProblem::Time(0),
        ),
    ] {
        let kept = Kept {
            cpu,
            memory: Vec::new(),
        };
        assert_eq!(Week::restore(&kept), Err(problem));
    }
}

/// What the module doc promises, from a plain list of all looks: the last 168 hours of them, sorted.
#[derive(Default)]
struct Oracle {
    /// Hours of (used, tenths of a second).
    hours: Vec<Vec<(u64, u64)>>,
    largest: u64,
}

impl Oracle {
    fn see(&mut self, capacity: u64, used: u64, tenths: u64) {
        let full = |hour: &Vec<(u64, u64)>| hour.iter().map(|(_, time)| time).sum::<u64>() >= 36_000;
        if self.hours.last().is_none_or(full) {
            self.hours.push(Vec::new());
        }
        let used = used.min(capacity);
        self.hours.last_mut().unwrap().push((used, tenths));
        self.largest = self.largest.max(capacity);
    }

    fn p99(&self) -> Option<u64> {
        let last = self.hours.iter().rev().take(168);
        let mut looks: Vec<(u64, u64)> = last.flatten().copied().collect();
        let all: u64 = looks.iter().map(|(_, time)| time).sum();
        if all < 24 * 36_000 {
            return None;
        }
        looks.sort_unstable();
        // From the top: whatever lies above for no more than a hundredth of the time.
        let mut above = 0;
        while let Some((used, time)) = looks.pop() {
            above += time;
            if above * 100 > all {
                return Some(used);
            }
        }
        None
    }
}

/// A stretch of looks: how many, each of how many tenths of a second, at which capacity, using which part of it.
fn stretches() -> impl Strategy<Value = Vec<(u32, u64, u64, u64)>> {
    let capacity = prop_oneof![Just(4000u64), Just(2000), Just(192_000), 256u64..100_000];
    proptest::collection::vec((1u32..900, 10u64..=600, capacity, 0u64..=1100), 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn the_percentile_is_the_true_one_or_a_little_more(stretches in stretches(), restart in 0usize..40) {
        let (mut week, mut oracle) = (Week::default(), Oracle::default());
        for (place, (count, tenths, capacity, per_mille)) in stretches.into_iter().enumerate() {
            for number in 0..u64::from(count) {
                // Spread over some buckets, not the same value again and again.
                let used = capacity * per_mille / 1000 * (90 + number % 11) / 100;
                let capacities = Capacity { cpu: MilliCpu(capacity), memory: Bytes(capacity * GIB) };
                let look = Look {
                    over: Span(tenths * 100_000),
                    cpu: Some(MilliCpu(used)),
                    memory: Some(Bytes(used * GIB)),
                };
                prop_assert!(week.see(&capacities, &look));
                oracle.see(capacity, used, tenths);
            }
            if place == restart {
                // The machine was off: the same goes on.
                week = Week::restore(&week.kept()).unwrap();
            }
            match (week.known(), oracle.p99()) {
                (Known { cpu: None, memory: None }, None) => {}
                (Known { cpu: Some(cpu), memory: Some(memory) }, Some(truth)) => {
                    prop_assert!(cpu.0 >= truth, "{} < {truth}", cpu.0);
                    // 1 % of the largest capacity that was seen, and what rounding a width up to whole units adds.
                    prop_assert!(cpu.0 <= truth + oracle.largest / 100 + 2, "{} for {truth}", cpu.0);
                    prop_assert!(memory.0 >= truth * GIB);
                    prop_assert!(memory.0 <= truth * GIB + oracle.largest * GIB / 100);
                }
                (known, truth) => prop_assert!(false, "{known:?} for {truth:?}"),
            }
        }
        prop_assert!(week.kept().cpu.len() <= HOURS);
        prop_assert!(week.watched() < Span::from_secs(168 * 3660));
    }
}
