//! One kept-alive connection, non-blocking, that carries one request at a time.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use super::protocol::{Answer, Protocol};

/// A service that takes longer to say that it is ready is none.
const GREETING: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(super) struct Connection {
    stream: TcpStream,
    received: Vec<u8>,
    /// When the request under way was meant to go out, ns from the start; none: idle.
    pub(super) meant_ns: Option<u64>,
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
            received: Vec::with_capacity(4096),
            meant_ns: None,
        })
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }

    pub(super) fn send(&mut self, request: &[u8], meant_ns: u64) -> io::Result<()> {
        self.received.clear();
        self.meant_ns = Some(meant_ns);
        // A request is a few hundred bytes into an empty socket buffer: a short write means a broken peer.
        let written = self.stream.write(request)?;
        if written == request.len() {
            Ok(())
        } else {
            Err(io::ErrorKind::WriteZero.into())
        }
    }

    /// Reads what has come.
    pub(super) fn receive(&mut self, protocol: &Protocol) -> io::Result<Answer> {
        let mut chunk = [0u8; 16 * 1024];
        let mut closed = false;
        loop {
            match self.stream.read(&mut chunk) {
                Ok(0) => {
                    closed = true;
                    break;
                }
                Ok(count) => self.received.extend_from_slice(&chunk[..count]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        match protocol.judge(&self.received)? {
            Answer::Pending if closed => Err(io::ErrorKind::UnexpectedEof.into()),
            Answer::Pending => Ok(Answer::Pending),
            Answer::Complete { ok, last } => {
                self.meant_ns = None;
                Ok(Answer::Complete {
                    ok,
                    last: last || closed,
                })
            }
        }
    }
}
