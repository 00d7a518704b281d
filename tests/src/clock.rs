//! The one door to time of this crate: everything that waits for another machine needs a real clock.

use std::time::{Duration, Instant};

/// The monotonic clock.
#[expect(
    clippy::disallowed_methods,
    reason = "guests live in real time; this is the crate's one door to it"
)]
#[must_use]
pub fn now() -> Instant {
    Instant::now()
}

/// Rests between two looks at a condition. Callers use [`crate::testbed::wait::wait_for`], which has a time-out.
#[expect(
    clippy::disallowed_methods,
    reason = "the pause between two polls of `wait_for`, the only caller"
)]
pub(crate) fn pause(length: Duration) {
    std::thread::sleep(length);
}
