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
        spare: Bytes::from_mib(1),
        waited: Some(Span::from_millis(waited_ms)),
    }
}

/// The looks of so many seconds, and when it first hung.
fn first(looks: impl IntoIterator<Item = Memory>) -> Option<usize> {
    let mut watch = Watch::default();
    let mut looks = looks.into_iter().enumerate();
    looks.find_map(|(second, memory)| {
        let now = Span::from_secs(100 + second as u64);
        (!watch.look(now, &[(attempt(1), memory)]).is_empty()).then_some(second)
    })
}

#[test]
fn who_only_waits_for_memory_hangs_after_the_bound() {
    // It meets its limit once, and the first pass never ends.
    let hung = (0..20).map(|second| full(u64::from(second > 0), second * 900));
    assert_eq!(first(hung), Some(4));
    // Squeezed when it stood there already.
    assert_eq!(first((0..20).map(|second| full(7, second * 900))), Some(3));
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
        spare: Bytes::from_mib(if second % 3 == 0 { 5 } else { 1 }),
        ..full(second * 10, second * 990)
    };
    assert_eq!(first((0..100).map(mixed)), None);
}

#[test]
fn who_does_something_else_most_of_the_time_goes_on() {
    assert_eq!(first((0..100).map(|second| full(second * 9, second * 700))), None);
    // It holds nearly all, and has never asked for more.
    assert_eq!(first((0..100).map(|second| full(0, second * 990))), None);
    let below = |second: u64| Memory {
        used: Bytes::from_mib(60),
        waited: None,
        ..full(second, 0)
    };
    assert_eq!(first((0..100).map(below)), None);
    // A pause begins it anew.
    let pause = |second: u64| full(9 + second, (second - u64::from(second >= 3)) * 900);
    assert_eq!(first((0..20).map(pause)), Some(7));
}

#[test]
fn where_waiting_is_not_counted_it_must_meet_its_limit_again_and_again() {
    let uncounted = |met| Memory {
        waited: None,
        ..full(met, 0)
    };
    assert_eq!(first((0..20).map(uncounted)), Some(4));
    assert_eq!(first((0..20).map(|second| uncounted(second.min(2)))), None);
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
    assert_eq!((look(4, true), look(5, true), look(6, true)), (None, None, None));
    assert_eq!(look(7, true), Some(Hang::Stands(Span::from_secs(3))));
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
    /// Nobody hangs but after whole seconds of standing there, each with nothing spare, no room, and waiting.
    #[test]
    fn nobody_hangs_without_whole_seconds_of_it(
        looks in proptest::collection::vec((0..3_u64, 0..1000_u64, 0..8_u64, 56..=64_u64), 1..40),
    ) {
        let mut watch = Watch::default();
        let (mut met, mut waited) = (0, 0);
        let mut told = Vec::new();
        for (second, (more, ms, spare, used)) in (1..).zip(looks) {
            met += more;
            // Mostly long waits, or hardly any history would reach the bound.
            let ms = 1000 - ms * ms / 1000;
            waited += ms;
            let memory = Memory { used: Bytes::from_mib(used), spare: Bytes::from_mib(spare), ..full(met, waited) };
            // 3 % and 6 % of 64 MiB lie between whole ones.
            told.push((used >= 63 && spare <= 3, ms >= 750));
            let hangs = !watch.look(Span::from_secs(second), &[(attempt(1), memory)]).is_empty();
            let stood = told.iter().rev().take(4).filter(|(stuck, _)| *stuck).count() == 4;
            let waits = told.iter().rev().take(3).all(|(_, waits)| *waits);
            prop_assert!(!hangs || (stood && waits && met > 0), "{told:?}");
        }
    }
}
