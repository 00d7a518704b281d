//! One kept-alive connection, non-blocking, that carries one request at a time.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use super::protocol::{Answer, Protocol};

/// A service that takes longer to say that it is ready is none.
const GREETING: Duration = Duration::from_secs(30);
/// A page of 4 KiB and its head, with room.
const RECEIVED_LEN: usize = 16 * 1024;

#[derive(Debug)]
pub(super) struct Connection {
    stream: TcpStream,
    /// Made once: it is read into again and again, at a cost that an emulated CPU would notice.
    received: Vec<u8>,
    filled: usize,
    /// None: idle.
    pub(super) under_way: Option<Request>,
}

/// When a request began, ns from the start.
#[derive(Debug, Clone, Copy)]
pub(super) struct Request {
    /// Meant to go out.
    pub(super) meant_ns: u64,
    /// The generator first looked at it.
    pub(super) seen_ns: u64,
}

impl Connection {
    pub(super) fn open(target: SocketAddr, protocol: &Protocol) -> io::Result<Self> {
        let mut stream = TcpStream::connect(target)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(GREETING))?;
        protocol.greet(&mut stream)?;
        stream.set_nonblocking(true)?;
        Ok(Self {
            stream,
            received: vec![0; RECEIVED_LEN],
            filled: 0,
            under_way: None,
        })
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }

    pub(super) fn send(&mut self, words: &[u8], request: Request) -> io::Result<()> {
        self.filled = 0;
        self.under_way = Some(request);
        // A request is a few hundred bytes into an empty socket buffer: a short write means a broken peer.
        let written = self.stream.write(words)?;
        if written == words.len() {
            Ok(())
        } else {
            Err(io::ErrorKind::WriteZero.into())
        }
    }

    /// Reads what has come. One read is enough mostly; where it was not, the kernel says again that there is more.
    pub(super) fn receive(&mut self, protocol: &Protocol) -> io::Result<Answer> {
        if self.filled == self.received.len() {
            self.received.resize(self.filled + RECEIVED_LEN, 0);
        }
        let closed = match self.stream.read(&mut self.received[self.filled..]) {
            Ok(count) => {
                self.filled += count;
                count == 0
            }
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                ) =>
            {
                false
            }
            Err(error) => return Err(error),
        };
        match protocol.judge(&self.received[..self.filled])? {
            Answer::Pending if closed => Err(io::ErrorKind::UnexpectedEof.into()),
            Answer::Pending => Ok(Answer::Pending),
            Answer::Complete { ok, last } => {
                self.under_way = None;
                Ok(Answer::Complete {
                    ok,
                    last: last || closed,
                })
            }
        }
    }
}
