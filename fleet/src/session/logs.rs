//! Readers of logs on one node's stream.
//!
//! Each reader has a bounded buffer. When it is full the request is cancelled at the node: the reader sees its
//! chunks end without the last one, empties the buffer, and asks again from the cursor of the last chunk it got.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc;

use super::registry::{LogStart, Open};
use super::wire::{Down, LogLines};

/// Chunks of a few hundred lines: some MiB of text for one reader at the most.
const CHUNKS_MAX: usize = 64;

/// A piece of an attempt's output.
#[derive(Debug)]
pub(crate) struct LogChunk {
    pub(crate) lines: LogLines,
    /// Nothing follows.
    pub(crate) end: bool,
    /// One sentence, or empty.
    pub(crate) error: String,
    /// Where the last line stands; empty if there was none yet.
    pub(crate) cursor: String,
}

/// The readers of one session, by request.
#[derive(Debug, Default)]
pub(super) struct LogTable(Mutex<Readers>);

#[derive(Debug, Default)]
struct Readers {
    over: bool,
    last_request: u64,
    waiting: HashMap<u64, mpsc::Sender<LogChunk>>,
}

/// What to do after a chunk was handed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum After {
    GoOn,
    Cancel,
}

impl LogTable {
    fn lock(&self) -> MutexGuard<'_, Readers> {
        // Nothing under this lock can leave the map half-changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// None if the stream is over: nobody would ever answer.
    fn add(&self) -> Option<(u64, mpsc::Receiver<LogChunk>)> {
        let (sender, chunks) = mpsc::channel(CHUNKS_MAX);
        let mut readers = self.lock();
        if readers.over {
            return None;
        }
        readers.last_request += 1;
        let request = readers.last_request;
        readers.waiting.insert(request, sender);
        Some((request, chunks))
    }

    fn remove(&self, request: u64) -> bool {
        self.lock().waiting.remove(&request).is_some()
    }

    /// Hands a chunk to its reader without waiting.
    pub(super) fn deliver(&self, request: u64, chunk: LogChunk) -> After {
        let end = chunk.end;
        let mut readers = self.lock();
        let delivered = readers
            .waiting
            .get(&request)
            .is_some_and(|reader| reader.try_send(chunk).is_ok());
        if end || !delivered {
            readers.waiting.remove(&request);
        }
        if delivered || end {
            After::GoOn
        } else {
            After::Cancel
        }
    }

    /// The stream is over: every reader sees its chunks end.
    pub(super) fn close(&self) {
        let mut readers = self.lock();
        readers.over = true;
        readers.waiting.clear();
    }
}

/// One reader. Dropping it cancels the request at the node.
#[derive(Debug)]
pub(crate) struct LogReader {
    open: Arc<Open>,
    request: u64,
    chunks: mpsc::Receiver<LogChunk>,
}

impl LogReader {
    pub(super) fn start(open: Arc<Open>, start: LogStart) -> Option<Self> {
        let (request, chunks) = open.logs.add()?;
        let reader = Self {
            open,
            request,
            chunks,
        };
        // A stream whose way down is full is as good as broken; whoever asks tries again.
        reader
            .open
            .down
            .try_send(Ok(Down::LogRequest { request, start }))
            .ok()?;
        Some(reader)
    }

    /// The next chunk; none if the stream broke or this reader was too slow. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Option<LogChunk> {
        self.chunks.recv().await
    }
}

impl Drop for LogReader {
    fn drop(&mut self) {
        if self.open.logs.remove(self.request) {
            // If this does not get through, the node's next chunk is answered with another cancellation.
            self.open
                .down
                .try_send(Ok(Down::LogCancel {
                    request: self.request,
                }))
                .ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::SessionId;

    fn open() -> (
        Arc<Open>,
        mpsc::Receiver<Result<Down, crate::api::failure::Failure>>,
    ) {
        let (down, sent) = mpsc::channel(8);
        let open = Open {
            id: SessionId(1),
            boot_id: String::new(),
            down,
            logs: LogTable::default(),
        };
        (Arc::new(open), sent)
    }

    fn start() -> LogStart {
        let attempt = "0192f0c1-2345-7abc-8def-0123456789ab".parse().unwrap();
        LogStart {
            attempt,
            follow: false,
            tail: None,
            after: None,
        }
    }

    fn chunk(end: bool) -> LogChunk {
        LogChunk {
            lines: LogLines::default(),
            end,
            error: String::new(),
            cursor: "c".into(),
        }
    }

    #[tokio::test]
    async fn a_slow_reader_is_cut_off_and_what_it_had_is_kept() {
        let (open, mut sent) = open();
        let mut reader = LogReader::start(open.clone(), start()).unwrap();
        assert!(matches!(
            sent.recv().await.unwrap().unwrap(),
            Down::LogRequest { request: 1, .. }
        ));
        for _ in 0..CHUNKS_MAX {
            assert_eq!(open.logs.deliver(1, chunk(false)), After::GoOn);
        }
        assert_eq!(open.logs.deliver(1, chunk(false)), After::Cancel);
        let mut got = 0;
        while let Some(chunk) = reader.next().await {
            assert!(!chunk.end);
            got += 1;
        }
        assert_eq!(got, CHUNKS_MAX);
    }

    #[tokio::test]
    async fn a_stream_that_is_over_takes_no_reader_and_lets_the_others_go() {
        let (open, _sent) = open();
        let mut reader = LogReader::start(open.clone(), start()).unwrap();
        open.logs.close();
        assert!(reader.next().await.is_none());
        assert!(LogReader::start(open, start()).is_none());
    }

    #[tokio::test]
    async fn a_reader_that_leaves_is_cancelled_at_the_node_once() {
        let (open, mut sent) = open();
        drop(LogReader::start(open.clone(), start()).unwrap());
        assert!(sent.recv().await.unwrap().is_ok());
        assert!(matches!(
            sent.recv().await.unwrap().unwrap(),
            Down::LogCancel { request: 1 }
        ));
        assert_eq!(open.logs.deliver(1, chunk(false)), After::Cancel);
        let mut reader = LogReader::start(open.clone(), start()).unwrap();
        assert_eq!(open.logs.deliver(2, chunk(true)), After::GoOn);
        assert!(reader.next().await.unwrap().end);
        drop(reader);
        assert!(matches!(
            sent.recv().await.unwrap().unwrap(),
            Down::LogRequest { request: 2, .. }
        ));
        assert!(sent.try_recv().is_err());
    }
}
