//! Keeping a session with the fleet, for ever: connect, stay, and after a break come back with full jitter.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use loadline_model::WallTime;
use rand::SeedableRng;
use rand::rngs::StdRng;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::Shared;
use super::clock::shown;
use super::renewal::Renewal;
use super::session::{self, SessionEnd};
use crate::sentence::chain;

/// How the node stands with its fleet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub(crate) enum LinkState {
    /// Before the first attempt: the warden has not answered yet, and without its ledger there is no Hello.
    WaitingForWarden,
    /// Dialling or greeting.
    Connecting {
        /// Why the last session ended.
        after: Option<String>,
    },
    /// In session.
    Connected {
        /// Since when.
        since: WallTime,
        /// What the fleet runs.
        fleet_version: String,
        /// Which leader.
        epoch: u64,
    },
    /// Between attempts.
    Broken {
        /// Since when.
        since: WallTime,
        /// One sentence.
        why: String,
        /// How long until the next attempt.
        again_in_ms: u64,
    },
}

impl LinkState {
    pub(crate) const fn is_connected(&self) -> bool {
        matches!(self, Self::Connected { .. })
    }
}

/// How many failures in a row that makes: a session that stayed for a while was a success.
fn failures_after(failures: u32, lasted: Duration, settled: Duration) -> u32 {
    if lasted >= settled {
        1
    } else {
        failures.saturating_add(1)
    }
}

/// Runs for ever.
pub(crate) async fn keep(shared: &Arc<Shared>) -> Infallible {
    let timing = shared.settings.timing;
    let mut rng = StdRng::from_rng(&mut rand::rng());
    let mut failures = 0;
    let mut broken_since: Option<WallTime> = None;
    let mut after = None;
    loop {
        shared.warden.known().await;
        warn_if_expired(shared);
        shared
            .link
            .send_replace(LinkState::Connecting { after: after.clone() });
        let begun = Instant::now();
        let end = session::once(shared).await;
        let was_connected = shared.link.borrow().is_connected();
        if end.is_wanted() {
            (failures, after) = (0, None);
            continue;
        }
        failures = failures_after(failures, begun.elapsed(), timing.settled);
        let wait = timing.backoff.wait(failures, &mut rng);
        if was_connected {
            broken_since = None;
        }
        let since = *broken_since.get_or_insert_with(|| shared.clock.now());
        report(&end, wait, failures);
        let why = chain(&end);
        after = Some(why.clone());
        shared.link.send_replace(LinkState::Broken {
            since,
            why,
            again_in_ms: u64::try_from(wait.as_millis()).unwrap_or(u64::MAX),
        });
        tokio::time::sleep(wait).await;
    }
}

fn report(end: &SessionEnd, wait: Duration, failures: u32) {
    let again_in_ms = wait.as_millis();
    // A fleet that is away for long is said once loudly, then quietly.
    if failures <= 1 {
        tracing::warn!(why = chain(end), again_in_ms, "no session with the fleet");
    } else {
        tracing::info!(
            why = chain(end),
            again_in_ms,
            failures,
            "still no session with the fleet"
        );
    }
}

fn warn_if_expired(shared: &Shared) {
    let validity = shared.identity.borrow().validity;
    if validity.renewal(shared.luck, shared.clock.now()) == Renewal::Expired {
        tracing::error!(
            expired = shown(validity.until),
            "this node's certificate has expired, and the fleet refuses it: run `loadline-agent join --rejoin TOKEN` as root with a token from `fleet token node`"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_session_that_stayed_starts_the_waits_anew() {
        let settled = Duration::from_secs(10);
        assert_eq!(failures_after(0, Duration::ZERO, settled), 1);
        assert_eq!(failures_after(5, Duration::from_secs(9), settled), 6);
        assert_eq!(failures_after(5, settled, settled), 1);
    }
}
