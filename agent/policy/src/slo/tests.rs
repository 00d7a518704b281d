use super::histogram::{Buckets, BucketsError, Scrapes};
use super::window::Samples;
use super::*;
use proptest::prelude::*;

const TARGET: Span = Span::from_millis(20);

fn at(secs: u64) -> Span {
    Span::from_secs(1000 + secs)
}

#[test]
fn slack_is_rounded_down_and_of_one_kind() {
    let p99 = |millis| Measured::P99(Span::from_millis(millis));
    let target = SloTarget::P99(TARGET);
    for (millis, thousandths) in [(0, 1000), (10, 500), (20, 0), (21, -50), (60, -2000)] {
        assert_eq!(slack(target, p99(millis)), Some(thousandths), "{millis}");
    }
    assert_eq!(
        slack(target, Measured::P99(Span(20_001))),
        Some(-1),
        "just missed is missed"
    );
    assert_eq!(slack(target, Measured::P99(Span(u64::MAX))), Some(i32::MIN));
    let below = SloTarget::Below(Millionths(500_000));
    assert_eq!(slack(below, Measured::Value(Millionths(-500_000))), Some(2000));
    assert_eq!(slack(below, Measured::Value(Millionths(750_000))), Some(-500));
    assert_eq!(slack(below, p99(1)), None);
    assert_eq!(slack(target, Measured::Value(Millionths(1))), None);
}

#[test]
fn what_is_old_or_was_not_measured_is_unknown() {
    let reading = |measured| Some(Reading { measured, at: at(0) });
    let good = Some(Measured::P99(Span::from_millis(10)));
    let stands = |reading, now| standing(SloTarget::P99(TARGET), Span::from_secs(5), reading, now);
    assert_eq!(stands(reading(good), at(15)), Standing::Slack(500));
    assert_eq!(stands(reading(good), at(15).plus(Span(1))), Standing::Unknown);
    assert_eq!(stands(reading(None), at(0)), Standing::Unknown);
    assert_eq!(stands(None, at(0)), Standing::Unknown);
    // However often it is measured, the warden is told once a second.
    let often = |now| standing(SloTarget::P99(TARGET), Span::from_millis(100), reading(good), now);
    assert_eq!(often(at(3)), Standing::Slack(500));
    assert_eq!(often(at(3).plus(Span(1))), Standing::Unknown);
}

#[test]
fn the_worst_is_told_and_unknown_is_never_good() {
    use Standing::{Slack, Unknown};
    for (standings, said) in [
        (&[][..], Told::None),
        (&[Slack(700), Slack(300)], Told::Slack(300)),
        (&[Slack(700), Unknown], Told::Unknown),
        (&[Slack(100), Unknown], Told::Unknown),
        (&[Slack(99), Unknown], Told::Slack(99)),
        (&[Unknown, Slack(-5), Slack(900)], Told::Slack(-5)),
        (&[Unknown], Told::Unknown),
    ] {
        assert_eq!(told(standings.iter().copied()), said, "{standings:?}");
    }
}

#[test]
fn a_percentile_takes_a_hundred_samples_unless_it_is_lost_already() {
    let mut samples = Samples::default();
    for second in 0..99 {
        assert_eq!(samples.p99(at(second), TARGET), None);
        samples.add(at(second), Span::from_millis(3));
    }
    samples.add(at(99), Span::from_millis(500));
    assert_eq!(
        samples.p99(at(99), TARGET),
        Some(Span::from_millis(3)),
        "one of 100 may"
    );
    assert_eq!(samples.p99(at(300), TARGET), None, "all of it is long ago");
    let mut samples = Samples::default();
    samples.add(at(0), Span::from_millis(500));
    samples.add(at(1), Span::from_millis(2));
    assert_eq!(samples.p99(at(1), TARGET), None);
    samples.add(at(2), Span::from_millis(40));
    assert_eq!(
        samples.p99(at(2), TARGET),
        Some(Span::from_millis(40)),
        "two of 100 may not"
    );
}

#[test]
fn a_busy_service_is_judged_by_its_last_ten_seconds() {
    let mut samples = Samples::default();
    for second in 0..40 {
        for _ in 0..50 {
            samples.add(at(second), Span::from_millis(if second < 20 { 100 } else { 1 }));
        }
    }
    assert_eq!(samples.p99(at(39), TARGET), Some(Span::from_millis(1)));
}

#[test]
fn an_outage_that_is_over_is_not_known_to_be_missed_for_two_minutes_more() {
    let ms = Span::from_millis;
    let mut samples = Samples::default();
    let mut told = Vec::new();
    for second in 0..400 {
        // Restarted at 200, for three seconds; each probe then counts with its whole time-out.
        let took = if (200..203).contains(&second) { 1000 } else { 5 };
        samples.add(at(second), ms(took));
        told.push(samples.p99(at(second), TARGET));
    }
    assert_eq!(told[199], Some(ms(5)));
    assert_eq!(told[200], Some(ms(5)), "one of a hundred");
    assert_eq!(
        (told[201], told[202], told[211]),
        (Some(ms(1000)), Some(ms(1000)), Some(ms(1000)))
    );
    assert!(
        told[213..299].iter().all(Option::is_none),
        "neither missed nor kept"
    );
    assert_eq!(told[302], Some(ms(5)));
    // One that goes on is missed for as long as it does, and so is one that comes back every few seconds.
    let mut samples = Samples::default();
    for second in 0..300 {
        samples.add(at(second), ms(if second % 8 == 0 { 100 } else { 5 }));
        let missed = samples.p99(at(second), TARGET).is_some_and(|p99| p99 > TARGET);
        assert_eq!(missed, second >= 8, "{second}");
    }
}

fn page(counts: [u64; 4]) -> String {
    let [a, b, c, all] = counts;
    format!(
        "# TYPE wait_seconds histogram\n\
         wait_seconds_bucket{{code=\"200\",le=\"0.01\"}} {a}\n\
         wait_seconds_bucket{{le=\"2.5e-02\",code=\"200\"}} {b}\n\
         wait_seconds_bucket{{code=\"200\", le=\"0.1\"}} {c} 1700000000000\n\
         wait_seconds_bucket{{code=\"200\",le=\"+Inf\"}} {all}\n\
         wait_seconds_bucket{{code=\"500\",le=\"+Inf\"}} 0\n\
         wait_seconds_sum 3.5\nwait_seconds_count {all}\nwait_seconds_buckets{{le=\"1\"}} 99\n"
    )
}

fn scrapes(pages: &[[u64; 4]]) -> Scrapes {
    let mut scrapes = Scrapes::default();
    for (second, counts) in (0..).step_by(5).zip(pages) {
        let buckets = Buckets::read(&page(*counts), "wait_seconds").unwrap();
        scrapes.add(at(second), buckets);
    }
    scrapes
}

#[test]
fn the_buckets_between_two_scrapes_give_the_percentile() {
    type Case = (&'static [[u64; 4]], Option<u64>, &'static str);
    let cases: [Case; 8] = [
        (&[[0, 0, 0, 0]], None, "one scrape has no difference"),
        (
            &[[5, 9, 9, 9], [205, 209, 209, 209]],
            Some(9_900),
            "within the first bucket",
        ),
        (
            &[[0, 0, 0, 0], [0, 100, 100, 100]],
            Some(24_850),
            "within the second",
        ),
        (&[[0, 0, 0, 0], [98, 99, 99, 99]], None, "too few"),
        (
            &[[0, 0, 0, 0], [90, 96, 99, 99]],
            Some(25_001),
            "too few, but lost already",
        ),
        (
            &[[0, 0, 0, 0], [90, 90, 90, 100]],
            Some(100_001),
            "beyond every bound",
        ),
        (&[[500, 500, 500, 500], [3, 3, 3, 3]], None, "started anew"),
        (
            &[[0, 0, 0, 0], [0, 0, 150, 150], [150, 150, 300, 300]],
            Some(9_900),
            "the shortest past with enough",
        ),
    ];
    for (pages, micros, why) in cases {
        assert_eq!(scrapes(pages).p99(TARGET), micros.map(Span), "{why}");
    }
    let beyond = scrapes(&[[0, 0, 0, 0], [90, 90, 90, 100]]);
    assert_eq!(
        beyond.p99(Span::from_secs(1)),
        None,
        "anything above 100 ms may be below 1 s"
    );
}

#[test]
fn a_page_without_the_histogram_is_refused() {
    for (page, problem) in [
        ("", BucketsError::Missing),
        ("wait_seconds_sum 3\n", BucketsError::Missing),
        ("wait_seconds_bucket{le=\"1\"} 3\n", BucketsError::Endless),
        ("wait_seconds_bucket{code=\"1\"} 3\n", BucketsError::Number),
        ("wait_seconds_bucket{le=\"x\"} 3\n", BucketsError::Number),
        ("wait_seconds_bucket{le=\"+Inf\"} NaN\n", BucketsError::Number),
    ] {
        assert_eq!(Buckets::read(page, "wait_seconds"), Err(problem), "{page}");
    }
}

proptest! {
    /// Against a plain definition: at least 99 % lie at or below it, and fewer than that below it.
    #[test]
    fn the_percentile_is_the_least_that_holds_ninety_nine_of_a_hundred(
        took in proptest::collection::vec(0..100_000_u64, 100..400),
    ) {
        let mut samples = Samples::default();
        took.iter().for_each(|took| samples.add(at(0), Span(*took)));
        let Span(p99) = samples.p99(at(0), TARGET).unwrap();
        let within = took.iter().filter(|took| **took <= p99).count();
        let below = took.iter().filter(|took| **took < p99).count();
        prop_assert!(within * 100 >= took.len() * 99 && below * 100 < took.len() * 99);
    }

    /// The interpolated percentile lies in the bucket that holds the true one.
    #[test]
    fn a_histogram_s_percentile_lies_in_the_true_one_s_bucket(
        took in proptest::collection::vec(0..100_000_u64, 100..400),
    ) {
        let within = |bound: u64| took.iter().filter(|took| **took <= bound).count() as u64;
        let counts = [within(10_000), within(25_000), within(100_000), took.len() as u64];
        let Span(p99) = scrapes(&[[0; 4], counts]).p99(TARGET).unwrap();
        let mut sorted = took.clone();
        sorted.sort_unstable();
        let truth = sorted[(took.len() * 99).div_ceil(100) - 1];
        let bucket = |value: u64| [10_000, 25_000, 100_000].iter().position(|bound| value <= *bound);
        prop_assert_eq!(bucket(p99), bucket(truth), "{} {}", p99, truth);
    }
}
