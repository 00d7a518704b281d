//! Tells the service manager how we are: ready, reloading, alive. Without one listening, nothing happens.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use loadline_model::Span;
use systemd::daemon;
use tracing::debug;

use crate::host::clock::Clock;

/// A sixth of the unit's `WatchdogSec=`: also a starved machine gets one of them through.
const BEAT_EVERY: Duration = Duration::from_secs(5);
/// A loop that has not turned for this long never will: several calls to systemd, each at its limit, take less.
const STUCK: Span = Span::from_secs(120);

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

/// When the loop last turned.
#[derive(Debug, Clone, Default)]
pub(super) struct Pulse(Arc<AtomicU64>);

impl Pulse {
    /// It turns.
    pub(super) fn beat(&self, now: Span) {
        self.0.store(now.0, Ordering::Relaxed);
    }

    fn is_alive(&self, now: Span) -> bool {
        now.minus(Span(self.0.load(Ordering::Relaxed))) < STUCK
    }

    /// Passes the beats on for as long as there are any. Beside the loop: it may wait for systemd longer than
    /// the watchdog's patience, and a restart would not make systemd faster.
    pub(super) async fn pass_on<C: Clock>(self, clock: C) {
        let mut tick = tokio::time::interval(BEAT_EVERY);
        loop {
            tick.tick().await;
            if self.is_alive(clock.monotonic()) {
                tell(&[(daemon::STATE_WATCHDOG, "1".into())]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_that_stands_still_is_not_alive() {
        let pulse = Pulse::default();
        pulse.beat(Span::from_secs(1000));
        assert!(pulse.is_alive(Span::from_secs(1119)));
        assert!(!pulse.is_alive(Span::from_secs(1121)));
    }
}
