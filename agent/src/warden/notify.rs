//! Tells the service manager how we are: ready, reloading, alive. Without one listening, nothing happens.

use loadline_model::Span;
use systemd::daemon;
use tracing::debug;

fn tell(state: &[(&str, String)]) {
    if let Err(error) = daemon::notify(state.iter()) {
        // Nobody can be told that nobody can be told.
        debug!(%error, "the service manager cannot be notified");
    }
}

/// Everything that ran before is taken up, and orders are taken.
pub(super) fn ready(status: &str) {
    tell(&[
        (daemon::STATE_READY, "1".into()),
        (daemon::STATE_STATUS, status.into()),
    ]);
}

/// A new configuration is being applied.
pub(super) fn reloading(now: Span) {
    tell(&[
        (daemon::STATE_RELOADING, "1".into()),
        ("MONOTONIC_USEC", now.0.to_string()),
    ]);
}

/// The end is near.
pub(super) fn stopping() {
    tell(&[(daemon::STATE_STOPPING, "1".into())]);
}

/// The loop turns.
pub(super) fn alive() {
    tell(&[(daemon::STATE_WATCHDOG, "1".into())]);
}
