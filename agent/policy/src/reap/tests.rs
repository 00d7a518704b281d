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
    let (no, of_lent) = (Shortage::No, Shortage::OfLent);
    for (setpoints, standard, burst) in [
        (set(None, Squeezed::No), no, no),
        (set(None, Squeezed::Burst), no, of_lent),
        (set(None, Squeezed::All), of_lent, of_lent),
        (set(Some(410), Squeezed::No), no, no),
        (set(Some(400), Squeezed::No), of_lent, of_lent),
    ] {
        let of = |tier| shortage(&setpoints, &Hunger::default(), tier, CAPACITY);
        assert_eq!(
            (of(Tier::Standard), of(Tier::Burst)),
            (standard, burst),
            "{setpoints:?}"
        );
    }
}

#[test]
fn who_may_have_enough_and_gets_nothing_is_short_of_it_too() {
    for (hungry, standard, burst) in [
        (Slice::Root, Shortage::OfLent, Shortage::OfLent),
        (Slice::Burst, Shortage::No, Shortage::WithinLent),
        (Slice::Standard, Shortage::No, Shortage::No),
    ] {
        let mut hunger = Hunger::default();
        for second in [1, 2] {
            let fed = Fed {
                used: Span::ZERO,
                waited: at(second),
            };
            hunger.look(at(second), CAPACITY, hungry, Some(fed));
        }
        let of = |tier| shortage(&Setpoints::default(), &hunger, tier, CAPACITY);
        assert_eq!(
            (of(Tier::Standard), of(Tier::Burst)),
            (standard, burst),
            "{hungry:?}"
        );
    }
}

const fn short(_: Tier) -> Shortage {
    Shortage::OfLent
}

const fn enough(_: Tier) -> Shortage {
    Shortage::No
}

#[test]
fn it_lasts_until_the_victim_is_gone_or_the_bound_is_over_and_once_more_after_the_grace() {
    let mut reaper = Reaper::default();
    let one = [dying(1, Tier::Burst, at(130))];
    let burst = Some(Budget {
        cpu: MilliCpu(400),
        lent: true,
        standard: false,
        burst: true,
    });
    assert_eq!(reaper.step(at(100), CAPACITY, &one, &[], short), burst);
    // It has what it needs now, and keeps it.
    assert_eq!(reaper.step(at(109), CAPACITY, &one, &[], enough), burst);
    assert_eq!(
        reaper.step(at(110), CAPACITY, &one, &[], short),
        None,
        "the bound"
    );
    assert_eq!(reaper.step(at(129), CAPACITY, &one, &[], short), None);
    assert_eq!(
        reaper.step(at(130), CAPACITY, &one, &[], short),
        burst,
        "it is killed"
    );
    assert_eq!(reaper.step(at(140), CAPACITY, &one, &[], short), None);
    // 10 s and 10 s of 400m.
    assert_eq!(reaper.granted(), at(8));
    // Another one, with more than enough.
    let other = [dying(2, Tier::Standard, LATE)];
    assert_eq!(reaper.step(at(141), CAPACITY, &other, &[], enough), None);
    assert!(reaper.step(at(142), CAPACITY, &other, &[], short).is_some());
    assert_eq!(reaper.step(at(143), CAPACITY, &[], &[], short), None, "gone");
    assert_eq!(reaper.granted(), Span::from_millis(8_400));
}

#[test]
fn a_tier_that_starves_beside_the_other_takes_nothing_of_production() {
    let mut reaper = Reaper::default();
    let within = |_| Shortage::WithinLent;
    let one = [dying(1, Tier::Burst, at(130))];
    let burst = Budget {
        cpu: MilliCpu(400),
        lent: false,
        standard: false,
        burst: true,
    };
    assert_eq!(reaper.step(at(100), CAPACITY, &one, &[], within), Some(burst));
    assert_eq!(
        reaper.step(at(110), CAPACITY, &one, &[], within),
        None,
        "the bound"
    );
    // Whoever begins is helped until it has begun, and never by production, whoever takes all.
    for (second, shortage) in [
        (111, Shortage::OfLent),
        (140, Shortage::WithinLent),
        (200, Shortage::No),
    ] {
        let budget = reaper.step(at(second), CAPACITY, &[], &[Tier::Burst], |_| shortage);
        assert_eq!(budget, Some(burst), "{second}");
    }
    assert_eq!(reaper.step(at(201), CAPACITY, &[], &[], within), None);
    assert_eq!(reaper.granted(), Span::ZERO);
    for (slice, quota, wanted) in [
        (Slice::Root, Limit::At(MilliCpu(900)), Limit::At(MilliCpu(900))),
        (Slice::Burst, Limit::At(MilliCpu(50)), Limit::At(MilliCpu(400))),
        (Slice::Burst, Limit::At(MilliCpu(800)), Limit::At(MilliCpu(800))),
        (Slice::Burst, Limit::Max, Limit::Max),
        (Slice::Standard, Limit::Max, Limit::Max),
    ] {
        assert_eq!(burst.quota(slice, quota), wanted, "{slice:?}");
    }
}

#[test]
fn only_the_slices_on_the_way_leave_the_idle_class() {
    let budget = Budget {
        cpu: MilliCpu(400),
        lent: true,
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
            let short = if starved { Shortage::OfLent } else { Shortage::No };
            let budget = reaper.step(at(second), CAPACITY, &list, &[], |_| short);
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
