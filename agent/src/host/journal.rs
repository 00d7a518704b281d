//! The workers' journal: the namespace `loadline`, and nothing else. Production's logs are never opened.
//!
//! Needs read access to `/var/log/journal/<machine>.loadline` (or `/run/log/journal/…`), which the package gives
//! the agent's user by ACL. Blocking: one thread a reader. If the namespace has no journal yet, a reader simply
//! finds nothing.
//!
//! **Whose word is it?** A unit's lines are those of its processes, as journald names them itself. Between them stands
//! what the warden did to the unit: it writes into the same namespace, and names the unit in a field of its own. Workers can
//! write such a field too; so what counts is who sent it, which only journald can say.
//!
//! **Has journald written everything?** It lags by up to half a second, more under load. The kernel knows which
//! streams it has not read to their end (`journal_unread`). And a reader can send it a *probe*: a message of its own,
//! which journald writes after all that it has read before.

use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::time::Duration;

use systemd::journal::{Journal, OpenOptions};

use super::journal_stream::{self, Output};
use super::journal_unread::{Unread, unread};

/// The namespace of all workers.
pub const NAMESPACE: &str = "loadline";

/// Where journald takes messages of programs.
pub fn socket() -> PathBuf {
    PathBuf::from(format!("/run/systemd/journal.{NAMESPACE}/socket"))
}

/// The field in which the warden names the unit that its line is about. `journalctl -u` looks for it too.
pub(super) const ABOUT: &str = "OBJECT_SYSTEMD_UNIT";
/// By these a line is the warden's: journald adds them by the sender's process, and takes them from nobody.
const WARDEN: [(&str, &str); 2] = [("_UID", "0"), ("_SYSTEMD_UNIT", "loadline-warden.service")];

/// Who wrote a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Writer {
    /// The worker, to this output.
    Worker(Output),
    /// The warden, about the worker.
    Warden,
}

/// Where to begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// With the first line.
    First,
    /// With the last so many lines.
    Last(u32),
    /// With what follows a cursor.
    After(String),
}

/// Something found in the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// A line of the unit.
    Line {
        /// When journald got it, microseconds UTC.
        at_us: i64,
        /// Whose it is.
        writer: Writer,
        /// Without its line end.
        text: Vec<u8>,
        /// Where it stands.
        cursor: String,
    },
    /// A probe of this number came through.
    Probe(u64),
}

/// The journal cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// Something failed.
    #[error("cannot {what} the workers' journal on this node")]
    Read {
        /// What was tried.
        what: &'static str,
        #[source]
        source: io::Error,
    },
    /// journald does not say that it has written everything.
    #[error("the workers' journald did not answer within {}s: the last lines may be missing", after.as_secs())]
    Silent {
        /// How long it was waited for.
        after: Duration,
    },
    /// journald could not be asked.
    #[error("cannot ask the workers' journald at {path} whether it has written everything")]
    Probe {
        /// Its socket.
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// The journal of the workers, behind one door.
pub trait WorkerJournal: std::fmt::Debug + Send + Sync {
    /// A reader of one unit's lines, and of the warden's about it.
    ///
    /// # Errors
    /// When the journal cannot be opened or the start not be found.
    fn open(&self, unit: &str, start: &Start) -> Result<Box<dyn JournalReader>, JournalError>;
}

/// Reads the lines of one unit, in order. Stays in the thread that opened it.
pub trait JournalReader {
    /// The next entry, if there is one now.
    ///
    /// # Errors
    /// When the journal cannot be read.
    fn next(&mut self) -> Result<Option<Entry>, JournalError>;

    /// Waits until there may be more, at most so long.
    ///
    /// # Errors
    /// When the journal cannot be watched.
    fn wait(&mut self, at_most: Duration) -> Result<(), JournalError>;

    /// What journald has not read yet of the workers' outputs.
    ///
    /// # Errors
    /// When the kernel does not say.
    fn unread(&mut self) -> io::Result<Unread>;

    /// Sends a probe; it comes back as an entry of this number.
    ///
    /// # Errors
    /// When journald cannot be asked.
    fn probe(&mut self) -> Result<u64, JournalError>;
}

/// systemd's.
#[derive(Debug, Clone, Copy, Default)]
pub struct Journald;

fn failed(what: &'static str) -> impl Fn(systemd::Error) -> JournalError {
    move |error| JournalError::Read {
        what,
        source: error.into(),
    }
}

impl WorkerJournal for Journald {
    fn open(&self, unit: &str, start: &Start) -> Result<Box<dyn JournalReader>, JournalError> {
        let mut journal = OpenOptions::default()
            .local_only(true)
            .open_namespace(NAMESPACE)
            .map_err(failed("open"))?;
        let token = format!("{:016x}", rand::random::<u64>());
        let filter = |journal: &mut Journal| -> systemd::Result<()> {
            journal.match_add("_SYSTEMD_UNIT", unit)?;
            journal.match_or()?;
            journal.match_add(ABOUT, unit)?;
            for (field, value) in WARDEN {
                journal.match_add(field, value)?;
            }
            journal.match_or()?;
            journal.match_add("LOADLINE_PROBE", token.as_str())?;
            Ok(())
        };
        filter(&mut journal).map_err(failed("filter"))?;
        let here = seek(&mut journal, start).map_err(failed("find the place in"))?;
        Ok(Box::new(Reader {
            journal,
            here,
            token,
            probes: 0,
        }))
    }
}

/// Moves to the start; true if that is an entry that was not delivered yet.
fn seek(journal: &mut Journal, start: &Start) -> systemd::Result<bool> {
    match start {
        Start::First => journal.seek_head().map(|()| false),
        Start::Last(0) => {
            journal.seek_tail()?;
            // Without a step the place is not fixed, and later entries would be passed over.
            journal.previous().map(|_| false)
        }
        Start::Last(lines) => {
            journal.seek_tail()?;
            journal
                .previous_skip(u64::from(*lines))
                .map(|skipped| skipped > 0)
        }
        Start::After(cursor) => {
            journal.seek_cursor(cursor.as_str())?;
            // The nearest entry: the one already delivered, or, if that was rotated away, the first after it.
            Ok(journal.next()? > 0 && !journal.test_cursor(cursor.as_str())?)
        }
    }
}

struct Reader {
    journal: Journal,
    /// The current entry has not been delivered.
    here: bool,
    /// Tells this reader's probes from others'.
    token: String,
    probes: u64,
}

impl Reader {
    fn field(&mut self, name: &str) -> systemd::Result<Option<Vec<u8>>> {
        Ok(self
            .journal
            .get_data(name)?
            .and_then(|field| field.value().map(<[u8]>::to_vec)))
    }

    fn read(&mut self) -> systemd::Result<Option<Entry>> {
        loop {
            if !std::mem::take(&mut self.here) && self.journal.next()? == 0 {
                return Ok(None);
            }
            if let Some(number) = self.field("LOADLINE_NUMBER")?
                && self.field("LOADLINE_PROBE")?.as_deref() == Some(self.token.as_bytes())
            {
                let number = std::str::from_utf8(&number)
                    .ok()
                    .and_then(|text| text.parse().ok());
                match number {
                    Some(number) => return Ok(Some(Entry::Probe(number))),
                    None => continue,
                }
            }
            let Some(text) = self.field("MESSAGE")? else {
                continue;
            };
            let writer = self.writer()?;
            let at_us = i64::try_from(self.journal.timestamp_usec()?).unwrap_or(i64::MAX);
            let cursor = self.journal.cursor()?;
            return Ok(Some(Entry::Line {
                at_us,
                writer,
                text,
                cursor,
            }));
        }
    }

    fn writer(&mut self) -> systemd::Result<Writer> {
        let mut by_warden = true;
        for (field, value) in WARDEN {
            by_warden &= self.field(field)?.as_deref() == Some(value.as_bytes());
        }
        if by_warden {
            return Ok(Writer::Warden);
        }
        Ok(Writer::Worker(match self.field("_TRANSPORT")?.as_deref() {
            Some(b"stdout") => Output::from_priority(&self.field("PRIORITY")?.unwrap_or_default()),
            // syslog(3) and journal messages of a worker are its log, not its output.
            _ => Output::Stderr,
        }))
    }
}

impl JournalReader for Reader {
    fn next(&mut self) -> Result<Option<Entry>, JournalError> {
        self.read().map_err(failed("read"))
    }

    fn wait(&mut self, at_most: Duration) -> Result<(), JournalError> {
        self.journal
            .wait(Some(at_most))
            .map(|_| ())
            .map_err(failed("watch"))
    }

    fn unread(&mut self) -> io::Result<Unread> {
        unread(&journal_stream::socket_of(NAMESPACE))
    }

    fn probe(&mut self) -> Result<u64, JournalError> {
        let path = socket();
        self.probes += 1;
        let message = format!(
            "MESSAGE=Log reader asks whether everything is written\nPRIORITY=7\nLOADLINE_PROBE={}\nLOADLINE_NUMBER={}\n",
            self.token, self.probes
        );
        UnixDatagram::unbound()
            .and_then(|socket| socket.send_to(message.as_bytes(), &path))
            .map_err(|source| JournalError::Probe { path, source })?;
        Ok(self.probes)
    }
}
