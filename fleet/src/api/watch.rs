//! A watched job: the state now, then every change, until the job is done.

use std::sync::Arc;

use loadline_model::JobPhase;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;

use super::Edge;
use super::call::Call;
use super::failure::Failure;
use crate::state::{JobChange, JobDetail, JobRef};
use crate::writer::JobWatch;

/// So many changes may wait for a slow client; HTTP/2 holds it back after that, and the writer cuts it off in the
/// end, whereupon the watch starts again from the state.
const CHANGES_MAX: usize = 64;

/// Changes, the first of which carries the whole job; ends when the job is done.
pub(super) type Changes = ReceiverStream<Result<JobChange, Failure>>;

impl Edge {
    pub(super) async fn watch_job(self: &Arc<Self>, call: &Call, job: JobRef) -> Result<Changes, Failure> {
        let watched = self.fleet.watch_job(job).await?;
        let (changes, stream) = mpsc::channel(CHANGES_MAX);
        let watcher = Watcher {
            edge: self.clone(),
            job,
            changes,
            drain: call.drain.clone(),
        };
        tokio::spawn(watcher.run(watched));
        Ok(ReceiverStream::new(stream))
    }
}

struct Watcher {
    edge: Arc<Edge>,
    job: JobRef,
    changes: mpsc::Sender<Result<JobChange, Failure>>,
    drain: watch::Receiver<bool>,
}

/// The client has gone, or everything was said.
struct Over;

impl Watcher {
    async fn run(mut self, first: JobWatch) {
        let mut watched = Ok(first);
        loop {
            let ended = match watched {
                Ok(watched) => self.follow(watched).await,
                Err(refused) => self.fail(Failure::from(refused)).await,
            };
            if let Err(Over) = ended {
                return;
            }
            watched = self.edge.fleet.watch_job(self.job).await;
        }
    }

    /// Returns normally if the watcher was too slow and has to start again.
    async fn follow(&mut self, watched: JobWatch) -> Result<(), Over> {
        let JobWatch { detail, mut changes } = watched;
        self.send(whole(detail)).await?;
        loop {
            // All arms are cancel-safe: receiving and waiting lose nothing when dropped.
            let change = tokio::select! {
                change = changes.recv() => change,
                () = self.changes.closed() => return Err(Over),
                _ = self.drain.wait_for(|drain| *drain) => None,
            };
            if *self.drain.borrow() {
                return self.fail(Failure::draining()).await;
            }
            let Some(change) = change else { return Ok(()) };
            self.send(change).await?;
        }
    }

    /// The change that ends the job is the last.
    async fn send(&self, change: JobChange) -> Result<(), Over> {
        let done = matches!(change.summary.phase, JobPhase::Done(_));
        self.changes.send(Ok(change)).await.map_err(|_| Over)?;
        if done { Err(Over) } else { Ok(()) }
    }

    async fn fail(&self, failure: Failure) -> Result<(), Over> {
        // Whoever has gone does not need to be told.
        self.changes.send(Err(failure)).await.ok();
        Err(Over)
    }
}

fn whole(detail: JobDetail) -> JobChange {
    JobChange {
        summary: detail.summary,
        changed: detail.attempts,
    }
}
