//! One connection to the service that carries one request at a time and never blocks, so that a slow service cannot
//! hold back the next request.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use loadline_model::Span;
use nix::errno::Errno;
use nix::poll::PollFlags;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrIn, SockaddrIn6, connect, getsockopt, socket, sockopt,
};

use super::answer::{Answer, judge};

/// Where the request under way stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The connection is being made.
    Connecting,
    /// The request is out.
    Asked,
    /// Nothing is under way.
    Idle,
}

/// What became of the request under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    /// Nothing yet.
    Pending,
    /// It was answered.
    Answered {
        /// Well.
        good: bool,
        /// The connection can carry another one.
        again: bool,
    },
    /// It failed, or an idle connection was closed.
    Broken,
}

/// A request that is to go out.
#[derive(Debug, Clone, Copy)]
pub(super) struct Due {
    /// When it was meant to, from the start of the round.
    pub(super) meant: Span,
    /// How much later the generator looked at it.
    pub(super) late: Span,
}

#[derive(Debug)]
pub(super) struct Channel {
    stream: TcpStream,
    stage: Stage,
    /// Bytes of the request; empty: the connection itself is what is measured.
    request: Vec<u8>,
    received: Vec<u8>,
    /// The request under way; none: idle.
    pub(super) due: Option<Due>,
}

/// An answer longer than this is not kept in memory.
const ANSWER_MAX: usize = 16 << 20;

impl Channel {
    /// Begins to connect, and sends the request once it stands.
    pub(super) fn open(address: SocketAddr, request: &[u8], due: Due) -> io::Result<Self> {
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        let made = |family| socket(family, SockType::Stream, flags, None);
        let (fd, begun) = match address {
            SocketAddr::V4(address) => {
                let fd = made(AddressFamily::Inet)?;
                let begun = connect(fd.as_raw_fd(), &SockaddrIn::from(address));
                (fd, begun)
            }
            SocketAddr::V6(address) => {
                let fd = made(AddressFamily::Inet6)?;
                let begun = connect(fd.as_raw_fd(), &SockaddrIn6::from(address));
                (fd, begun)
            }
        };
        match begun {
            Ok(()) | Err(Errno::EINPROGRESS) => {}
            Err(error) => return Err(error.into()),
        }
        let stream = TcpStream::from(fd);
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            stage: Stage::Connecting,
            request: request.to_vec(),
            received: Vec::new(),
            due: Some(due),
        })
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }

    pub(super) const fn interest(&self) -> PollFlags {
        match self.stage {
            Stage::Connecting => PollFlags::POLLOUT,
            Stage::Asked | Stage::Idle => PollFlags::POLLIN,
        }
    }

    /// Sends the next request over an idle connection.
    pub(super) fn ask(&mut self, due: Due) -> io::Result<()> {
        self.due = Some(due);
        self.received.clear();
        // A few hundred bytes into an empty buffer: a short write means a broken peer.
        if self.stream.write(&self.request)? != self.request.len() {
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.stage = Stage::Asked;
        Ok(())
    }

    /// Goes on with whatever is ready.
    pub(super) fn advance(&mut self) -> Event {
        match self.stage {
            Stage::Connecting => self.connected(),
            Stage::Asked | Stage::Idle => self.receive(),
        }
    }

    fn connected(&mut self) -> Event {
        match getsockopt(&self.stream, sockopt::SocketError) {
            Ok(0) => {}
            Ok(_) | Err(_) => return Event::Broken,
        }
        let Some(due) = self.due else {
            return Event::Broken;
        };
        if self.request.is_empty() {
            let (good, again) = (true, false);
            return Event::Answered { good, again };
        }
        match self.ask(due) {
            Ok(()) => Event::Pending,
            Err(_) => Event::Broken,
        }
    }

    fn receive(&mut self) -> Event {
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
                Err(_) => return Event::Broken,
            }
        }
        if self.stage == Stage::Idle {
            // What comes unasked, or the end of keep-alive.
            return if closed || !self.received.is_empty() {
                Event::Broken
            } else {
                Event::Pending
            };
        }
        match judge(&self.received, closed) {
            Answer::Pending if self.received.len() > ANSWER_MAX => Event::Broken,
            Answer::Pending => Event::Pending,
            Answer::Nonsense => Event::Broken,
            Answer::Whole { good, last } => {
                self.stage = Stage::Idle;
                self.received.clear();
                Event::Answered { good, again: !last }
            }
        }
    }
}
