//! An output stream into a journal namespace, to be handed to a worker as its stdout or stderr.
//!
//! systemd opens one journal stream for a unit and duplicates it, so a reader cannot tell the two outputs
//! apart. Two streams of our own, passed as `StandardOutputFileDescriptor` and `StandardErrorFileDescriptor` of
//! the transient unit, differ in their priority, which the worker cannot change (no level prefix is read).
//! journald still names the unit by the writing process, and by our header (it trusts root's) once that is gone.
//!
//! Touches `/run/systemd/journal.<namespace>/stdout`; needs root to be believed. If the socket is absent
//! (`systemd-journald@<namespace>.socket` not started), opening fails and the unit can use
//! `StandardOutput=journal` instead: its lines are kept, all of them as stdout.

use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

/// Which output of a worker a stream carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// Journal priority 6 (info).
    Stdout,
    /// Journal priority 3 (err).
    Stderr,
}

impl Output {
    /// The priority that marks it in the journal.
    pub const fn priority(self) -> u8 {
        match self {
            Self::Stdout => 6,
            Self::Stderr => 3,
        }
    }

    /// Back from the `PRIORITY=` field of an entry whose `_TRANSPORT=` is `stdout`.
    pub fn from_priority(field: &[u8]) -> Self {
        if field == b"3" { Self::Stderr } else { Self::Stdout }
    }
}

/// The stream could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot open an output stream at {path}: is systemd-journald@{namespace}.socket running?")]
pub struct OpenStreamError {
    /// The namespace asked for.
    pub namespace: String,
    /// Its socket.
    pub path: PathBuf,
    #[source]
    source: io::Error,
}

/// Where journald of a namespace takes output streams.
pub fn socket_of(namespace: &str) -> PathBuf {
    PathBuf::from(format!("/run/systemd/journal.{namespace}/stdout"))
}

/// True once the namespace's journald can be reached.
pub fn is_open(namespace: &str) -> bool {
    socket_of(namespace).exists()
}

/// Connects to journald and introduces the stream. `identifier` is what `journalctl` shows before each line.
///
/// # Errors
/// When the namespace's journald cannot be reached.
pub fn open(
    namespace: &str,
    unit: &str,
    identifier: &str,
    output: Output,
) -> Result<OwnedFd, OpenStreamError> {
    let path = socket_of(namespace);
    connect(&path, &header(unit, identifier, output)).map_err(|source| OpenStreamError {
        namespace: namespace.to_owned(),
        path,
        source,
    })
}

fn connect(path: &PathBuf, header: &str) -> io::Result<OwnedFd> {
    let mut stream = UnixStream::connect(path)?;
    stream.shutdown(std::net::Shutdown::Read)?;
    stream.write_all(header.as_bytes())?;
    Ok(stream.into())
}

/// Identifier, unit, priority, level prefix off, no forwarding to syslog, kernel log or console.
fn header(unit: &str, identifier: &str, output: Output) -> String {
    let one_line = |text: &str| text.replace(['\n', '\0'], " ");
    format!(
        "{}\n{}\n{}\n0\n0\n0\n0\n",
        one_line(identifier),
        one_line(unit),
        output.priority()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_has_seven_lines_whatever_the_command_is_called() {
        assert_eq!(
            header("u.service", "python", Output::Stderr),
            "python\nu.service\n3\n0\n0\n0\n0\n"
        );
        assert_eq!(header("u.service", "a\nb", Output::Stdout).lines().count(), 7);
    }

    #[test]
    fn priorities_name_the_output() {
        for output in [Output::Stdout, Output::Stderr] {
            assert_eq!(
                Output::from_priority(output.priority().to_string().as_bytes()),
                output
            );
        }
    }

    #[test]
    fn a_missing_namespace_names_the_unit_to_start() {
        let error = open("loadline-no-such", "u.service", "x", Output::Stdout).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("systemd-journald@loadline-no-such.socket"),
            "{error}"
        );
    }
}
