//! `loadline-warden drain`: takes all workers off the node by name, for the package's removal. Through the running
//! warden if there is one, else in its place.

use std::time::Duration;

use loadline_model::Span;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::reconciler::Command;
use super::run::{Paths, RunError, Running, look, start};
use super::wire::client::LocalWarden;
use crate::host::systemd::{LiveSystemd, Systemd, SystemdError};

/// How often it is looked again.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Why workers are left.
#[derive(Debug, thiserror::Error)]
pub(super) enum DrainError {
    /// Workers run, and it was asked to refuse then.
    #[error("{} of this node's workers still run: {}; cancel them, or run `loadline-warden drain`", .0.len(), .0.join(", "))]
    Refused(Vec<String>),
    /// They did not end in time.
    #[error("{} of this node's workers have not ended within {limit}: {}", left.len(), left.join(", "))]
    Left {
        /// The wait.
        limit: Span,
        /// Who.
        left: Vec<String>,
    },
    /// systemd cannot be asked who runs.
    #[error("systemd cannot be asked which workers run")]
    Systemd(#[from] SystemdError),
    /// The warden refused.
    #[error("the running warden did not do it")]
    Warden(#[source] Box<tonic::Status>),
    /// In the warden's place, something is missing.
    #[error("no warden runs, and its place cannot be taken")]
    Place(#[from] RunError),
}

/// Ends all workers and waits for it, at most so long. With `refuse` it only says whether there are any.
///
/// # Errors
/// When workers are left, by name.
pub(super) async fn drain(paths: Paths, limit: Span, refuse: bool) -> Result<usize, DrainError> {
    let (systemd, signals) = LiveSystemd::connect().await?;
    let workers = names(&systemd).await?;
    if workers.is_empty() {
        return Ok(0);
    }
    if refuse {
        return Err(DrainError::Refused(workers));
    }
    let left = match LocalWarden::connect(&paths.socket).await {
        Some(warden) => through_warden(warden, limit).await?,
        None => {
            let machine = look(&paths, Ok(&systemd)).await;
            let (node, _, passed) = machine.start().map_err(RunError::from)?;
            let running = start(&paths, systemd, signals, node, passed).await?;
            let left = in_its_place(&running, limit).await?;
            running.end().await?;
            left
        }
    };
    if left.is_empty() {
        Ok(workers.len())
    } else {
        Err(DrainError::Left { limit, left })
    }
}

async fn names(systemd: &LiveSystemd) -> Result<Vec<String>, SystemdError> {
    Ok(systemd
        .workers()
        .await?
        .into_iter()
        .map(|(unit, _)| unit)
        .collect())
}

async fn through_warden(mut warden: LocalWarden, limit: Span) -> Result<Vec<String>, DrainError> {
    let refused = |status| DrainError::Warden(Box::new(status));
    warden.drain().await.map_err(refused)?;
    let begun = Instant::now();
    loop {
        let left = warden.workers().await.map_err(refused)?;
        if left.is_empty() || begun.elapsed() >= std::time::Duration::from(limit) {
            return Ok(left);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

async fn in_its_place(running: &Running, limit: Span) -> Result<Vec<String>, DrainError> {
    let (reply, told) = oneshot::channel();
    let gone = |_| DrainError::Place(RunError::Reconciler);
    running
        .commands
        .send(Command::Drain { reply })
        .await
        .map_err(|_| DrainError::Place(RunError::Reconciler))?;
    told.await.map_err(gone)?;
    let begun = Instant::now();
    loop {
        let (reply, told) = oneshot::channel();
        running
            .commands
            .send(Command::Status { reply })
            .await
            .map_err(|_| DrainError::Place(RunError::Reconciler))?;
        let attempts = told.await.map_err(gone)?.attempts;
        let left: Vec<String> = attempts.iter().map(|one| one.attempt.unit_name()).collect();
        if left.is_empty() || begun.elapsed() >= std::time::Duration::from(limit) {
            return Ok(left);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
