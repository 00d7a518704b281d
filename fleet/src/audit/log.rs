//! Writes the log: one thread, one file, one sync for whatever gathered while the last one ran.
//!
//! [`AuditLog::write`] answers as soon as the line is in the file, so that a full disk refuses the call before
//! anything is submitted; [`Written::durable`] waits for the sync, which runs beside the store's own commit.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::sync::{mpsc, oneshot};
use tracing::error;

use super::chain::{Entry, Head, Line};
use crate::http::Metrics;

/// So many calls may wait to be recorded; more wait at the door.
const QUEUE_MAX: usize = 1024;
/// So many lines share one sync at most.
const BATCH_MAX: usize = 256;

/// Why a call was not recorded and therefore refused.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AuditError {
    /// The file cannot be opened or read at start.
    #[error("opening the audit log {}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: Arc<io::Error>,
    },
    /// The last line is not one of ours.
    #[error("the last line of the audit log {} is damaged: keep the file aside, and run `fleetd audit verify` on it", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// The line could not be written or synced.
    #[error("the audit log cannot be written")]
    Write(#[source] Arc<io::Error>),
    /// An earlier write failed, or fleetd is stopping.
    #[error("the audit log is closed after a failed write, or fleetd is stopping")]
    Closed,
}

type Answer = oneshot::Sender<Result<(), AuditError>>;

struct Request {
    entry: Entry,
    written: Answer,
    durable: Answer,
}

/// The way to the log's thread. Cheap to clone.
#[derive(Debug, Clone)]
pub struct AuditLog {
    queue: mpsc::Sender<Request>,
    metrics: Arc<Metrics>,
}

/// A line that is in the file, perhaps not yet on the disk.
#[derive(Debug)]
#[must_use = "acknowledge only after `durable`"]
pub struct Written {
    durable: oneshot::Receiver<Result<(), AuditError>>,
    metrics: Arc<Metrics>,
}

impl AuditLog {
    /// Opens or makes the file, finds the newest line, starts the thread. The thread ends, with everything
    /// written, when the last handle is dropped.
    ///
    /// # Errors
    /// When the file cannot be opened or its last line is damaged.
    pub fn open(path: &Path, metrics: Arc<Metrics>) -> Result<(Self, JoinHandle<()>), AuditError> {
        let failed = |source| AuditError::Open {
            path: path.to_owned(),
            source: Arc::new(source),
        };
        let file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(0o600)
            .open(path)
            .map_err(failed)?;
        let head = newest(&file, path)?;
        let (queue, requests) = mpsc::channel(QUEUE_MAX);
        let thread = std::thread::Builder::new()
            .name("audit".into())
            .spawn(move || Writer { file, head }.run(requests))
            .map_err(failed)?;
        Ok((Self { queue, metrics }, thread))
    }

    /// Writes a line.
    ///
    /// # Errors
    /// When it cannot be written: then the call has to be refused.
    pub async fn write(&self, entry: Entry) -> Result<Written, AuditError> {
        let (written, is_written) = oneshot::channel();
        let (durable, is_durable) = oneshot::channel();
        let sent = self
            .queue
            .send(Request {
                entry,
                written,
                durable,
            })
            .await;
        let result = match sent {
            Ok(()) => is_written.await.unwrap_or(Err(AuditError::Closed)),
            Err(_) => Err(AuditError::Closed),
        };
        if result.is_err() {
            self.metrics.audit_write_failed();
        }
        result.map(|()| Written {
            durable: is_durable,
            metrics: self.metrics.clone(),
        })
    }
}

impl Written {
    /// Waits until the line is on the disk.
    ///
    /// # Errors
    /// When it did not get there: then the call must not be acknowledged.
    pub async fn durable(self) -> Result<(), AuditError> {
        let result = self.durable.await.unwrap_or(Err(AuditError::Closed));
        if result.is_err() {
            self.metrics.audit_write_failed();
        }
        result
    }
}

struct Writer {
    file: File,
    head: Head,
}

enum NotWritten {
    /// The file is as it was before.
    TakenBack(AuditError),
    /// Nobody knows what the file holds.
    Unknown(AuditError),
}

impl Writer {
    fn run(mut self, mut requests: mpsc::Receiver<Request>) {
        let mut batch = Vec::new();
        while let Some(first) = requests.blocking_recv() {
            batch.push(first);
            while batch.len() < BATCH_MAX
                && let Ok(next) = requests.try_recv()
            {
                batch.push(next);
            }
            if let Err(failure) = self.commit(batch.drain(..)) {
                error!(%failure, "the audit log is closed: no change is accepted until fleetd is restarted");
                return;
            }
        }
    }

    /// After an error nobody knows what the file holds, so the caller ends the thread.
    fn commit(&mut self, batch: impl Iterator<Item = Request>) -> Result<(), AuditError> {
        let mut waiting = Vec::new();
        for Request {
            entry,
            written,
            durable,
        } in batch
        {
            match self.append(&entry) {
                Ok(()) => {
                    // Whoever asked may have hung up; the line stands all the same.
                    written.send(Ok(())).ok();
                    waiting.push(durable);
                }
                Err(NotWritten::TakenBack(failure)) => {
                    written.send(Err(failure)).ok();
                }
                Err(NotWritten::Unknown(failure)) => {
                    written.send(Err(failure.clone())).ok();
                    self.finish(waiting).ok();
                    return Err(failure);
                }
            }
        }
        self.finish(waiting)
    }

    fn append(&mut self, entry: &Entry) -> Result<(), NotWritten> {
        let error = |source| AuditError::Write(Arc::new(source));
        let encode = |source: serde_json::Error| NotWritten::TakenBack(error(source.into()));
        let (text, head) = self.head.append(entry).map_err(encode)?;
        let end = self
            .file
            .metadata()
            .map_err(|source| NotWritten::Unknown(error(source)))?
            .len();
        if let Err(source) = self.file.write_all(text.as_bytes()) {
            // The disk filled up, perhaps in the middle of the line: with the half taken back the chain is
            // whole, and calls are accepted again once there is room.
            self.file
                .set_len(end)
                .map_err(|source| NotWritten::Unknown(error(source)))?;
            return Err(NotWritten::TakenBack(error(source)));
        }
        self.head = head;
        Ok(())
    }

    fn finish(&mut self, waiting: Vec<Answer>) -> Result<(), AuditError> {
        let result = self
            .file
            .sync_data()
            .map_err(|source| AuditError::Write(Arc::new(source)));
        for durable in waiting {
            durable.send(result.clone()).ok();
        }
        result
    }
}

/// The newest line. A half line at the end is what a power cut in the middle of a write leaves: nobody was told
/// that it was recorded, so it is cut off.
fn newest(file: &File, path: &Path) -> Result<Head, AuditError> {
    let failed = |source| AuditError::Open {
        path: path.to_owned(),
        source: Arc::new(source),
    };
    let mut reader = BufReader::new(file);
    let length = reader.seek(SeekFrom::End(0)).map_err(failed)?;
    // Lines are a few hundred bytes; the last whole one lies within the last 64 KiB.
    let from = length.saturating_sub(64 * 1024);
    reader.seek(SeekFrom::Start(from)).map_err(failed)?;
    let (mut at, mut last, mut text) = (from, None, Vec::new());
    loop {
        text.clear();
        let read = reader.read_until(b'\n', &mut text).map_err(failed)?;
        if read == 0 {
            break;
        }
        if text.last() != Some(&b'\n') {
            file.set_len(at).map_err(failed)?;
            file.sync_all().map_err(failed)?;
            break;
        }
        at += u64::try_from(read).unwrap_or(u64::MAX);
        last = Some(text.clone());
    }
    let Some(text) = last else {
        return if at == 0 {
            Ok(Head::default())
        } else {
            Err(AuditError::Damaged {
                path: path.to_owned(),
            })
        };
    };
    let line: Line = serde_json::from_slice(&text).map_err(|_| AuditError::Damaged {
        path: path.to_owned(),
    })?;
    Ok(Head {
        seq: line.seq,
        hash: line.hash,
    })
}

#[cfg(test)]
mod tests;
