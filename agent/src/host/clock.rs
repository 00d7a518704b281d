//! The one door to time: wall time for records, monotonic time for durations, the boot id that tells one
//! uptime from the next.

use std::fs;
use std::io;

use loadline_model::{Span, WallTime};
use nix::sys::time::TimeSpec;
use nix::time::ClockId;

/// Where the kernel says which uptime this is.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// What reads the time; a value that tests replace.
pub trait Clock: Send + Sync + 'static {
    /// Wall time, for people and records.
    fn wall(&self) -> WallTime;
    /// Time since boot. It goes on over restarts of this program, which is what time limits need.
    fn monotonic(&self) -> Span;
}

/// The kernel's clocks.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn wall(&self) -> WallTime {
        WallTime(micros(ClockId::CLOCK_REALTIME))
    }

    fn monotonic(&self) -> Span {
        Span(u64::try_from(micros(ClockId::CLOCK_MONOTONIC)).unwrap_or(0))
    }
}

fn micros(clock: ClockId) -> i64 {
    // Linux has both clocks since long before the support floor; reading them cannot fail.
    let now = clock.now().unwrap_or(TimeSpec::new(0, 0));
    now.tv_sec()
        .saturating_mul(1_000_000)
        .saturating_add(now.tv_nsec() / 1000)
}

/// Which uptime of the machine this is.
///
/// # Errors
/// When `/proc` cannot be read.
pub fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string(BOOT_ID)?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_goes_on_and_this_is_not_1970() {
        let earlier = SystemClock.monotonic();
        assert!(SystemClock.monotonic() >= earlier);
        assert!(SystemClock.wall() > WallTime(1_600_000_000_000_000));
        assert_eq!(boot_id().unwrap().len(), 36);
    }
}
