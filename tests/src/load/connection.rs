//! One kept-alive HTTP/1.1 connection, non-blocking, that carries one request at a time.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};

/// How the answer to the request under way stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    Pending,
    /// `last`: the service closes the connection after this one, as nginx does after a thousand.
    Complete {
        ok: bool,
        last: bool,
    },
}

#[derive(Debug)]
pub(super) struct Connection {
    stream: TcpStream,
    received: Vec<u8>,
    /// When the request under way was meant to go out, ns from the start; none: idle.
    pub(super) meant_ns: Option<u64>,
}

impl Connection {
    pub(super) fn open(target: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(target)?;
        stream.set_nodelay(true)?;
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
    pub(super) fn receive(&mut self) -> io::Result<Answer> {
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
        match judge(&self.received)? {
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

/// Judges an HTTP/1.1 answer with a `Content-Length`, which is what static pages have.
fn judge(received: &[u8]) -> io::Result<Answer> {
    let Some(head_len) = received.windows(4).position(|w| w == b"\r\n\r\n") else {
        return Ok(Answer::Pending);
    };
    let bad = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    let head = std::str::from_utf8(&received[..head_len]).map_err(|_| bad("head is not text"))?;
    let mut lines = head.split("\r\n");
    let status = lines
        .next()
        .and_then(|line| line.split(' ').nth(1))
        .ok_or_else(|| bad("no status"))?;
    let field = |wanted: &str| {
        let mut fields = lines.clone().filter_map(|line| line.split_once(':'));
        let found = fields.find(|(name, _)| name.eq_ignore_ascii_case(wanted));
        found.map(|(_, value)| value.trim())
    };
    let length: usize = field("content-length")
        .and_then(|value| value.parse().ok())
        .ok_or_else(|| bad("no Content-Length"))?;
    if received.len() < head_len + 4 + length {
        return Ok(Answer::Pending);
    }
    Ok(Answer::Complete {
        ok: status == "200",
        last: field("connection").is_some_and(|value| value.eq_ignore_ascii_case("close")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_judged_when_whole() {
        let page = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi";
        let complete = |ok, last| Answer::Complete { ok, last };
        assert_eq!(judge(page).unwrap(), complete(true, false));
        assert_eq!(judge(&page[..page.len() - 1]).unwrap(), Answer::Pending);
        assert_eq!(judge(b"HTTP/1.1 200").unwrap(), Answer::Pending);
        let missing = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n";
        assert_eq!(judge(missing).unwrap(), complete(false, false));
        let last = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        assert_eq!(judge(last).unwrap(), complete(true, true));
        assert!(judge(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
    }
}
