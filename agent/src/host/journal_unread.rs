//! Which output streams journald still has to read to their end, told by the kernel.
//!
//! journald closes its end of a stream once it has read and kept all that was written. So a stream whose writers
//! are gone, and which journald still holds open or has not even accepted, has something unread; when it is gone,
//! its lines are in the journal. That is a fact, where an answer of journald's own is a hint: it serves what it finds
//! at once in any order.
//!
//! Asks by netlink (`sock_diag(7)`: `UNIX_DIAG_NAME`, `UNIX_DIAG_RQLEN`, `UNIX_DIAG_SHUTDOWN`). Needs no privilege. An
//! accepted connection belongs to the network of whoever connected, the listener to that of the host: the warden, which
//! opens the workers' streams from a network of its own, sees the first, and the agent the second. If the kernel has no
//! `unix_diag`, or its answer cannot be read, the caller hears why, and falls back to asking journald.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;

use netlink_packet_core::{NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_sock_diag::SockDiagMessage;
use netlink_packet_sock_diag::constants::TCP_LISTEN;
use netlink_packet_sock_diag::unix::nlas::{Nla, UnixDiagName};
use netlink_packet_sock_diag::unix::{ShowFlags, StateFlags, UnixRequest, UnixResponse};
use netlink_sys::protocols::NETLINK_SOCK_DIAG;
use netlink_sys::{Socket, SocketAddr};

/// `RCV_SHUTDOWN` of the kernel: the other side has closed, or will write no more.
const NO_MORE_COMES: u8 = 1;

/// One stream, as long as it lives. The kernel gives no number twice before 2^64 sockets.
pub type StreamId = [u8; 8];

/// What journald has not read, at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Unread {
    /// So many connections wait to be accepted; what they carry is not known yet. None: the listener is of another
    /// network, or there is none.
    pub waiting: Option<u32>,
    /// Accepted, no more can be written to them, and not read to the end.
    pub ended: BTreeSet<StreamId>,
}

/// Waits for all that was written before it began, and for nothing that came later.
#[derive(Debug, Default)]
pub enum Drain {
    /// Connections may still wait.
    #[default]
    Accepting,
    /// None waits. The kernel lists sockets one after the other, so the one accepted last may be missing from the
    /// same list.
    Accepted,
    /// These have to go.
    Reading(BTreeSet<StreamId>),
}

impl Drain {
    /// True once journald has read everything that was there when the first look was taken.
    pub fn is_over(&mut self, now: &Unread) -> bool {
        match self {
            Self::Accepting if now.waiting.unwrap_or(0) == 0 => *self = Self::Accepted,
            Self::Accepting => {}
            Self::Accepted => *self = Self::Reading(now.ended.clone()),
            Self::Reading(left) => left.retain(|stream| now.ended.contains(stream)),
        }
        matches!(self, Self::Reading(left) if left.is_empty())
    }
}

/// What the listener at `path` has not read.
///
/// # Errors
/// When the kernel cannot be asked or its answer not be understood.
pub fn unread(path: &Path) -> io::Result<Unread> {
    let mut socket = Socket::new(NETLINK_SOCK_DIAG)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    socket.send(&question(), 0)?;
    let mut sockets = Vec::new();
    let mut last = false;
    while !last {
        let (answer, _) = socket.recv_from_full()?;
        last = take(&answer, path, &mut sockets)?;
    }
    Ok(sum(&sockets))
}

fn question() -> Vec<u8> {
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | NLM_F_DUMP;
    let request = SockDiagMessage::UnixRequest(UnixRequest {
        state_flags: StateFlags::ESTABLISHED | StateFlags::LISTEN,
        inode: 0,
        show_flags: ShowFlags::NAME | ShowFlags::RQLEN,
        cookie: [0xff; 8],
    });
    let mut message = NetlinkMessage::new(header, request.into());
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    bytes
}

/// Takes what one datagram of the answer tells of `path`; true when it was the last.
fn take(mut answer: &[u8], path: &Path, sockets: &mut Vec<UnixResponse>) -> io::Result<bool> {
    let unclear = |error| io::Error::new(io::ErrorKind::InvalidData, error);
    while !answer.is_empty() {
        let message = NetlinkMessage::<SockDiagMessage>::deserialize(answer).map_err(unclear)?;
        // Messages are aligned to four bytes.
        let length = (message.header.length as usize).next_multiple_of(4);
        match message.payload {
            NetlinkPayload::InnerMessage(SockDiagMessage::UnixResponse(socket)) => {
                if matches!(socket.name(), Some(UnixDiagName::Pathname(name)) if Path::new(name) == path) {
                    sockets.push(*socket);
                }
            }
            NetlinkPayload::Done(_) => return Ok(true),
            NetlinkPayload::Error(error) => return Err(error.to_io()),
            _ => {}
        }
        answer = answer.get(length..).unwrap_or_default();
    }
    Ok(false)
}

fn sum(sockets: &[UnixResponse]) -> Unread {
    let mut unread = Unread::default();
    for socket in sockets {
        for nla in &socket.nlas {
            match nla {
                Nla::ReceiveQueueLength(waiting, _) if socket.header.state == TCP_LISTEN => {
                    *unread.waiting.get_or_insert(0) += waiting;
                }
                Nla::Shutdown(how) if socket.header.state != TCP_LISTEN && how & NO_MORE_COMES != 0 => {
                    unread.ended.insert(socket.header.cookie);
                }
                _ => {}
            }
        }
    }
    unread
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::{UnixListener, UnixStream};
    use std::path::PathBuf;

    use super::*;

    const NOTHING: Unread = Unread {
        waiting: Some(0),
        ended: BTreeSet::new(),
    };

    /// A journald under the test's hand.
    fn listen() -> (tempfile::TempDir, PathBuf, UnixListener) {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("stdout");
        let listener = UnixListener::bind(&path).unwrap();
        (place, path, listener)
    }

    #[test]
    fn a_stream_counts_from_its_writer_s_end_until_it_was_read_to_the_end() {
        let (_place, path, journald) = listen();
        assert_eq!(unread(&path).unwrap(), NOTHING);
        let mut worker = UnixStream::connect(&path).unwrap();
        worker.shutdown(std::net::Shutdown::Read).unwrap();
        worker.write_all(b"last words").unwrap();
        drop(worker);
        let waiting = unread(&path).unwrap();
        assert_eq!((waiting.waiting, waiting.ended.len()), (Some(1), 0));
        let (mut stream, _) = journald.accept().unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let accepted = unread(&path).unwrap();
        assert_eq!((accepted.waiting, accepted.ended.len()), (Some(0), 1));
        let mut words = String::new();
        stream.read_to_string(&mut words).unwrap();
        assert_eq!(words, "last words");
        assert_eq!(unread(&path).unwrap(), accepted, "read, and perhaps not kept yet");
        drop(stream);
        assert_eq!(unread(&path).unwrap(), NOTHING);
    }

    #[test]
    fn streams_that_live_or_go_elsewhere_are_not_waited_for() {
        let (_place, path, journald) = listen();
        let (_other, elsewhere, other) = listen();
        drop(UnixStream::connect(&elsewhere).unwrap());
        let _elsewhere = other.accept().unwrap();
        let mut alive = UnixStream::connect(&path).unwrap();
        alive.shutdown(std::net::Shutdown::Read).unwrap();
        alive.write_all(b"more may come").unwrap();
        let _kept = journald.accept().unwrap();
        assert_eq!(unread(&path).unwrap(), NOTHING);
        drop(alive);
        assert_eq!(unread(&path).unwrap().ended.len(), 1);
    }

    #[test]
    fn a_dump_of_many_sockets_is_read_to_its_end() {
        let (_place, path, journald) = listen();
        let ended: Vec<_> = (0..300)
            .map(|_| {
                drop(UnixStream::connect(&path).unwrap());
                journald.accept().unwrap()
            })
            .collect();
        assert_eq!(unread(&path).unwrap().ended.len(), ended.len());
    }

    #[test]
    fn where_nobody_listens_nothing_is_known() {
        let nothing = unread(Path::new("/nonexistent/stdout")).unwrap();
        assert_eq!(nothing, Unread::default());
    }

    #[test]
    fn an_answer_that_makes_no_sense_is_an_error() {
        let error = take(&[1, 2, 3], Path::new("/x"), &mut Vec::new()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn what_came_later_is_not_waited_for() {
        let look = |waiting, streams: &[u8]| Unread {
            waiting: Some(waiting),
            ended: streams.iter().map(|&stream| [stream; 8]).collect(),
        };
        let over = |looks: &[Unread]| {
            let mut drain = Drain::default();
            looks.iter().map(|now| drain.is_over(now)).collect::<Vec<_>>()
        };
        assert_eq!(over(&[look(0, &[]), look(0, &[])]), [false, true]);
        assert_eq!(
            over(&[look(0, &[1]), look(0, &[1, 2]), look(3, &[2, 3]), look(0, &[3])]),
            [false, false, false, true],
            "1 and 2 were there, 3 and what waits came later"
        );
        assert_eq!(
            over(&[look(2, &[]), look(0, &[]), look(0, &[2]), look(0, &[])]),
            [false, false, false, true],
            "what waits may be anybody's, and a list may miss what was just accepted"
        );
    }
}
