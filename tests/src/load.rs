//! An open-loop load generator, and the closed-loop one that measures how much open load there may be.
//!
//! Problem: a generator that waits for answers before it asks again ("closed loop") slows down together with the
//! service and hides exactly the stalls that lent work could cause.
//!
//! Approach: the instants at which requests are *meant* to go out are fixed beforehand, and latency counts from
//! them, also when no connection was free. The generator records its own lateness (how long after the meant
//! instant it got to look at a request at all): a run in which the generator itself was starved says nothing about
//! the service and is to be thrown away.
//!
//! One thread, non-blocking sockets, `epoll`: few enough moving parts to run at real-time priority in a guest
//! that is 13 times slower than its host.

mod arrivals;
mod connection;
mod generator;
mod histogram;
mod kind;
mod pool;
mod protocol;

pub use arrivals::Arrivals;
pub use generator::{LoadError, Plan, closed_loop, open_loop};
pub use histogram::{Latencies, LoadReport};
pub use kind::Speaks;
pub use protocol::Protocol;
