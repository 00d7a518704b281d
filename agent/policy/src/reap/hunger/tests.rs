//! By table.

use super::*;

const CAPACITY: MilliCpu = MilliCpu(4000);

/// After a second in which it used and waited so many milliseconds.
fn after(used: u64, waited: u64) -> bool {
    let mut hunger = Hunger::default();
    let fed = |used, waited| {
        Some(Fed {
            used: Span::from_millis(used),
            waited: Span::from_millis(waited),
        })
    };
    hunger.look(Span::from_secs(10), CAPACITY, Slice::Burst, fed(5000, 7000));
    assert!(!hunger.starves(Slice::Burst), "one look tells nothing");
    let later = fed(5000 + used, 7000 + waited);
    hunger.look(Span::from_secs(11), CAPACITY, Slice::Burst, later);
    assert!(!hunger.starves(Slice::Root), "nobody looked");
    hunger.starves(Slice::Burst)
}

#[test]
fn who_waits_and_gets_less_than_its_end_needs_starves() {
    for (used, waited, starves) in [
        (0, 1000, true),
        (399, 501, true),
        // It gets what it would be granted.
        (400, 1000, false),
        // It does not want more.
        (0, 500, false),
        (0, 0, false),
    ] {
        assert_eq!(after(used, waited), starves, "{used} {waited}");
    }
}

#[test]
fn only_two_looks_at_the_same_slice_tell_something_of_now() {
    let mut hunger = Hunger::default();
    let mut look = |ms: u64, fed: Option<u64>| {
        let fed = fed.map(|waited| Fed {
            used: Span::ZERO,
            waited: Span::from_millis(waited),
        });
        hunger.look(Span::from_millis(ms), CAPACITY, Slice::Standard, fed);
        hunger.starves(Slice::Standard)
    };
    assert!(!look(1000, Some(0)) && look(2000, Some(1000)));
    assert!(!look(2100, Some(1100)), "too soon");
    assert!(!look(9000, Some(8000)), "too late");
    assert!(look(10_000, Some(9000)));
    assert!(!look(11_000, None) && !look(12_000, Some(11_000)), "it was gone");
}
