//! Times of the week: when something is lent, or may start. Which local time it is, is an argument.

use alloc::string::String;
use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Serialize};

/// Minutes of a day.
const DAY: u16 = 24 * 60;

/// A day of the week.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[repr(u8)]
#[expect(missing_docs, reason = "days need no explanation")]
pub enum Weekday {
    Mon,
    Tue,
    Wed,
    Thu,
    Fri,
    Sat,
    Sun,
}

impl Weekday {
    /// Monday first.
    pub const ALL: [Self; 7] = [
        Self::Mon,
        Self::Tue,
        Self::Wed,
        Self::Thu,
        Self::Fri,
        Self::Sat,
        Self::Sun,
    ];

    const fn word(self) -> &'static str {
        ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"][self as usize]
    }

    const fn before(self) -> Self {
        Self::ALL[(self as usize + 6) % 7]
    }
}

/// A set of days of the week; written `Mon-Fri`, `Sat,Sun` or `Fri-Mon`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Days(u8);

impl Days {
    /// Every day.
    pub const ALL: Self = Self(0x7f);

    /// True if the day is in it.
    pub const fn contains(self, day: Weekday) -> bool {
        self.0 & (1 << day as u8) != 0
    }
}

/// A text that does not name days.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` does not name days: write \"Mon-Fri\", \"Sat,Sun\" or \"Mon\"")]
pub struct ParseDaysError(String);

impl FromStr for Days {
    type Err = ParseDaysError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || ParseDaysError(text.into());
        let day = |word: &str| Weekday::ALL.into_iter().find(|day| day.word() == word.trim());
        let mut days = Self(0);
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last) = (day(first).ok_or_else(bad)?, day(last).ok_or_else(bad)?);
            for next in Weekday::ALL.into_iter().cycle().skip(first as usize) {
                days.0 |= 1 << next as u8;
                if next == last {
                    break;
                }
            }
        }
        Ok(days)
    }
}

impl fmt::Display for Days {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        let mut run: Option<(Weekday, Weekday)> = None;
        let mut tell = |f: &mut fmt::Formatter<'_>, (first, last): (Weekday, Weekday)| {
            write!(f, "{separator}{}", first.word())?;
            separator = ",";
            if first == last {
                Ok(())
            } else {
                write!(f, "-{}", last.word())
            }
        };
        for day in Weekday::ALL {
            run = match (run, self.contains(day)) {
                (None, true) => Some((day, day)),
                (Some((first, _)), true) => Some((first, day)),
                (Some(done), false) => {
                    tell(f, done)?;
                    None
                }
                (None, false) => None,
            };
        }
        run.map_or(Ok(()), |done| tell(f, done))
    }
}

/// Minutes since midnight, 0 to 1440; written `19:00`, and `24:00` for the end of the day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TimeOfDay(u16);

/// A text that is not a time of day.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a time of day: write \"00:00\" to \"24:00\"")]
pub struct ParseTimeOfDayError(String);

impl TimeOfDay {
    /// Minutes since midnight, 0 to 1440.
    pub const fn minutes(self) -> u16 {
        self.0
    }
}

impl FromStr for TimeOfDay {
    type Err = ParseTimeOfDayError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let two = |digits: &str| -> Option<u16> {
            let plain = digits.len() == 2 && digits.bytes().all(|b| b.is_ascii_digit());
            if plain { digits.parse().ok() } else { None }
        };
        let minutes = text.split_once(':').and_then(|(hours, minutes)| {
            let (hours, minutes) = (two(hours)?, two(minutes)?);
            (minutes < 60 && hours * 60 + minutes <= DAY).then_some(hours * 60 + minutes)
        });
        minutes.map(Self).ok_or_else(|| ParseTimeOfDayError(text.into()))
    }
}

impl fmt::Display for TimeOfDay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}:{:02}", self.0 / 60, self.0 % 60)
    }
}

/// A moment as a wall clock shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocalTime {
    /// The day.
    pub day: Weekday,
    /// Minutes since midnight.
    pub minute: u16,
}

/// A time that comes back every week, by one clock. One that passes midnight belongs to the day on which it began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct WeekSpan {
    /// On which days it begins.
    pub days: Days,
    /// Its first minute.
    pub from: TimeOfDay,
    /// The first minute after it.
    pub to: TimeOfDay,
}

/// A text that is not a time of the week.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a time of the week: write it like \"Mon-Fri 19:00-07:00\"")]
pub struct ParseWeekSpanError(String);

impl FromStr for WeekSpan {
    type Err = ParseWeekSpanError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let read = || {
            let (days, times) = text.trim().split_once(' ')?;
            let (from, to) = times.trim().split_once('-')?;
            Some(Self {
                days: days.parse().ok()?,
                from: from.parse().ok()?,
                to: to.parse().ok()?,
            })
        };
        read().ok_or_else(|| ParseWeekSpanError(crate::shown(text)))
    }
}

impl fmt::Display for WeekSpan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}-{}", self.days, self.from, self.to)
    }
}

impl LocalTime {
    /// By UTC.
    pub fn utc(now: crate::WallTime) -> Self {
        let minutes = now.0.div_euclid(60_000_000);
        // 1970 began on a Thursday.
        let day = (minutes.div_euclid(24 * 60) + 3).rem_euclid(7);
        let day = usize::try_from(day).ok().and_then(|day| Weekday::ALL.get(day));
        Self {
            day: day.copied().unwrap_or(Weekday::Mon),
            minute: u16::try_from(minutes.rem_euclid(24 * 60)).unwrap_or(0),
        }
    }
}

impl WeekSpan {
    /// True if the moment lies in it.
    pub fn contains(&self, local: LocalTime) -> bool {
        let (from, to, minute) = (self.from.0, self.to.0, local.minute);
        if from < to {
            return self.days.contains(local.day) && (from..to).contains(&minute);
        }
        let began_today = self.days.contains(local.day) && minute >= from;
        let began_yesterday = self.days.contains(local.day.before()) && minute < to;
        began_today || began_yesterday
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;
    use alloc::vec::Vec;

    #[test]
    fn times_of_the_week_are_read_back_as_they_are_written() {
        for text in [
            "Mon-Fri 19:00-07:00",
            "Sat-Sun 00:00-24:00",
            "Mon,Wed-Thu 08:30-09:00",
        ] {
            assert_eq!(text.parse::<WeekSpan>().unwrap().to_string(), text);
        }
        for bad in [
            "",
            "19:00-07:00",
            "Mon 19:00",
            "Mon 19-07",
            "Mon-Fri 19:00-07:00 UTC",
        ] {
            assert!(bad.parse::<WeekSpan>().is_err(), "{bad}");
        }
    }

    #[test]
    fn it_is_monday_in_utc_when_the_calendar_says_so() {
        // 2026-11-30T07:05Z.
        let local = LocalTime::utc(crate::WallTime((20_787 * 24 * 60 + 7 * 60 + 5) * 60_000_000));
        assert_eq!((local.day, local.minute), (Weekday::Mon, 425));
        assert_eq!(LocalTime::utc(crate::WallTime(-1)).day, Weekday::Wed);
    }

    #[test]
    fn days_wrap_around_the_week() {
        let days: Days = "Fri-Mon".parse().unwrap();
        let held: Vec<_> = Weekday::ALL
            .into_iter()
            .filter(|day| days.contains(*day))
            .collect();
        assert_eq!(held, [Weekday::Mon, Weekday::Fri, Weekday::Sat, Weekday::Sun]);
        for bad in ["", "mon", "Mon-", "Monday", "Mon Tue"] {
            assert!(bad.parse::<Days>().is_err(), "{bad}");
        }
        for bad in ["24:01", "7:00", "07.00", "07:60", "+7:00", ""] {
            assert!(bad.parse::<TimeOfDay>().is_err(), "{bad}");
        }
    }
}
