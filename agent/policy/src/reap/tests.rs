//! The budget by table, and any history against its bounds, counted second by second.

use alloc::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::sample::attempt;
use crate::settings::Squeezed;

const CAPACITY: MilliCpu = MilliCpu(4000);
const LATE: Span = Span::from_secs(1_000_000);

fn dying(number: u128, tier: Tier, kill_at: Span) -> Dying {
    Dying {
        attempt: attempt(number),
        tier,
        kill_at,
    }
}

fn at(secs: u64) -> Span {
    Span::from_secs(secs)
}

#[test]
fn a_tenth_of_the_machine_and_enough_on_a_small_one() {
    for (capacity, budget) in [
        (500, 100),
        (2000, 200),
        (4000, 400),
        (4090, 400),
        (128_000, 12_800),
    ] {
        assert_eq!(Budget::of(MilliCpu(capacity)), MilliCpu(budget));
    }
}

#[test]
fn who_starves_is_short_of_what_it_needs_to_die() {
    let set = |cpu: Option<u64>, squeezed| Setpoints {
        cpu: cpu.map(MilliCpu),
        squeezed,
        ..Setpoints::default()
    };
    for (setpoints, standard, burst) in [
        (set(None, Squeezed::No), false, false),
        (set(None, Squeezed::Burst), false, true),
        (set(None, Squeezed::All), true, true),
        (set(Some(410), Squeezed::No), false, false),
        (set(Some(400), Squeezed::No), true, true),
    ] {
        assert_eq!(
            starves(&setpoints, Tier::Standard, CAPACITY),
            standard,
            "{setpoints:?}"
        );
        assert_eq!(starves(&setpoints, Tier::Burst, CAPACITY), burst, "{setpoints:?}");
    }
}

#[test]
fn it_lasts_until_the_victim_is_gone_or_the_bound_is_over_and_once_more_after_the_grace() {
    let mut reaper = Reaper::default();
    let one = [dying(1, Tier::Burst, at(130))];
    let burst = Some(Budget {
        cpu: MilliCpu(400),
        standard: false,
        burst: true,
    });
    let all = |_| true;
    assert_eq!(reaper.step(at(100), CAPACITY, &one, all), burst);
    // It has what it needs now, and keeps it.
    assert_eq!(reaper.step(at(109), CAPACITY, &one, |_| false), burst);
    assert_eq!(reaper.step(at(110), CAPACITY, &one, all), None, "the bound");
    assert_eq!(reaper.step(at(129), CAPACITY, &one, all), None);
    assert_eq!(reaper.step(at(130), CAPACITY, &one, all), burst, "it is killed");
    assert_eq!(reaper.step(at(140), CAPACITY, &one, all), None);
    // 10 s and 10 s of 400m.
    assert_eq!(reaper.granted(), at(8));
    // Another one, with more than enough.
    let other = [dying(2, Tier::Standard, LATE)];
    assert_eq!(reaper.step(at(141), CAPACITY, &other, |_| false), None);
    assert!(reaper.step(at(142), CAPACITY, &other, all).is_some());
    assert_eq!(reaper.step(at(143), CAPACITY, &[], all), None, "gone");
    assert_eq!(reaper.granted(), Span::from_millis(8_400));
}

#[test]
fn only_the_slices_on_the_way_leave_the_idle_class() {
    let budget = Budget {
        cpu: MilliCpu(400),
        standard: false,
        burst: true,
    };
    let settings = |slice| SliceSettings {
        slice,
        ..crate::settings::slice_settings(
            &crate::line::Line::fixed(
                &crate::sample::machine(1, 4, 1, 8),
                0,
                &crate::node_policy::NodePolicy::default(),
            ),
            &crate::settings::Pinning::Cpuset,
            &Setpoints::default(),
            loadline_model::Bytes::ZERO,
        )[Slice::ALL.iter().position(|one| *one == slice).unwrap()]
        .clone()
    };
    for (slice, weight, quota) in [
        (Slice::Root, CpuWeight::Weight(100), Limit::At(MilliCpu(400))),
        (Slice::Burst, CpuWeight::Weight(1000), Limit::At(MilliCpu(400))),
    ] {
        let before = settings(slice);
        let after = budget.over(before.clone());
        assert_eq!((after.cpu_weight, after.cpu_quota), (weight, quota));
        // Nothing else is touched.
        let (cpu_weight, cpu_quota) = (before.cpu_weight, before.cpu_quota);
        assert_eq!(
            SliceSettings {
                cpu_weight,
                cpu_quota,
                ..after
            },
            before
        );
    }
    assert_eq!(budget.over(settings(Slice::Standard)), settings(Slice::Standard));
}

proptest! {
    /// By each second: a budget only while someone is in one of its two times; its sum is what is counted.
    #[test]
    fn never_for_longer_nor_for_nobody(
        lives in proptest::collection::vec((0..60_u64, 1..40_u64, 0..30_u64, any::<bool>()), 0..6),
        starved in proptest::collection::vec(any::<bool>(), 80),
    ) {
        let mut reaper = Reaper::default();
        let mut sum = 0;
        for (second, starved) in (0..80_u64).zip(starved) {
            let there: Vec<(u64, Dying)> = (1..)
                .zip(&lives)
                .filter(|(_, (begin, length, ..))| (*begin..begin + length).contains(&second))
                .map(|(number, (begin, _, grace, burst))| {
                    let tier = if *burst { Tier::Burst } else { Tier::Standard };
                    (*begin, dying(number, tier, at(begin + grace)))
                })
                .collect();
            let list: Vec<Dying> = there.iter().map(|(_, one)| *one).collect();
            let budget = reaper.step(at(second), CAPACITY, &list, |_| starved);
            prop_assert_eq!(reaper.granted(), Span::from_millis(sum));
            for slice in [Slice::Standard, Slice::Burst] {
                let in_time = there.iter().any(|(begin, one)| {
                    let killed = one.kill_at.0 / 1_000_000;
                    Slice::of(one.tier) == slice
                        && ((*begin..begin + 10).contains(&second) || (killed..killed + 10).contains(&second))
                });
                let granted = budget.is_some_and(|budget| budget.touches(slice));
                prop_assert!(!granted || in_time, "{second} {slice:?}");
                prop_assert!(granted || !in_time || !starved, "{second} {slice:?}");
            }
            sum += if budget.is_some() { 400 } else { 0 };
        }
    }
}
