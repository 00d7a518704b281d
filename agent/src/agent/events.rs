//! Events from the warden into the spool: taken in order, made durable, then acknowledged. What is not durable
//! is not acknowledged, so the warden keeps it.

use std::sync::Arc;
use std::time::Duration;

use loadline_model::Sequence;
use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::sync::watch;

use super::backoff::Backoff;
use super::clock::Clock;
use super::warden_link::WardenLink;
use super::wire::{NodeEvent, WardenError};
use crate::sentence::chain;
use crate::spool::{Appended, NewRecord, SharedSpool, SpoolError};

/// One commit stores at most so many events: whatever gathered while the last commit ran.
const GROUP: usize = 256;

/// Why events cannot be taken just now; none: they can.
pub(crate) type Trouble = watch::Sender<Option<String>>;

/// Moves events for ever.
#[derive(Debug)]
pub(crate) struct Pump {
    pub(crate) warden: Arc<WardenLink>,
    pub(crate) spool: SharedSpool,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) retry: Backoff,
    pub(crate) trouble: Trouble,
}

#[derive(Debug, thiserror::Error)]
enum PumpError {
    #[error(transparent)]
    Warden(#[from] WardenError),
    #[error("the spool cannot say what it has")]
    Spool(#[from] SpoolError),
    #[error("the warden ended its stream of events")]
    Ended,
    #[error("the warden has another ledger now")]
    AnotherLedger,
}

impl Pump {
    pub(crate) async fn run(&self) {
        let mut rng = StdRng::from_rng(&mut rand::rng());
        let mut failures = 0;
        loop {
            let before = self.spool.watch();
            let Err(error) = self.stream().await;
            // Something came through: the next failure is a first one.
            failures = if before.has_changed().unwrap_or(false) {
                1
            } else {
                failures + 1
            };
            tracing::debug!(
                error = &error as &dyn std::error::Error,
                "events of the warden: trying again"
            );
            tokio::time::sleep(self.retry.wait(failures, &mut rng)).await;
        }
    }

    async fn stream(&self) -> Result<std::convert::Infallible, PumpError> {
        let ledger = self.warden.known().await.ledger;
        let mut after = self.spool.stored_through(ledger, self.clock.now()).await?;
        let mut events = self.warden.client.events(after).await?;
        // The sequence was one of this ledger: if the warden changed ledgers meanwhile, it would skip the new
        // one's first events.
        if self.warden.client.status().await?.ledger != ledger {
            self.warden.refresh().await;
            return Err(PumpError::AnotherLedger);
        }
        loop {
            let first = events.next().await?.ok_or(PumpError::Ended)?;
            let mut group = vec![first];
            // What is there already comes along; nothing is waited for.
            while group.len() < GROUP {
                match tokio::time::timeout(Duration::ZERO, events.next()).await {
                    Ok(event) => group.push(event?.ok_or(PumpError::Ended)?),
                    Err(_) => break,
                }
            }
            if group.iter().any(|event| event.ledger != ledger) {
                self.warden.refresh().await;
                return Err(PumpError::AnotherLedger);
            }
            after = self.take(group, after).await;
            self.warden.client.acknowledge(ledger, after).await?;
        }
    }

    /// Stores a group, however long that takes, and returns the newest sequence that is durable.
    async fn take(&self, group: Vec<NodeEvent>, after: Sequence) -> Sequence {
        for event in &group {
            self.warden.heard(event);
        }
        let newest = group.last().map_or(after, |event| event.sequence);
        if group.first().is_some_and(|event| event.sequence > after.next()) {
            tracing::warn!(%after, first = %group[0].sequence, "the warden no longer has the events in between");
        }
        let mut records: Vec<NewRecord> = group
            .into_iter()
            .map(
                |NodeEvent {
                     ledger,
                     sequence,
                     body,
                     ..
                 }| NewRecord {
                    ledger,
                    sequence,
                    body,
                },
            )
            .collect();
        let mut rng = StdRng::from_rng(&mut rand::rng());
        let mut failures = 0;
        loop {
            let mut changed = self.spool.watch();
            let result;
            (records, result) = self.spool.append(records, self.clock.now()).await;
            failures += 1;
            match result {
                Ok(Appended::Stored) => {
                    self.say(None);
                    return newest;
                }
                Ok(Appended::Full) => {
                    self.say(Some(
                        "the spool is full until the fleet acknowledges; the warden's ledger keeps the rest"
                            .into(),
                    ));
                    let wait = self.retry.bound(failures);
                    // Full until the fleet acknowledges something; looked at again in any case.
                    let _ = tokio::time::timeout(wait, changed.changed()).await;
                }
                Err(error) => {
                    self.say(Some(format!(
                        "{}; no event is acknowledged until it can",
                        chain(&error)
                    )));
                    tokio::time::sleep(self.retry.wait(failures, &mut rng)).await;
                }
            }
        }
    }

    fn say(&self, trouble: Option<String>) {
        self.trouble.send_if_modified(|said| {
            if *said == trouble {
                return false;
            }
            match &trouble {
                Some(why) => tracing::error!(why, "events cannot be stored"),
                None => tracing::info!("events are stored again"),
            }
            *said = trouble;
            true
        });
    }
}
