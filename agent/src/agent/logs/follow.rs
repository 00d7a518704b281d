//! One reader: from the journal into chunks, until it is over and nothing is left.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use loadline_model::WallTime;
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;

use super::super::wire::{LogChunk, LogLine, Up};
use crate::host::journal::{Entry, JournalError, JournalReader, Start, WorkerJournal, Writer};
use crate::host::journal_stream::Output;
use crate::host::journal_unread::Drain;
use crate::sentence::chain;

/// A chunk is sent when it has so many lines or bytes, or when the journal has no more just now.
const LINES: usize = 256;
const BYTES: usize = 32 * 1024;
/// How soon a reader notices that nobody wants it any more.
const NOTICE: Duration = Duration::from_millis(500);
/// How long journald may take to accept what waits, and how long to say that it has written everything.
const FLUSH: Duration = Duration::from_secs(10);
/// The warden waits as long for journald, and says then that it did.
const READ: Duration = Duration::from_secs(15);
/// Where the kernel does not tell what journald has not read, so many questions in a row have to come back with no
/// line of the worker before them. journald that was kept from its CPU finds a whole short worker at once, serves in any
/// order what it finds at once, and takes a stream in steps: its connection, its header, its first line. Each question is
/// at least one turn of journald's loop later than the one before. That makes a hole unlikely, and not impossible.
const QUIET: u32 = 4;
/// While a question is out, how soon its answer is looked for: journald wakes its readers only every 250 ms.
const LOOK: Duration = Duration::from_millis(10);

/// What a reader and its desk tell each other.
#[derive(Debug, Default)]
pub(super) struct Flags {
    /// Read to the end, then stop.
    pub(super) finish: AtomicBool,
    /// Stop now.
    cancelled: AtomicBool,
    /// The reader has stopped.
    pub(super) done: AtomicBool,
    over: Notify,
}

impl Flags {
    pub(super) fn cancel(&self) {
        self.cancelled.store(true, Ordering::Release);
        self.over.notify_waiters();
    }

    /// Returns when the reader has stopped or shall stop.
    pub(super) async fn until_over(&self) {
        loop {
            let over = self.over.notified();
            tokio::pin!(over);
            over.as_mut().enable();
            if self.done.load(Ordering::Acquire) || self.cancelled.load(Ordering::Acquire) {
                return;
            }
            over.await;
        }
    }
}

/// How reading came to its end.
enum Read {
    /// Everything was read.
    All,
    /// The session is over, or nobody wants the lines.
    Unwanted,
}

/// The session is over.
struct Closed;

/// Where the question stands whether everything is written.
enum Flush {
    NotAsked,
    /// journald has not read all that there is.
    Reading {
        drain: Drain,
        until: Instant,
    },
    /// journald was asked, and writes the question down after all that it has read.
    Asked {
        probe: u64,
        /// Questions in a row, with this one, before which no line came; none are counted when all was read.
        quiet: Option<u32>,
        until: Instant,
    },
}

pub(super) struct Follower {
    pub(super) request: u64,
    pub(super) flags: Arc<Flags>,
    pub(super) lane: mpsc::Sender<Up>,
    pub(super) outputs: Arc<dyn Outputs>,
}

/// The outputs of this node's workers, which the warden opened.
pub(super) trait Outputs: std::fmt::Debug + Send + Sync {
    /// Returns once journald has read all that ended workers wrote.
    ///
    /// # Errors
    /// When it does not within that time, or nobody knows.
    fn until_read(&self, within: Duration) -> Result<(), OutputsError>;
}

/// Why it is not known that journald has read everything.
#[derive(Debug, thiserror::Error)]
pub(super) enum OutputsError {
    #[error("journald is behind")]
    Behind,
    #[error("{0}")]
    Unknown(String),
}

#[derive(Default)]
struct Chunk {
    lines: Vec<LogLine>,
    bytes: usize,
    cursor: String,
}

impl Follower {
    pub(super) fn run(self, journal: &dyn WorkerJournal, unit: &str, start: &Start) {
        let mut chunk = Chunk::default();
        let read = self.all(journal, unit, start, &mut chunk);
        let error = match read {
            Ok(Read::All) => String::new(),
            Ok(Read::Unwanted) => return self.stopped(),
            Err(error) => chain(&error),
        };
        // A closed lane is a session that ended: the fleet asks again, from its cursor.
        let _ = self.send(&mut chunk, true, error);
        self.stopped();
    }

    fn all(
        &self,
        journal: &dyn WorkerJournal,
        unit: &str,
        start: &Start,
        chunk: &mut Chunk,
    ) -> Result<Read, JournalError> {
        if let Read::Unwanted = self.read(&mut *journal.open(unit, start)?, chunk)? {
            return Ok(Read::Unwanted);
        }
        // All is written, perhaps into a file that journald made meanwhile. Readers hear late of such a one, and
        // cannot open it before it is begun; whoever opens the journal now has it.
        let place = match chunk.cursor.as_str() {
            "" => start.clone(),
            cursor => Start::After(cursor.to_owned()),
        };
        self.rest(&mut *journal.open(unit, &place)?, chunk)
    }

    /// What is there and nothing more.
    fn rest(&self, reader: &mut dyn JournalReader, chunk: &mut Chunk) -> Result<Read, JournalError> {
        while let Some(entry) = reader.next()? {
            if self.is_unwanted() || self.take(entry, chunk).is_err() {
                return Ok(Read::Unwanted);
            }
        }
        Ok(Read::All)
    }

    fn is_unwanted(&self) -> bool {
        self.flags.cancelled.load(Ordering::Acquire) || self.lane.is_closed()
    }

    /// Puts a line to the others, and sends them when they are enough.
    fn take(&self, entry: Entry, chunk: &mut Chunk) -> Result<(), Closed> {
        if let Entry::Line {
            at_us,
            writer,
            text,
            cursor,
        } = entry
        {
            chunk.push(at_us, writer, text, cursor);
        }
        if chunk.is_full() {
            return self.send(chunk, false, String::new());
        }
        Ok(())
    }

    fn stopped(&self) {
        self.flags.done.store(true, Ordering::Release);
        self.flags.over.notify_waiters();
    }

    fn read(&self, reader: &mut dyn JournalReader, chunk: &mut Chunk) -> Result<Read, JournalError> {
        let mut flush = Flush::NotAsked;
        loop {
            if self.is_unwanted() {
                return Ok(Read::Unwanted);
            }
            match reader.next()? {
                Some(line @ Entry::Line { .. }) => {
                    if let Flush::Asked {
                        quiet: Some(quiet), ..
                    } = &mut flush
                    {
                        *quiet = 0;
                    }
                    if self.take(line, chunk).is_err() {
                        return Ok(Read::Unwanted);
                    }
                }
                Some(Entry::Probe(number)) => match flush {
                    Flush::Asked { probe, quiet, .. } if probe == number => match quiet {
                        Some(quiet) if quiet < QUIET => flush = ask(reader, Some(quiet + 1))?,
                        _ => return Ok(Read::All),
                    },
                    _ => {}
                },
                None => {
                    if !chunk.lines.is_empty() && self.send(chunk, false, String::new()).is_err() {
                        return Ok(Read::Unwanted);
                    }
                    self.idle(reader, &mut flush)?;
                }
            }
        }
    }

    /// Nothing to read now: wait, or find out whether there will be more.
    fn idle(&self, reader: &mut dyn JournalReader, flush: &mut Flush) -> Result<(), JournalError> {
        match flush {
            Flush::NotAsked if self.flags.finish.load(Ordering::Acquire) => {
                *flush = self.look(reader, Drain::default(), Instant::now() + FLUSH)?;
            }
            Flush::NotAsked => return reader.wait(NOTICE),
            Flush::Reading { until, .. } | Flush::Asked { until, .. } if Instant::now() >= *until => {
                return Err(JournalError::Silent { after: FLUSH });
            }
            Flush::Reading { drain, until } => {
                *flush = self.look(reader, std::mem::take(drain), *until)?;
            }
            Flush::Asked { .. } => {}
        }
        reader.wait(LOOK)
    }

    /// Whether journald has read everything; once it has, it is asked to write that down. First whatever waits at its
    /// door has to be let in, which is seen from here; then the warden knows what was read.
    fn look(
        &self,
        reader: &mut dyn JournalReader,
        mut drain: Drain,
        until: Instant,
    ) -> Result<Flush, JournalError> {
        let read = match reader.unread() {
            Ok(unread) if unread.waiting.is_none() => Err(OutputsError::Unknown(
                "journald's socket is not to be found".into(),
            )),
            Ok(unread) if drain.is_over(&unread) => self.outputs.until_read(READ),
            Ok(_) => return Ok(Flush::Reading { drain, until }),
            Err(error) => Err(OutputsError::Unknown(error.to_string())),
        };
        match read {
            Ok(()) => ask(reader, None),
            Err(OutputsError::Behind) => Err(JournalError::Silent { after: READ }),
            Err(OutputsError::Unknown(why)) => {
                tracing::warn!(
                    why,
                    "it is not known what journald has not read: a log's end is guessed"
                );
                ask(reader, Some(1))
            }
        }
    }

    fn send(&self, chunk: &mut Chunk, end: bool, error: String) -> Result<(), Closed> {
        let Chunk {
            lines,
            cursor,
            bytes: _,
        } = std::mem::take(chunk);
        // The place stays known for the chunks to come.
        chunk.cursor.clone_from(&cursor);
        let logs = LogChunk {
            request: self.request,
            lines,
            cursor,
            end,
            error,
        };
        self.lane.blocking_send(Up::Logs(logs)).map_err(|_| Closed)
    }
}

fn ask(reader: &mut dyn JournalReader, quiet: Option<u32>) -> Result<Flush, JournalError> {
    let probe = reader.probe()?;
    Ok(Flush::Asked {
        probe,
        quiet,
        until: Instant::now() + FLUSH,
    })
}

impl Chunk {
    fn push(&mut self, at_us: i64, writer: Writer, text: Vec<u8>, cursor: String) {
        self.bytes += text.len();
        self.cursor = cursor;
        self.lines.push(LogLine {
            at: WallTime(at_us),
            // Whoever does not know the warden's lines shows them where they are not taken for results.
            stderr: writer != Writer::Worker(Output::Stdout),
            by_warden: writer == Writer::Warden,
            text,
        });
    }

    fn is_full(&self) -> bool {
        self.lines.len() >= LINES || self.bytes >= BYTES
    }
}
