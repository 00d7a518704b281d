//! What the warden says about a worker, written into the workers' journal, so that it stands between the worker's own
//! lines.
//!
//! Speaks journald's native protocol itself: sd-journal's own call (and the `systemd` crate's) knows only the host's
//! journal, and waits while journald is busy. This never waits: a full socket is said, and whoever calls decides.
//! Touches the namespace's `socket`; anybody may write there, and journald names the sender (see `host/journal.rs`).

use std::io::{self, ErrorKind};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;

use super::journal::{ABOUT, socket};

/// How `journalctl` names the writer.
const IDENTIFIER: &str = "loadline";
/// "notice": normal, but to be seen.
const PRIORITY: &str = "5";

/// A line about a unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remark {
    /// The unit.
    pub unit: String,
    /// What was done, as a word.
    pub action: &'static str,
    /// The line.
    pub text: String,
}

/// Why a line is not in the journal.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// journald is behind; it can be tried again.
    #[error("the workers' journald at {path} does not take more just now")]
    Full {
        /// Its socket.
        path: PathBuf,
    },
    /// It cannot be reached or does not take this.
    #[error("cannot write to the workers' journald at {path}: is systemd-journald@loadline.socket running?")]
    Failed {
        /// Its socket.
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// Writes lines about workers.
#[derive(Debug, Clone)]
pub struct JournalSender {
    path: PathBuf,
}

impl Default for JournalSender {
    fn default() -> Self {
        Self::new(socket())
    }
}

impl JournalSender {
    /// To journald's socket there.
    pub const fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// Hands one line over, at once or not at all. A socket for each, since journald's may be another one by now.
    ///
    /// # Errors
    /// When journald does not take it.
    pub fn send(&self, remark: &Remark) -> Result<(), SendError> {
        let sent = UnixDatagram::unbound().and_then(|socket| {
            socket.set_nonblocking(true)?;
            socket.send_to(&encoded(remark), &self.path)
        });
        let path = || self.path.clone();
        match sent {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Err(SendError::Full { path: path() }),
            Err(source) => Err(SendError::Failed { path: path(), source }),
        }
    }
}

fn encoded(remark: &Remark) -> Vec<u8> {
    let mut message = Vec::with_capacity(256 + remark.text.len());
    for (name, value) in [
        ("MESSAGE", remark.text.as_str()),
        ("PRIORITY", PRIORITY),
        ("SYSLOG_IDENTIFIER", IDENTIFIER),
        (ABOUT, &remark.unit),
        ("LOADLINE_ACTION", remark.action),
    ] {
        field(&mut message, name, value);
    }
    message
}

/// The form with a length: no value can end early or begin another field.
fn field(message: &mut Vec<u8>, name: &str, value: &str) {
    message.extend_from_slice(name.as_bytes());
    message.push(b'\n');
    message.extend_from_slice(&(value.len() as u64).to_le_bytes());
    message.extend_from_slice(value.as_bytes());
    message.push(b'\n');
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// The fields of a message, read as journald reads them.
    pub(crate) fn fields(mut message: &[u8]) -> BTreeMap<String, String> {
        let mut found = BTreeMap::new();
        while let Some(end) = message.iter().position(|byte| *byte == b'\n') {
            let name = String::from_utf8(message[..end].to_vec()).unwrap();
            assert!(
                !name.contains('='),
                "only the form with a length is written: {name}"
            );
            let (length, rest) = message[end + 1..].split_at(8);
            let length = usize::try_from(u64::from_le_bytes(length.try_into().unwrap())).unwrap();
            assert_eq!(rest[length], b'\n', "{name}");
            let value = String::from_utf8(rest[..length].to_vec()).unwrap();
            assert_eq!(found.insert(name, value), None);
            message = &rest[length + 1..];
        }
        assert_eq!(message, b"", "all of it is fields");
        found
    }

    fn remark(text: &str) -> Remark {
        Remark {
            unit: "loadline-w-1.service".into(),
            action: "squeezed",
            text: text.into(),
        }
    }

    #[test]
    fn a_line_arrives_whole_and_no_text_of_it_becomes_a_field() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("socket");
        let journald = UnixDatagram::bind(&path).unwrap();
        let text = "held at its floor:\nPRIORITY=0\n_UID=0";
        JournalSender::new(path).send(&remark(text)).unwrap();
        let mut message = [0; 1024];
        let length = journald.recv(&mut message).unwrap();
        let expected = [
            ("MESSAGE", text),
            ("PRIORITY", "5"),
            ("SYSLOG_IDENTIFIER", "loadline"),
            ("OBJECT_SYSTEMD_UNIT", "loadline-w-1.service"),
            ("LOADLINE_ACTION", "squeezed"),
        ];
        let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(fields(&message[..length]), BTreeMap::from(expected));
    }

    #[test]
    fn nobody_waits_for_a_journald_that_does_not_read() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("socket");
        let sender = JournalSender::new(path.clone());
        let absent = sender.send(&remark("x")).unwrap_err().to_string();
        assert!(absent.contains("systemd-journald@loadline.socket"), "{absent}");
        let journald = UnixDatagram::bind(&path).unwrap();
        let full = (0..100_000).find_map(|_| sender.send(&remark("x")).err());
        assert!(matches!(full, Some(SendError::Full { .. })), "{full:?}");
        let mut message = [0; 1024];
        journald.recv(&mut message).unwrap();
        sender.send(&remark("x")).unwrap();
        drop(journald);
        let gone = sender.send(&remark("x")).unwrap_err();
        assert!(matches!(gone, SendError::Failed { .. }), "{gone:?}");
    }
}
