//! What systemd is told: ready, stopping, alive. Without systemd nothing is said.

use std::time::Duration;

use systemd::daemon;
use tracing::warn;

pub(super) fn ready() {
    tell(daemon::STATE_READY);
}

pub(super) fn stopping() {
    tell(daemon::STATE_STOPPING);
}

pub(super) fn alive() {
    tell(daemon::STATE_WATCHDOG);
}

/// How often systemd wants to hear that we live: half of its time-out. None if it does not.
pub(super) fn watchdog_interval() -> Option<Duration> {
    match daemon::watchdog_enabled() {
        Ok(0) => None,
        Ok(micros) => Some(Duration::from_micros(micros) / 2),
        Err(error) => {
            warn!(%error, "systemd's watchdog setting cannot be read");
            None
        }
    }
}

fn tell(state: &str) {
    if let Err(error) = daemon::notify([(state, "1")].iter()) {
        warn!(%error, state, "systemd was not told");
    }
}
