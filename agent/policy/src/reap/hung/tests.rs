//! Stories of one worker, a look a second; and any history against the rule, counted apart.

use proptest::prelude::*;

use super::*;
use crate::sample::attempt;

const LIMIT: Bytes = Bytes::from_mib(64);

/// Full, and in use to the last page.
fn full(met: u64, waited_ms: u64) -> Memory {
    Memory {
        used: LIMIT,
        limit: LIMIT,
        met,
        killed: 0,
        spare: Bytes(12 << 10),
        waited: Some(Span::from_millis(waited_ms)),
    }
}

/// The looks of so many seconds, and when it first hung.
fn first(looks: impl IntoIterator<Item = Memory>) -> Option<u64> {
    let mut watch = Watch::default();
    let mut looks = (0..).zip(looks);
    looks.find_map(|(second, memory)| {
        let told = watch.look(Span::from_secs(100 + second), &[(attempt(1), memory)]);
        told.iter()
            .any(|(_, hang)| !matches!(hang, Hang::Take(_)))
            .then_some(second)
    })
}

#[test]
fn who_only_waits_for_memory_hangs_after_the_bound() {
    // It meets its limit once, and the first pass never ends.
    let hung = (0..20).map(|second| full(u64::from(second > 0), second * 900));
    assert_eq!(first(hung), Some(3));
    // Squeezed when it stood there already.
    assert_eq!(first((0..20).map(|second| full(7, second * 900))), Some(2));
    // On two thousandths of a CPU one pass comes every few seconds.
    assert_eq!(first((0..20).map(|second| full(7 + second / 4, 0))), Some(4));
}

#[test]
fn page_cache_is_no_memory_in_use() {
    let stream = |second: u64| Memory {
        spare: Bytes::from_mib(40),
        ..full(second * 1000, second * 990)
    };
    assert_eq!(first((0..100).map(stream)), None);
    // Nor what it reads anew from time to time.
    let mixed = |second: u64| Memory {
        spare: Bytes(if second.is_multiple_of(3) { 700 << 10 } else { 0 }),
        ..full(second * 10, second * 990)
    };
    assert_eq!(first((0..100).map(mixed)), None);
}

#[test]
fn the_last_of_it_is_taken_for_who_asks() {
    let look = |met: u64, limit: Bytes, spare: Bytes| {
        let memory = Memory {
            used: limit,
            limit,
            spare,
            ..full(met, 0)
        };
        let told = Watch::default().look(Span::from_secs(1), &[(attempt(1), memory)]);
        told.first().map(|(_, hang)| *hang)
    };
    for (met, spare, take) in [(3, 1, true), (3, 7, true), (0, 1, false), (3, 9, false)] {
        let spare = Bytes::from_mib(spare);
        let wanted = take.then_some(Hang::Take(spare));
        assert_eq!(look(met, LIMIT, spare), wanted, "{met} {spare}");
    }
    let (large, most) = (Bytes::from_gib(64), Bytes::from_mib(16));
    assert_eq!(look(3, large, Bytes::from_gib(1)), Some(Hang::Take(most)));
}

#[test]
fn who_asks_for_no_more_goes_on() {
    // It is slow, and was refused a large page some time ago.
    assert_eq!(first((0..100).map(|second| full(44, second * 700))), None);
    // It holds nearly all, and has never asked for more.
    assert_eq!(first((0..100).map(|second| full(0, second * 990))), None);
    let below = |second: u64| Memory {
        used: Bytes(64_800 << 10),
        ..full(second, second * 990)
    };
    assert_eq!(first((0..100).map(below)), None);
    // Once in a while.
    assert_eq!(first((0..200).map(|second| full(9 + second / 20, 0))), None);
}

#[test]
fn where_waiting_is_not_counted_it_must_meet_its_limit_again() {
    let uncounted = |met| Memory {
        waited: None,
        ..full(met, 0)
    };
    assert_eq!(first((0..20).map(uncounted)), Some(3));
    assert_eq!(first((0..20).map(|second| uncounted(second.min(1)))), None);
}

#[test]
fn whom_the_kernel_killed_needs_no_proof() {
    let killed = Memory {
        used: Bytes::from_mib(3),
        killed: 1,
        ..full(40, 0)
    };
    let mut watch = Watch::default();
    let looked = watch.look(
        Span::from_secs(9),
        &[(attempt(1), killed), (attempt(2), full(40, 0))],
    );
    assert_eq!(looked, [(attempt(1), Hang::Killed)]);
    assert_eq!(
        sentence(&killed, Some(LIMIT), Hang::Killed),
        "it reached its memory limit of 64MiB (peak 64MiB); ask for more with `worker.memory`, or use less"
    );
}

#[test]
fn who_did_not_starve_meanwhile_is_looked_at_anew() {
    let mut watch = Watch::default();
    let mut look = |second: u64, starves: bool| {
        let one = (attempt(1), full(40, second * 1000));
        let looked = watch.look(
            Span::from_secs(second),
            if starves { core::slice::from_ref(&one) } else { &[] },
        );
        looked.first().map(|(_, hang)| *hang)
    };
    assert_eq!((look(1, true), look(2, true), look(3, false)), (None, None, None));
    assert_eq!((look(4, true), look(5, true)), (None, None));
    assert_eq!(look(6, true), Some(Hang::Stands(Span::from_secs(2))));
    // A gap says nothing of what was in it.
    assert_eq!(look(20, true), None);
}

#[test]
fn it_is_told_what_stood_where_and_who_ended_it() {
    let told = sentence(&full(3, 0), None, Hang::Stands(Span::from_secs(4)));
    assert_eq!(
        told,
        "it reached its memory limit of 64MiB (peak 64MiB) and stood there for 4s, since production used the CPUs \
         that the kernel needs to end it; loadline-warden ended it; ask for more with `worker.memory`, or use less"
    );
}

proptest! {
    /// Nobody hangs but after whole seconds of standing there, each with nothing spare, no room, and asking for more.
    #[test]
    fn nobody_hangs_without_whole_seconds_of_it(
        looks in proptest::collection::vec((0..2_u64, 0..1000_u64, 0..4_u64, 0..4_u64), 1..40),
    ) {
        let mut watch = Watch::default();
        let (mut met, mut waited) = (0, 0);
        let mut told = Vec::new();
        for (second, (more, ms, spare, left)) in (1..).zip(looks) {
            // Mostly what makes it hang, or hardly any history would reach the bound.
            let (spare, left) = (spare * left, left * spare * spare);
            met += more;
            waited += ms;
            let quarters = |count| Bytes(count << 18);
            let memory = Memory {
                used: LIMIT.minus(quarters(left)),
                spare: quarters(spare),
                ..full(met, waited)
            };
            // Two quarters of a MiB are within each bound, three are not.
            told.push((left < 3 && spare < 3, more, ms));
            let looked = watch.look(Span::from_secs(second), &[(attempt(1), memory)]);
            let hangs = looked.iter().any(|(_, hang)| !matches!(hang, Hang::Take(_)));
            let stood: Vec<_> = told.iter().rev().take_while(|(stuck, ..)| *stuck).collect();
            let asked: u64 = stood.iter().map(|(_, more, _)| *more).sum();
            let waits: u64 = stood.iter().map(|(.., ms)| *ms).sum();
            let asks = met > 0 && (asked > 1 || waits >= 1500);
            prop_assert!(!hangs || (stood.len() > 2 && asks), "{told:?}");
        }
    }
}
