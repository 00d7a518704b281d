//! When a node lends: windows of local time. Which time it is, is an argument.

use alloc::collections::BTreeMap;
use alloc::string::String;
use core::fmt;
use core::str::FromStr;

/// Minutes of a day.
const DAY: u16 = 24 * 60;

/// A day of the week.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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

/// Minutes since midnight, 0 to 1440; written `19:00`, and `24:00` for the end of the day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct TimeOfDay(u16);

/// A text that is not a time of day.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a time of day: write \"00:00\" to \"24:00\"")]
pub struct ParseTimeOfDayError(String);

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

/// Whose clock a window goes by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WindowZone {
    /// The node's own.
    Node,
    /// A zone of the tz database.
    Named(String),
}

/// A time in which the node lends. One that passes midnight belongs to the day on which it began.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    /// On which days it begins.
    pub days: Days,
    /// Its first minute.
    pub from: TimeOfDay,
    /// The first minute after it.
    pub to: TimeOfDay,
    /// Whose clock.
    pub zone: WindowZone,
}

/// A moment as a wall clock shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LocalTime {
    /// The day.
    pub day: Weekday,
    /// Minutes since midnight.
    pub minute: u16,
}

/// One moment in every zone that the policy names (see [`super::NodePolicy::zones`]).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalTimes {
    /// By the node's own clock.
    pub node: LocalTime,
    /// By the named zones.
    pub zones: BTreeMap<String, LocalTime>,
}

impl Window {
    /// True if the window is open at that moment. A zone whose time is not known keeps it shut.
    pub fn is_open(&self, now: &LocalTimes) -> bool {
        let local = match &self.zone {
            WindowZone::Node => Some(&now.node),
            WindowZone::Named(zone) => now.zones.get(zone),
        };
        local.is_some_and(|local| self.contains(*local))
    }

    fn contains(&self, local: LocalTime) -> bool {
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

    fn window(days: &str, from: &str, to: &str) -> Window {
        Window {
            days: days.parse().unwrap(),
            from: from.parse().unwrap(),
            to: to.parse().unwrap(),
            zone: WindowZone::Node,
        }
    }

    fn open(window: &Window, day: Weekday, minute: u16) -> bool {
        window.is_open(&LocalTimes {
            node: LocalTime { day, minute },
            zones: BTreeMap::new(),
        })
    }

    #[test]
    fn a_night_window_belongs_to_the_day_it_begins() {
        let nights = window("Mon-Fri", "19:00", "07:00");
        assert!(open(&nights, Weekday::Mon, 19 * 60));
        assert!(!open(&nights, Weekday::Mon, 18 * 60 + 59));
        assert!(!open(&nights, Weekday::Mon, 6 * 60), "Sunday is not in it");
        assert!(open(&nights, Weekday::Sat, 6 * 60 + 59), "Friday's night");
        assert!(!open(&nights, Weekday::Sat, 7 * 60));
        assert!(!open(&nights, Weekday::Sat, 20 * 60));
    }

    #[test]
    fn a_day_window_ends_before_its_last_minute() {
        let day = window("Sat,Sun", "00:00", "24:00");
        assert!(open(&day, Weekday::Sun, 1439));
        assert!(!open(&day, Weekday::Mon, 0));
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

    #[test]
    fn a_zone_without_a_known_time_stays_shut() {
        let mut named = window("Mon-Sun", "00:00", "24:00");
        named.zone = WindowZone::Named("Europe/Berlin".into());
        let node = LocalTime {
            day: Weekday::Mon,
            minute: 0,
        };
        assert!(!named.is_open(&LocalTimes {
            node,
            zones: BTreeMap::new()
        }));
        let zones = [("Europe/Berlin".into(), node)].into_iter().collect();
        assert!(named.is_open(&LocalTimes { node, zones }));
    }
}
