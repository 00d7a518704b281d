//! A worker's output, from this node's journal to whoever asked the fleet for it.
//!
//! One thread a request, few at a time, each ending with its session, its cancellation, or its attempt. Lines go
//! into the least urgent lane, which holds one chunk: a reader that is not read waits in the journal.

mod follow;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::mpsc;

use self::follow::{Flags, Follower, Outputs, OutputsError};
use super::warden_link::WardenLink;
use super::wire::{LogChunk, LogRequest, Up};
use crate::host::journal::{Start, WorkerJournal};

/// Readers at a time; each maps journal files of its own.
const READERS: usize = 16;
/// A reader's thread needs little.
const STACK: usize = 512 * 1024;

/// The readers of one session.
#[derive(Debug)]
pub(crate) struct LogDesk {
    journal: Arc<dyn WorkerJournal>,
    warden: Arc<WardenLink>,
    outputs: Arc<dyn Outputs>,
    lane: mpsc::Sender<Up>,
    readers: HashMap<u64, Arc<Flags>>,
}

/// The warden's word, waited for in a reader's thread.
#[derive(Debug)]
struct WardensWord {
    warden: Arc<WardenLink>,
    runtime: Handle,
}

impl Outputs for WardensWord {
    fn until_read(&self, within: Duration) -> Result<(), OutputsError> {
        let asked = self.runtime.block_on(self.warden.client.read(within));
        asked.map_err(|error| {
            if error.is_late() {
                OutputsError::Behind
            } else {
                OutputsError::Unknown(error.to_string())
            }
        })
    }
}

impl LogDesk {
    /// Inside a runtime.
    pub(crate) fn new(
        journal: Arc<dyn WorkerJournal>,
        warden: Arc<WardenLink>,
        lane: mpsc::Sender<Up>,
    ) -> Self {
        let outputs = Arc::new(WardensWord {
            warden: Arc::clone(&warden),
            runtime: Handle::current(),
        });
        Self {
            journal,
            warden,
            outputs,
            lane,
            readers: HashMap::new(),
        }
    }

    /// Starts to read, or says why not.
    pub(crate) async fn begin(&mut self, request: LogRequest) {
        self.readers
            .retain(|_, flags| !flags.done.load(Ordering::Acquire));
        let refused = if self.readers.len() >= READERS {
            Some(format!(
                "this node reads {READERS} logs already: try again when one has ended"
            ))
        } else if self.readers.contains_key(&request.id) {
            Some(format!(
                "a log request with the number {} is being served already",
                request.id
            ))
        } else {
            None
        };
        let id = request.id;
        let refused = match refused {
            Some(why) => Some(why),
            None => self.spawn(request).err(),
        };
        if let Some(error) = refused {
            let chunk = LogChunk {
                request: id,
                lines: Vec::new(),
                cursor: String::new(),
                end: true,
                error,
            };
            // A closed lane is a session that ended: nobody waits for the answer.
            let _ = self.lane.send(Up::Logs(chunk)).await;
        }
    }

    fn spawn(&mut self, request: LogRequest) -> Result<(), String> {
        let flags = Arc::new(Flags::default());
        let unit = request.attempt.unit_name();
        let start = match (&request.after_cursor, request.tail) {
            (Some(cursor), _) => Start::After(cursor.clone()),
            (None, Some(lines)) => Start::Last(lines),
            (None, None) => Start::First,
        };
        let (id, attempt, follow) = (request.id, request.attempt, request.follow);
        let follower = Follower {
            request: id,
            flags: Arc::clone(&flags),
            lane: self.lane.clone(),
            outputs: Arc::clone(&self.outputs),
        };
        let journal = Arc::clone(&self.journal);
        std::thread::Builder::new()
            .name(format!("log-{id}"))
            .stack_size(STACK)
            .spawn(move || follower.run(&*journal, &unit, &start))
            .map_err(|error| format!("this node cannot start another log reader: {error}"))?;
        if follow {
            let (warden, watched) = (Arc::clone(&self.warden), Arc::clone(&flags));
            tokio::spawn(async move {
                tokio::select! {
                    () = warden.ended(attempt) => watched.finish.store(true, Ordering::Release),
                    () = watched.until_over() => {}
                }
            });
        } else {
            flags.finish.store(true, Ordering::Release);
        }
        self.readers.insert(id, flags);
        Ok(())
    }

    /// Nobody wants it any more.
    pub(crate) fn cancel(&mut self, request: u64) {
        if let Some(flags) = self.readers.remove(&request) {
            flags.cancel();
        }
    }
}

impl Drop for LogDesk {
    fn drop(&mut self) {
        for flags in self.readers.values() {
            flags.cancel();
        }
    }
}

#[cfg(test)]
mod tests;
