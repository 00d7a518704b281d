//! The agent's one door to wall time. Everything else takes it as a value or through this trait, so that tests
//! can let a day pass in a moment.

use std::fmt::Debug;

use loadline_model::WallTime;

use crate::host::clock::Clock as _;
pub use crate::host::clock::SystemClock;

/// Tells the wall time.
pub trait Clock: Debug + Send + Sync {
    /// Now, UTC.
    fn now(&self) -> WallTime;
}

impl Clock for SystemClock {
    fn now(&self) -> WallTime {
        self.wall()
    }
}

/// RFC 3339 to the second, for people.
pub(crate) fn shown(time: WallTime) -> String {
    let secs = time.0.div_euclid(1_000_000);
    let (days, second) = (secs.div_euclid(86_400), secs.rem_euclid(86_400));
    let (year, month, day) = civil(days);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z",
        second / 3600,
        second / 60 % 60,
        second % 60
    )
}

/// Days since 1970 to a date of the Gregorian calendar: shift the era to begin on 1 March, so that leap days
/// come last (146,097 days are 400 years).
const fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    let year = year_of_era + era * 400 + if month <= 2 { 1 } else { 0 };
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (secs, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_767_225_599, "2025-12-31T23:59:59Z"),
            (4_102_444_800, "2100-01-01T00:00:00Z"),
        ] {
            assert_eq!(shown(WallTime(secs * 1_000_000)), text);
        }
    }
}
