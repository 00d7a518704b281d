//! The open connections of a load: which are idle, and which have an answer.
//!
//! A look costs the same however many there are. With one that asks about each, a request in a backlog costs as many more
//! looks as the backlog has connections, and near saturation that keeps the backlog alive.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::time::TimeSpec;

use super::connection::Connection;

/// Answers that are told in one look; the others are told in the next.
const TOLD: usize = 256;

#[derive(Debug)]
pub(super) struct Pool {
    epoll: Epoll,
    /// A connection keeps its place.
    slots: Vec<Option<Connection>>,
    /// Used last, asked first.
    idle: Vec<usize>,
    events: Vec<EpollEvent>,
}

impl Pool {
    pub(super) fn new() -> nix::Result<Self> {
        Ok(Self {
            epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?,
            slots: Vec::new(),
            idle: Vec::new(),
            events: vec![EpollEvent::empty(); TOLD],
        })
    }

    /// How many are open.
    pub(super) fn open(&self) -> usize {
        self.slots.iter().flatten().count()
    }

    /// How many have a request under way.
    pub(super) fn busy(&self) -> usize {
        let open = self.slots.iter().flatten();
        open.filter(|connection| connection.under_way.is_some()).count()
    }

    /// Takes in a connection, idle.
    pub(super) fn add(&mut self, connection: Connection) -> io::Result<()> {
        let vacant = self.slots.iter().position(Option::is_none);
        let slot = vacant.unwrap_or(self.slots.len());
        let event = EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLRDHUP, slot as u64);
        self.epoll.add(connection.fd(), event)?;
        match self.slots.get_mut(slot) {
            Some(place) => *place = Some(connection),
            None => self.slots.push(Some(connection)),
        }
        self.idle.push(slot);
        Ok(())
    }

    /// An idle connection, which is idle no more.
    pub(super) fn take_idle(&mut self) -> Option<usize> {
        self.idle.pop()
    }

    /// It has been answered.
    pub(super) fn give_back(&mut self, slot: usize) {
        self.idle.push(slot);
    }

    pub(super) fn get(&mut self, slot: usize) -> Option<&mut Connection> {
        self.slots.get_mut(slot)?.as_mut()
    }

    pub(super) fn close(&mut self, slot: usize) {
        self.idle.retain(|idle| *idle != slot);
        if let Some(place) = self.slots.get_mut(slot) {
            // What is closed is watched no more.
            *place = None;
        }
    }

    /// Gives up what is under way.
    pub(super) fn close_busy(&mut self) {
        for slot in 0..self.slots.len() {
            let busy = self
                .get(slot)
                .is_some_and(|connection| connection.under_way.is_some());
            if busy {
                self.close(slot);
            }
        }
    }

    /// Sleeps for so long at most; gives who has something to say.
    pub(super) fn listen(&mut self, longest: Duration) -> nix::Result<Vec<usize>> {
        // To the nanosecond, which epoll's own time-out is not.
        let mut any = [PollFd::new(self.epoll.0.as_fd(), PollFlags::POLLIN)];
        match ppoll(&mut any, Some(TimeSpec::from_duration(longest)), None) {
            Ok(0) | Err(nix::Error::EINTR) => return Ok(Vec::new()),
            Ok(_) => {}
            Err(error) => return Err(error),
        }
        let count = self.epoll.wait(&mut self.events, EpollTimeout::ZERO)?;
        let told = self.events.iter().take(count);
        Ok(told
            .filter_map(|event| usize::try_from(event.data()).ok())
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::{TcpListener, TcpStream};

    use super::*;
    use crate::load::connection::Request;
    use crate::load::protocol::Protocol;

    const LONG: Duration = Duration::from_secs(10);

    /// So many connections, and their other ends.
    fn pool(count: usize) -> (Pool, Vec<TcpStream>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let target = listener.local_addr().unwrap();
        let mut pool = Pool::new().unwrap();
        let mut others = Vec::new();
        for _ in 0..count {
            let protocol = Protocol::Redis { keys: 1 };
            pool.add(Connection::open(target, &protocol).unwrap()).unwrap();
            others.push(listener.accept().unwrap().0);
        }
        (pool, others)
    }

    #[test]
    fn who_has_something_to_say_is_told_and_nobody_else() {
        let (mut pool, mut others) = pool(3);
        assert_eq!(pool.listen(Duration::ZERO).unwrap(), Vec::<usize>::new());
        others[1].write_all(b"+OK\r\n").unwrap();
        assert_eq!(pool.listen(LONG).unwrap(), [1]);
        drop(others.remove(2));
        let mut told = pool.listen(LONG).unwrap();
        while told.len() < 2 {
            told = pool.listen(LONG).unwrap();
        }
        told.sort_unstable();
        assert_eq!(told, [1, 2]);
    }

    #[test]
    fn who_is_closed_is_idle_no_more_and_its_place_is_given_again() {
        let (mut pool, _others) = pool(2);
        pool.close(1);
        assert_eq!(pool.open(), 1);
        let taken = pool.take_idle().unwrap();
        assert_eq!((taken, pool.take_idle()), (0, None));
        pool.get(taken).unwrap().under_way = Some(Request {
            meant_ns: 0,
            seen_ns: 0,
        });
        assert_eq!(pool.busy(), 1);
        pool.close_busy();
        assert_eq!((pool.busy(), pool.open()), (0, 0));
        let (mut other, _) = self::pool(1);
        pool.add(other.slots[0].take().unwrap()).unwrap();
        assert_eq!((pool.take_idle(), pool.open()), (Some(0), 1));
        pool.give_back(0);
        assert_eq!(pool.take_idle(), Some(0));
    }
}
