//! Keeps the certificates in force: fleetd's own is made anew long before it ends, the site's files are read again
//! on SIGHUP. What cannot be read changes nothing.

use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::Signal;
use tokio::sync::watch;
use tokio::time::sleep;
use tracing::{error, info};

use crate::api::failure::chain;
use crate::ca::{FleetKeys, KeysLayout};
use crate::clock::Clock;
use crate::config::{Config, ReachableName};
use crate::http::Metrics;
use crate::tls::{Pki, PkiSource};
use crate::trust::DirectorySource;

/// Soon after the clock was set, and rarely enough not to fill the journal when something is wrong.
const LOOK: Duration = Duration::from_secs(60);

/// Where the certificates of this configuration come from.
pub(super) fn source(
    config: &Config,
    keys: &FleetKeys,
    clock: Clock,
    directory: DirectorySource,
) -> PkiSource {
    PkiSource {
        fleet: keys.fleet,
        layout: KeysLayout::of(&config.state_dir),
        files: config.pki.clone(),
        names: names(config, keys)
            .iter()
            .map(|name| name.host().to_owned())
            .collect(),
        clock,
        directory,
    }
}

/// The configuration's names, else those of `fleetd init`.
pub(super) fn names(config: &Config, keys: &FleetKeys) -> Vec<ReachableName> {
    if config.names.is_empty() {
        keys.names.iter().filter_map(|name| name.parse().ok()).collect()
    } else {
        config.names.clone()
    }
}

/// Tells the metrics when the certificate in force ends.
pub(super) fn show(pki: &Pki, metrics: &Metrics) {
    let seconds = u32::try_from(pki.server_expires.0 / 1_000_000).unwrap_or(u32::MAX);
    metrics.certificate_expires(f64::from(seconds));
}

/// Runs for ever.
pub(super) async fn keep(
    source: PkiSource,
    in_force: watch::Sender<Arc<Pki>>,
    metrics: Arc<Metrics>,
    mut reload: Signal,
) {
    loop {
        let by_hand = tokio::select! {
            _ = reload.recv() => true,
            () = sleep(LOOK) => false,
        };
        if !by_hand && !in_force.borrow().is_stale(source.clock.now()) {
            continue;
        }
        match source.load() {
            Ok(pki) => {
                info!(
                    by_hand,
                    authority = pki.authority.fingerprint(),
                    "certificates are in force anew"
                );
                show(&pki, &metrics);
                in_force.send_replace(Arc::new(pki));
            }
            Err(failure) => {
                error!(
                    problem = chain(&failure),
                    "certificates could not be read: the former ones stay"
                );
            }
        }
    }
}
