//! Wall time has one door: this one.

use loadline_model::WallTime;

/// Now, by this machine's clock.
#[expect(clippy::disallowed_methods, reason = "the one door")]
pub fn now() -> WallTime {
    let since = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    WallTime(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}
