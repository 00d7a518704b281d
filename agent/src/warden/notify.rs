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
/// The reconciler turns between two calls to systemd, or three at most, each at its limit of 20 s. A restart would
/// not make systemd faster.
const RECONCILER_STUCK: Span = Span::from_secs(65);
/// The headroom loop waits for nobody, and production for it.
const HEADROOM_STUCK: Span = Span::from_secs(5);

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

/// When a loop last turned, and how long it may not.
#[derive(Debug, Clone)]
pub(super) struct Pulse {
    last: Arc<AtomicU64>,
    stuck: Span,
}

impl Pulse {
    /// The reconciler's, which turns now.
    pub(super) fn reconciler(now: Span) -> Self {
        Self::new(now, RECONCILER_STUCK)
    }

    /// The headroom loop's, which turns now.
    pub(super) fn headroom(now: Span) -> Self {
        Self::new(now, HEADROOM_STUCK)
    }

    fn new(now: Span, stuck: Span) -> Self {
        let last = Arc::new(AtomicU64::new(now.0));
        Self { last, stuck }
    }

    /// It turns.
    pub(super) fn beat(&self, now: Span) {
        self.last.store(now.0, Ordering::Relaxed);
    }

    fn is_alive(&self, now: Span) -> bool {
        now.minus(Span(self.last.load(Ordering::Relaxed))) < self.stuck
    }
}

/// Passes the beats on for as long as both loops turn. Beside them: the reconciler may wait for systemd longer than
/// the watchdog's patience. Whichever of them hangs, nothing is passed on, and the service manager starts us anew.
pub(super) async fn pass_on<C: Clock>(pulses: [Pulse; 2], clock: C) {
    let mut tick = tokio::time::interval(BEAT_EVERY);
    loop {
        tick.tick().await;
        if all_alive(&pulses, clock.monotonic()) {
            tell(&[(daemon::STATE_WATCHDOG, "1".into())]);
        }
    }
}

fn all_alive(pulses: &[Pulse], now: Span) -> bool {
    pulses.iter().all(|pulse| pulse.is_alive(now))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_that_stands_still_is_not_alive() {
        let at = Span::from_secs;
        let pulses = [Pulse::reconciler(at(10)), Pulse::headroom(at(10))];
        let [reconciler, headroom] = pulses.clone();
        assert!(all_alive(&pulses, at(14)));
        assert!(!all_alive(&pulses, at(15)), "the headroom loop hangs");
        headroom.beat(at(74));
        assert!(all_alive(&pulses, at(74)), "the reconciler waits for systemd");
        headroom.beat(at(75));
        assert!(!all_alive(&pulses, at(75)), "the reconciler hangs");
        reconciler.beat(at(75));
        assert!(all_alive(&pulses, at(75)));
    }
}
