//! When a node lends: windows of local time. Which time it is, is an argument.

use alloc::collections::BTreeMap;
use alloc::string::String;

use loadline_model::{Days, LocalTime, TimeOfDay, WeekSpan};

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
        let span = WeekSpan {
            days: self.days,
            from: self.from,
            to: self.to,
        };
        local.is_some_and(|local| span.contains(*local))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use loadline_model::Weekday;

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
