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

/// Rests between two looks at a condition. Callers use [`crate::testbed::wait::wait_for`], which has a time-out; what
/// runs inside guests reads and works at a pace of its own.
#[expect(
    clippy::disallowed_methods,
    reason = "the pause between two polls, each of which has an end, and the pace of what is measured"
)]
pub(crate) fn pause(length: Duration) {
    std::thread::sleep(length);
}
