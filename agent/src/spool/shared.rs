//! The spool as the agent's tasks use it: one at a time, off the event loop, telling who waits when it changed.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use loadline_model::{LedgerId, Sequence, WallTime};
use tokio::sync::watch;

use super::{
    Appended, Batch, Broken, NewRecord, Opening, RowId, Spool, SpoolError, SpoolFault, SpoolLimits, SpoolView,
};

/// A handle; clones share one spool.
#[derive(Debug, Clone)]
pub(crate) struct SharedSpool {
    spool: Arc<Mutex<Spool>>,
    view: watch::Sender<SpoolView>,
}

impl SharedSpool {
    /// Opens the spool; see [`Spool::open`].
    pub(crate) fn open(
        path: &std::path::Path,
        limits: SpoolLimits,
        now: WallTime,
    ) -> Result<(Self, Opening), SpoolError> {
        let (spool, opening) = Spool::open(path, limits, now)?;
        let view = watch::Sender::new(spool.view());
        Ok((
            Self {
                spool: Arc::new(Mutex::new(spool)),
                view,
            },
            opening,
        ))
    }

    /// Changes whenever events came or went.
    pub(crate) fn watch(&self) -> watch::Receiver<SpoolView> {
        self.view.subscribe()
    }

    async fn run<T: Send + 'static>(
        &self,
        now: WallTime,
        operation: impl FnOnce(&mut Spool) -> Result<T, SpoolError> + Send + 'static,
    ) -> Result<T, SpoolError> {
        let (spool, view) = (Arc::clone(&self.spool), self.view.clone());
        let work = tokio::task::spawn_blocking(move || {
            let mut spool = spool.lock().unwrap_or_else(PoisonError::into_inner);
            let before = spool.view();
            let result = recovering(&mut spool, now, operation);
            let after = spool.view();
            if before != after {
                view.send_replace(after);
            }
            result
        });
        match work.await {
            Ok(result) => result,
            Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
        }
    }

    pub(crate) async fn stored_through(
        &self,
        ledger: LedgerId,
        now: WallTime,
    ) -> Result<Sequence, SpoolError> {
        self.run(now, move |spool| spool.stored_through(ledger)).await
    }

    pub(crate) async fn oldest_to_tell(
        &self,
        ledger: LedgerId,
        now: WallTime,
    ) -> Result<Sequence, SpoolError> {
        self.run(now, move |spool| spool.oldest_to_tell(ledger)).await
    }

    /// The records come back with the answer, so that they can be tried again.
    pub(crate) async fn append(
        &self,
        records: Vec<NewRecord>,
        now: WallTime,
    ) -> (Vec<NewRecord>, Result<Appended, SpoolError>) {
        let records = Arc::new(records);
        let shared = Arc::clone(&records);
        let result = self.run(now, move |spool| spool.append(&shared)).await;
        (Arc::unwrap_or_clone(records), result)
    }

    pub(crate) async fn next_batch(
        &self,
        after: RowId,
        limits: (usize, u64),
        now: WallTime,
        stand_in: impl Fn(&Broken) -> Option<Vec<u8>> + Send + 'static,
    ) -> Result<Batch, SpoolError> {
        self.run(now, move |spool| spool.next_batch(after, limits, now, stand_in))
            .await
    }

    pub(crate) async fn waiting_through(&self, row: RowId, now: WallTime) -> Result<u64, SpoolError> {
        self.run(now, move |spool| spool.waiting_through(row)).await
    }

    pub(crate) async fn drop_through(
        &self,
        ledger: LedgerId,
        sequence: Sequence,
        now: WallTime,
    ) -> Result<u64, SpoolError> {
        self.run(now, move |spool| spool.drop_through(ledger, sequence))
            .await
    }
}

/// A file that turns out broken is set aside and a new one begun; the failed operation is still reported.
fn recovering<T>(
    spool: &mut Spool,
    now: WallTime,
    operation: impl FnOnce(&mut Spool) -> Result<T, SpoolError>,
) -> Result<T, SpoolError> {
    let result = operation(spool);
    if result
        .as_ref()
        .is_err_and(|error| error.fault() == SpoolFault::Corrupt)
    {
        let to: PathBuf = spool.begin_anew(now)?;
        tracing::error!(
            file = %to.display(),
            "the event spool was unreadable and is kept at this path; a new one is begun, and the warden tells again what it still has"
        );
    }
    result
}
