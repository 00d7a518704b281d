//! What is asked of a service and when its answer is whole: HTTP, redis and PostgreSQL.
//!
//! All three as their plainest clients speak them: one request under way on a connection, so that an answer that is
//! whole frees it. The mix of requests is fixed by the request's number, so that runs can be repeated.

mod http;
mod postgres;
mod redis;

use std::io;
use std::net::TcpStream;

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

/// What the service speaks, and what is asked of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Protocol {
    /// One page.
    Http {
        /// The page, beginning with a slash.
        path: String,
    },
    /// `GET` of a small value, every tenth request a `SET`.
    Redis {
        /// How many keys there are.
        keys: u32,
    },
    /// One row by its primary key, every tenth request an update of it: simple queries on the table
    /// `accounts (aid int primary key, balance int)`.
    Postgres {
        /// The account and database of that name; the server must trust it.
        user: String,
        /// How many rows there are, numbered from 1.
        rows: u32,
    },
}

/// Every tenth request changes something.
const WRITE_EVERY: u64 = 10;

impl Protocol {
    /// The words of the request with this number.
    pub(super) fn request(&self, host: &str, number: u64) -> Vec<u8> {
        let writes = number % WRITE_EVERY == WRITE_EVERY - 1;
        match self {
            Self::Http { path } => http::request(host, path),
            Self::Redis { keys } => redis::request(one_of(*keys, number), writes),
            Self::Postgres { rows, .. } => postgres::request(one_of(*rows, number) + 1, writes),
        }
    }

    /// The words of every request, where all are the same.
    pub(super) fn always(&self, host: &str) -> Option<Vec<u8>> {
        matches!(self, Self::Http { .. }).then(|| self.request(host, 0))
    }

    /// What has to be said before the first request. The stream still blocks.
    pub(super) fn greet(&self, stream: &mut TcpStream) -> io::Result<()> {
        match self {
            Self::Http { .. } | Self::Redis { .. } => Ok(()),
            Self::Postgres { user, .. } => postgres::greet(stream, user),
        }
    }

    /// Judges what was received since the request went out.
    pub(super) fn judge(&self, received: &[u8]) -> io::Result<Answer> {
        match self {
            Self::Http { .. } => http::judge(received),
            Self::Redis { .. } => redis::judge(received),
            Self::Postgres { .. } => postgres::judge(received),
        }
    }
}

fn bad(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

/// One of so many things for the request of this number: all of them in turn, neighbours far apart.
fn one_of(things: u32, number: u64) -> u32 {
    let spread = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    u32::try_from(spread % u64::from(things.max(1))).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_request_in_ten_writes() {
        let redis = Protocol::Redis { keys: 100 };
        let writes = (0..1000)
            .filter(|number| redis.request("h", *number).windows(3).any(|word| word == b"SET"))
            .count();
        assert_eq!(writes, 100);
    }

    #[test]
    fn every_row_is_asked_for_and_none_beyond() {
        let asked: std::collections::BTreeSet<u32> = (0..10_000).map(|number| one_of(50, number)).collect();
        assert_eq!(asked.into_iter().collect::<Vec<_>>(), (0..50).collect::<Vec<_>>());
        assert_eq!(one_of(0, 7), 0);
    }
}
