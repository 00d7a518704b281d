//! Wall time's one door into fleetd.
//!
//! Wall time is for people, records and certificates; lengths of time come from `tokio::time`, which tests can
//! pause. Whoever needs the time of day is handed a [`Clock`], so a test can set it.

use std::fmt;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use jiff::Timestamp;
use loadline_model::WallTime;

/// Says what time of day it is.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> WallTime + Send + Sync>);

impl Clock {
    /// The machine's own clock.
    pub fn system() -> Self {
        Self::new(system_now)
    }

    /// Any other source.
    pub fn new(source: impl Fn() -> WallTime + Send + Sync + 'static) -> Self {
        Self(Arc::new(source))
    }

    /// The time now.
    pub fn now(&self) -> WallTime {
        (self.0)()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Clock({})", self.now().0)
    }
}

/// A time for people and records.
pub(crate) fn rfc3339(at: WallTime) -> String {
    // Out of jiff's range (year 9999) only with a broken clock; the raw number is then the honest record.
    Timestamp::from_microsecond(at.0).map_or_else(|_| at.0.to_string(), |at| format!("{at:.6}"))
}

#[expect(clippy::disallowed_methods, reason = "this is the door")]
fn system_now() -> WallTime {
    // A clock before 1970 reads as 1970: certificates made then are refused, which is the safe side.
    let since = std::time::SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    WallTime(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}
