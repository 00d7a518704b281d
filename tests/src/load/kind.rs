//! The protocols by name, with what a generator has to know of each before it begins.

use std::net::SocketAddr;

use clap::ValueEnum;

use super::protocol::Protocol;

/// A protocol by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Speaks {
    /// HTTP/1.1.
    Http,
    /// redis's own.
    Redis,
    /// PostgreSQL's own.
    Postgres,
}

impl Speaks {
    /// Where such a service listens on its own machine.
    #[must_use]
    pub fn port_here(self) -> SocketAddr {
        let port = match self {
            Self::Http => 80,
            Self::Redis => 6379,
            Self::Postgres => 5432,
        };
        ([127, 0, 0, 1], port).into()
    }

    /// The most connections of an open load, and how many of them are there from the start: opening one costs a service
    /// as much as some requests, which it is not to pay in a backlog. Those of PostgreSQL are a process each: a pool, as
    /// its users have one.
    #[must_use]
    pub const fn connections(self) -> (usize, usize) {
        match self {
            Self::Http => (256, 64),
            Self::Redis => (64, 64),
            Self::Postgres => (16, 16),
        }
    }

    /// With what is asked of it.
    #[must_use]
    pub fn asked(self, path: &str, keys: u32, user: &str) -> Protocol {
        match self {
            Self::Http => Protocol::Http { path: path.into() },
            Self::Redis => Protocol::Redis { keys },
            Self::Postgres => Protocol::Postgres {
                user: user.into(),
                rows: keys,
            },
        }
    }
}
