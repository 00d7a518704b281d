//! What the node sends during a session: its state, its events, and how far the orders are durable.

use std::sync::Arc;

use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;

use super::SessionEnd;
use crate::agent::Shared;
use crate::agent::wire::{EventBatch, Orders, Reporter, Up, stand_in};
use crate::spool::{Batch, Broken, RowId, SpoolError};

/// Events under way at most: what a fleet may have to look through again after a break.
const UNDER_WAY: u64 = 512;
/// One batch: so many events and about so many bytes.
const BATCH: (usize, u64) = (128, 48 * 1024);

/// A sign of life every 5 s, with what the warden measured, or with why it is silent.
pub(super) async fn liveness(
    shared: &Arc<Shared>,
    lane: mpsc::Sender<Up>,
    mut reporter: Reporter,
) -> SessionEnd {
    let every = shared.settings.timing.liveness;
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        ticks.tick().await;
        let view = shared.warden.refresh_older_than(every / 2).await;
        let problem = view.problem.as_ref().map(|problem| problem.why.as_str());
        if lane
            .send(reporter.liveness(view.status.as_deref(), problem))
            .await
            .is_err()
        {
            return SessionEnd::Closed;
        }
    }
}

/// Orders into the warden's ledger, one message after another, and only then back: applied.
pub(super) async fn orders(
    shared: &Arc<Shared>,
    lane: mpsc::Sender<Up>,
    mut desired: mpsc::Receiver<Orders>,
) -> SessionEnd {
    let mut rng = StdRng::from_rng(&mut rand::rng());
    while let Some(orders) = desired.recv().await {
        let mut failures = 0;
        let applied = loop {
            match shared.warden.client.apply(&orders).await {
                Ok(applied) => break applied,
                Err(error) => {
                    failures += 1;
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        generation = %orders.generation,
                        "orders wait for the warden"
                    );
                    tokio::time::sleep(shared.settings.timing.retry.wait(failures, &mut rng)).await;
                }
            }
        };
        if lane.send(Up::Applied(applied)).await.is_err() {
            return SessionEnd::Closed;
        }
    }
    SessionEnd::Closed
}

/// Events from the spool, oldest first; dropped there only when the fleet says it has them.
pub(super) async fn events(shared: &Arc<Shared>, lane: mpsc::Sender<Up>) -> SessionEnd {
    let mut sent = RowId::default();
    let mut failures = 0;
    let mut changed = shared.spool.watch();
    loop {
        changed.mark_unchanged();
        match next(shared, sent).await {
            Ok(Some((batch, last))) => {
                failures = 0;
                sent = last;
                if !batch.is_empty() && lane.send(Up::Events(batch)).await.is_err() {
                    return SessionEnd::Closed;
                }
                continue;
            }
            Ok(None) => {}
            Err(error) => {
                failures += 1;
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "the spool cannot be read"
                );
                // A file begun anew counts its rows from the start.
                sent = RowId::default();
                tokio::time::sleep(shared.settings.timing.retry.bound(failures)).await;
                continue;
            }
        }
        if changed.changed().await.is_err() {
            return SessionEnd::Closed;
        }
    }
}

/// The next batch, if there is one and enough of what was sent is acknowledged.
async fn next(shared: &Arc<Shared>, sent: RowId) -> Result<Option<(EventBatch, RowId)>, SpoolError> {
    let now = shared.clock.now();
    if shared.spool.waiting_through(sent, now).await? >= UNDER_WAY {
        return Ok(None);
    }
    let boot_id = shared
        .warden
        .view()
        .status
        .map(|status| status.boot_id.clone())
        .unwrap_or_default();
    let write = move |broken: &Broken| stand_in(broken, &boot_id, now);
    let Batch { records, broken } = shared.spool.next_batch(sent, BATCH, now, write).await?;
    for Broken {
        ledger,
        sequence,
        why,
    } in &broken
    {
        let ledger = ledger.map(|ledger| ledger.to_string()).unwrap_or_default();
        tracing::error!(
            ledger,
            %sequence,
            why,
            "a spool record was unreadable and is kept in the table `aside` of spool.db; the fleet is told that it is lost"
        );
    }
    let Some(last) = records.last().map(|record| record.row) else {
        return Ok(None);
    };
    let (batch, unknown) = EventBatch::new(&records);
    for sequence in unknown {
        tracing::error!(%sequence, "an event of the spool is of no known form and was not sent");
    }
    Ok(Some((batch, last)))
}
