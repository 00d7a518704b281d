//! The node's voice: its session with the fleet, metrics and logs. Without privilege.
//!
//! It carries and never decides: orders go signed to the warden, events come back and are kept in a spool until
//! the fleet has them, samples and logs are passed on. The warden gone, it says so and stays; the fleet gone, it
//! keeps what happens and comes back. It never touches a cgroup and never starts a process of a user.

mod backoff;
mod cli;
mod clock;
pub(crate) mod durable;
mod events;
mod heard;
mod http;
mod identity;
mod join;
mod link;
mod logs;
mod metrics;
mod renewal;
mod session;
mod settings;
mod slo;
mod status;
mod tls;
mod token;
mod trust;
mod warden_link;
mod wire;

use std::sync::Arc;

use loadline_model::PerMille;
use tokio::sync::watch;

pub use backoff::Backoff;
pub use cli::{command, main};
pub use clock::{Clock, SystemClock};
pub use identity::IdentityError;
pub use join::{JoinError, JoinOutcome, JoinPlan, join};
pub use settings::{MetricsListen, Places, Settings, SettingsError, Timing};
pub use status::{StatusError, StatusReport, ask as ask_status};
pub use tls::{DialError, FLEET_NAME, Io, Network, Pending, Tcp};
pub use token::{JoinToken, TokenError};
pub use trust::TrustError;
pub use wire::{Refusal, RefusalKind};

use self::events::Pump;
use self::heard::LastContact;
use self::identity::{Identity, spiffe};
use self::link::LinkState;
use self::renewal::Renewal;
use self::trust::Trust;
use self::warden_link::WardenLink;
use crate::host::journal::WorkerJournal;
use crate::spool::{Opening, SharedSpool, SpoolError};

/// The outside worlds the agent deals with, beside the warden's socket and its own files.
#[derive(Debug, Clone)]
pub struct Surroundings {
    /// Wall time.
    pub clock: Arc<dyn Clock>,
    /// The way to the fleet.
    pub network: Arc<dyn Network>,
    /// The workers' output.
    pub journal: Arc<dyn WorkerJournal>,
}

/// What all parts of a running agent share.
#[derive(Debug)]
struct Shared {
    settings: Settings,
    trust: Trust,
    identity: watch::Sender<Arc<Identity>>,
    clock: Arc<dyn Clock>,
    network: Arc<dyn Network>,
    journal: Arc<dyn WorkerJournal>,
    warden: Arc<WardenLink>,
    spool: SharedSpool,
    spool_trouble: events::Trouble,
    link: watch::Sender<LinkState>,
    last_contact: LastContact,
    /// This node's place in the spread of renewals.
    luck: PerMille,
}

/// The agent cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The node has not joined, or its trust is damaged.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// Its key or certificate cannot be used.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// Its spool cannot be opened.
    #[error(transparent)]
    Spool(#[from] SpoolError),
}

impl Shared {
    fn open(settings: Settings, surroundings: Surroundings) -> Result<Self, RunError> {
        let Surroundings {
            clock,
            network,
            journal,
        } = surroundings;
        let trust = Trust::load(&settings.places)?;
        let identity =
            Identity::load(&settings.places)?.named(&spiffe(trust.fleet.fleet_id, trust.fleet.node_id))?;
        let (spool, opening) = SharedSpool::open(&settings.places.spool(), settings.spool, clock.now())?;
        if let Opening::SetAside { to, why } = opening {
            tracing::error!(
                file = %to.display(),
                why,
                "the event spool was unreadable and is kept at this path; a new one is begun, and the warden tells again what it still has"
            );
        }
        let socket = settings.places.warden_socket.clone();
        let warden = Arc::new(WardenLink::new(
            socket,
            settings.timing.warden,
            Arc::clone(&clock),
        ));
        Ok(Self {
            settings,
            trust,
            identity: watch::Sender::new(Arc::new(identity)),
            warden,
            spool,
            spool_trouble: watch::Sender::default(),
            link: watch::Sender::new(LinkState::WaitingForWarden),
            last_contact: LastContact::new(Arc::clone(&clock)),
            luck: PerMille(rand::random_range(0..=1000)),
            clock,
            network,
            journal,
        })
    }

    /// Returns when the certificate should be renewed (or is too old for it).
    async fn until_renewal_is_due(&self) {
        loop {
            let validity = self.identity.borrow().validity;
            match validity.renewal(self.luck, self.clock.now()) {
                // The wall clock may be set meanwhile: look again at least once a minute.
                Renewal::NotYet(wait) => {
                    let wait = std::time::Duration::from(wait).min(std::time::Duration::from_secs(60));
                    tokio::time::sleep(wait).await;
                }
                Renewal::Due | Renewal::Expired => return,
            }
        }
    }
}

/// Runs the agent until `shutdown` is over. `ready` is called once everything is under way.
///
/// # Errors
/// When it cannot start; what goes wrong later is reported and tried again.
pub async fn run(
    settings: Settings,
    surroundings: Surroundings,
    ready: impl FnOnce(),
    shutdown: impl Future<Output = ()>,
) -> Result<(), RunError> {
    let shared = Arc::new(Shared::open(settings, surroundings)?);
    let pump = Pump {
        warden: Arc::clone(&shared.warden),
        spool: shared.spool.clone(),
        clock: Arc::clone(&shared.clock),
        retry: shared.settings.timing.retry,
        trouble: shared.spool_trouble.clone(),
    };
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        node = shared.trust.fleet.node,
        fleet = %shared.trust.fleet.fleet_id,
        address = shared.trust.fleet.session_address,
        "the agent runs"
    );
    ready();
    // All run for ever; being cut off at the end is what a crash would do, and that must be harmless.
    tokio::select! {
        () = shutdown => tracing::info!("the agent stops; workers run on"),
        () = shared.warden.keep_fresh(shared.settings.timing.liveness) => {}
        () = pump.run() => {}
        _ = link::keep(&shared) => {}
        () = http::serve(&shared) => {}
        () = slo::keep(&shared) => {}
    }
    Ok(())
}
