//! Which time it is on the clocks that the policy's windows go by. The only place where time zones are known.

use jiff::Timestamp;
use jiff::civil::Weekday as JiffWeekday;
use jiff::tz::TimeZone;
use loadline_model::WallTime;
use loadline_policy::node_policy::{LocalTime, LocalTimes, NodePolicy, Weekday};

/// The local time cannot be told.
#[derive(Debug, thiserror::Error)]
pub enum ZoneError {
    /// The moment is beyond what calendars hold.
    #[error("the wall clock says {} microseconds since 1970, which is no date", .0.0)]
    NoDate(WallTime),
}

pub(super) fn is_known(zone: &str) -> bool {
    TimeZone::get(zone).is_ok()
}

/// One moment on the node's own clock and in every zone that the policy names. A zone that is not known any more
/// is left out, which keeps its windows shut.
///
/// # Errors
/// When the moment is no date.
pub fn local_times(policy: &NodePolicy, now: WallTime) -> Result<LocalTimes, ZoneError> {
    let timestamp = Timestamp::from_microsecond(now.0).map_err(|_| ZoneError::NoDate(now))?;
    let zones = policy.zones().into_iter().filter_map(|name| {
        let zone = TimeZone::get(&name).ok()?;
        Some((name, local(timestamp, zone)))
    });
    Ok(LocalTimes {
        node: local(timestamp, TimeZone::system()),
        zones: zones.collect(),
    })
}

fn local(timestamp: Timestamp, zone: TimeZone) -> LocalTime {
    let zoned = timestamp.to_zoned(zone);
    let day = match zoned.weekday() {
        JiffWeekday::Monday => Weekday::Mon,
        JiffWeekday::Tuesday => Weekday::Tue,
        JiffWeekday::Wednesday => Weekday::Wed,
        JiffWeekday::Thursday => Weekday::Thu,
        JiffWeekday::Friday => Weekday::Fri,
        JiffWeekday::Saturday => Weekday::Sat,
        JiffWeekday::Sunday => Weekday::Sun,
    };
    let minute = i32::from(zoned.hour()) * 60 + i32::from(zoned.minute());
    LocalTime {
        day,
        minute: u16::try_from(minute).unwrap_or(0),
    }
}
