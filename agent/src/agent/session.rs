//! One session with the fleet, from the dial to its end. Everything in it may be cut off at any moment: what
//! matters is in the warden's ledger or in the spool, and the next session goes on from there.
//!
//! Several things run side by side in one task and the first to end ends the session: reading, liveness,
//! events, orders, renewal, and the watch over the warden's ledger. None of them waits for the fleet to read
//! before it reads itself: what is sent goes through [lanes](super::wire::Lanes).

mod lanes;

use std::sync::Arc;
use std::time::Duration;

use loadline_model::{FleetId, LedgerId, Sequence};
use tokio::sync::mpsc;

use super::Shared;
use super::heard::{Heard, LastAlert};
use super::identity::{IdentityError, spiffe};
use super::link::LinkState;
use super::logs::LogDesk;
use super::tls::{self, DialError, TlsSettingsError};
use super::warden_link::WardenLink;
use super::wire::{
    Calls, Down, Hello, Inbox, Keepalive, Lanes, Orders, Refusal, Reporter, Welcome, lanes, open,
};

/// Orders that wait for the warden; while they do, no more are read.
const ORDERS: usize = 16;

/// How a session ended; every variant is one sentence for people.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SessionEnd {
    #[error(transparent)]
    Dial(#[from] DialError),
    #[error(transparent)]
    TlsSettings(#[from] TlsSettingsError),
    #[error("the fleet refuses this session: {}{}", .0.message, advice(.0))]
    Refused(Refusal),
    #[error("the connection to the fleet broke: {}", .0.message)]
    Broken(Refusal),
    #[error("the fleet ended the session")]
    Closed,
    #[error("the fleet did not welcome this node within {}s", .0.as_secs())]
    NotWelcomed(Duration),
    #[error("another fleet ({found}) answers at the fleet's address")]
    AnotherFleet { found: FleetId },
    #[error("the certificate was renewed")]
    Renewed,
    #[error("the warden has another ledger now")]
    AnotherLedger,
}

fn advice(refusal: &Refusal) -> String {
    if refusal.next_step.is_empty() {
        String::new()
    } else {
        format!(" ({})", refusal.next_step)
    }
}

impl SessionEnd {
    /// A refusal that came in place of an answer, or what lies behind it.
    fn from_refusal(refusal: Refusal, alert: &LastAlert, address: &str) -> Self {
        if let Some(alert) = alert.get() {
            return DialError::Refused {
                address: address.to_owned(),
                alert,
            }
            .into();
        }
        match refusal.kind {
            super::wire::RefusalKind::Unreachable => Self::Broken(refusal),
            _ => Self::Refused(refusal),
        }
    }

    /// True if the next session shall follow at once.
    pub(crate) const fn is_wanted(&self) -> bool {
        matches!(self, Self::Renewed)
    }
}

/// A stream that was welcomed.
struct Standing {
    calls: Calls,
    inbox: Inbox,
    lanes: Lanes,
    reporter: Reporter,
    ledger: LedgerId,
    alert: LastAlert,
}

/// Dials, greets, and stays until the end.
pub(crate) async fn once(shared: &Arc<Shared>) -> SessionEnd {
    let standing = match greet(shared).await {
        Ok(standing) => standing,
        Err(end) => return end,
    };
    stay(shared, standing).await
}

/// `None`: the spool cannot say just now, which the pump reports.
async fn oldest_to_tell(shared: &Arc<Shared>, ledger: LedgerId) -> Option<Sequence> {
    let found = shared.spool.oldest_to_tell(ledger, shared.clock.now()).await;
    found
        .inspect_err(|error| {
            tracing::warn!(
                error = error as &dyn std::error::Error,
                "what is still to be told"
            );
        })
        .ok()
}

async fn greet(shared: &Arc<Shared>) -> Result<Standing, SessionEnd> {
    let timing = shared.settings.timing;
    let fleet = &shared.trust.fleet;
    let identity = shared.identity.borrow().clone();
    let config = tls::session_config(&shared.trust.ca, &identity)?;
    let stream = tls::connect(&*shared.network, &fleet.session_address, config, timing.connect).await?;
    let (stream, alert) = Heard::new(stream, shared.last_contact.clone());
    // As the warden has it now: of a worker that began since its last answer, a fleet whose store is new would never
    // hear, because another one has acknowledged its events. A silent warden's last answer has to do.
    shared.warden.refresh().await;
    let status = shared.warden.known().await;
    let first = oldest_to_tell(shared, status.ledger).await;
    let (lanes, outgoing) = lanes(Hello::new(fleet, &status, first));
    let keepalive = Keepalive {
        every: timing.ping,
        answer: timing.ping_answer,
    };
    let greeting = async {
        let (calls, mut inbox) = open(stream, keepalive, outgoing).await?;
        let first = inbox.next().await?;
        Ok::<_, Refusal>((calls, inbox, first))
    };
    let (calls, inbox, first) = tokio::time::timeout(timing.connect, greeting)
        .await
        .map_err(|_| SessionEnd::NotWelcomed(timing.connect))?
        .map_err(|refusal| SessionEnd::from_refusal(refusal, &alert, &fleet.session_address))?;
    let Some(Ok(Down::Welcome(Welcome {
        version,
        fleet: found,
        epoch,
        acked,
    }))) = first
    else {
        return Err(SessionEnd::NotWelcomed(timing.connect));
    };
    if found != fleet.fleet_id {
        return Err(SessionEnd::AnotherFleet { found });
    }
    // A later look finds them again; the fleet counts none twice.
    if let Err(error) = shared
        .spool
        .drop_through(status.ledger, acked, shared.clock.now())
        .await
    {
        tracing::warn!(
            error = &error as &dyn std::error::Error,
            "acknowledged events stay in the spool for now"
        );
    }
    tracing::info!(address = fleet.session_address, version, epoch, %acked, "connected to the fleet");
    shared.link.send_replace(LinkState::Connected {
        since: shared.clock.now(),
        fleet_version: version,
        epoch,
    });
    let reporter = Reporter::after_hello(&status);
    Ok(Standing {
        calls,
        inbox,
        lanes,
        reporter,
        ledger: status.ledger,
        alert,
    })
}

async fn stay(shared: &Arc<Shared>, standing: Standing) -> SessionEnd {
    let Standing {
        calls,
        inbox,
        lanes,
        reporter,
        ledger,
        alert,
    } = standing;
    let (orders, to_apply) = mpsc::channel(ORDERS);
    let desk = LogDesk::new(
        Arc::clone(&shared.journal),
        Arc::clone(&shared.warden),
        lanes.logs.clone(),
    );
    let address = &shared.trust.fleet.session_address;
    // Each arm ends the session, so none needs to be resumed after another won.
    let end = tokio::select! {
        end = read(shared, inbox, orders, desk) => end,
        end = lanes::liveness(shared, lanes.urgent.clone(), reporter) => end,
        end = lanes::events(shared, lanes.events.clone()) => end,
        end = lanes::orders(shared, lanes.urgent.clone(), to_apply) => end,
        end = renew(shared, calls) => end,
        end = another_ledger(&shared.warden, ledger) => end,
    };
    match end {
        SessionEnd::Broken(refusal) => SessionEnd::from_refusal(refusal, &alert, address),
        end => end,
    }
}

async fn read(
    shared: &Arc<Shared>,
    mut inbox: Inbox,
    orders: mpsc::Sender<Orders>,
    mut desk: LogDesk,
) -> SessionEnd {
    loop {
        let message = match inbox.next().await {
            Ok(Some(message)) => message,
            Ok(None) => return SessionEnd::Closed,
            Err(refusal) => return SessionEnd::Broken(refusal),
        };
        match message {
            Ok(Down::Desired(desired)) => {
                if orders.send(desired).await.is_err() {
                    return SessionEnd::Closed;
                }
            }
            Ok(Down::Ack { ledger, sequence }) => {
                if let Err(error) = shared
                    .spool
                    .drop_through(ledger, sequence, shared.clock.now())
                    .await
                {
                    // They are sent again in the next session and counted once.
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "acknowledged events stay in the spool"
                    );
                }
            }
            Ok(Down::LogRequest(request)) => desk.begin(request).await,
            Ok(Down::LogCancel(request)) => desk.cancel(request),
            Ok(Down::Welcome(_) | Down::Unknown) => tracing::debug!("a message of no meaning here"),
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "a message of the fleet is not understood"
                );
            }
        }
    }
}

/// Waits until the Hello of this session no longer holds.
async fn another_ledger(warden: &WardenLink, ledger: LedgerId) -> SessionEnd {
    let mut view = warden.watch();
    loop {
        if view
            .borrow_and_update()
            .status
            .as_ref()
            .is_some_and(|status| status.ledger != ledger)
        {
            return SessionEnd::AnotherLedger;
        }
        if view.changed().await.is_err() {
            return SessionEnd::Closed;
        }
    }
}

/// Renews the certificate when it is time, as often as it takes.
async fn renew(shared: &Arc<Shared>, calls: Calls) -> SessionEnd {
    let mut failures = 0;
    loop {
        shared.until_renewal_is_due().await;
        match exchange(shared, &calls).await {
            Ok(()) => return SessionEnd::Renewed,
            Err(error) => {
                failures += 1;
                let wait = shared.settings.timing.retry.bound(failures);
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    again_in_s = wait.as_secs(),
                    "the certificate could not be renewed"
                );
                tokio::time::sleep(wait).await;
            }
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum RenewError {
    #[error("the fleet gives no new certificate")]
    Fleet(#[from] Refusal),
    #[error("the fleet gave no answer to a renewal within {}s", .0.as_secs())]
    TimedOut(Duration),
    #[error("the new certificate cannot be taken")]
    Identity(#[from] IdentityError),
}

async fn exchange(shared: &Arc<Shared>, calls: &Calls) -> Result<(), RenewError> {
    let patience = shared.settings.timing.connect;
    let fleet = &shared.trust.fleet;
    let draft = super::identity::Draft::new()?;
    let call = calls.renew(draft.request(&fleet.node)?);
    let certificate = tokio::time::timeout(patience, call)
        .await
        .map_err(|_| RenewError::TimedOut(patience))??;
    let expected = spiffe(fleet.fleet_id, fleet.node_id);
    let keep = Arc::clone(shared);
    // To the end even if the session ends meanwhile: half an exchange would need the next start to finish it.
    let stored = tokio::task::spawn_blocking(move || -> Result<(), IdentityError> {
        let (identity, staged) = draft.stage(&keep.settings.places, &certificate, &expected, None)?;
        staged.commit()?;
        tracing::info!(
            until = super::clock::shown(identity.validity.until),
            "the certificate was renewed"
        );
        keep.identity.send_replace(Arc::new(identity));
        Ok(())
    });
    match stored.await {
        Ok(result) => Ok(result?),
        Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
    }
}
