//! fleetd's edge as its callers meet it: the real services in this process, real TLS over loopback, a clock that
//! the test sets.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "edge/access.rs"]
mod access;
#[path = "edge/authority.rs"]
mod authority;
#[path = "edge/bad_input.rs"]
mod bad_input;
#[path = "edge/jobs.rs"]
mod jobs;
#[path = "edge/logs.rs"]
mod logs;
#[path = "edge/marks.rs"]
mod marks;
#[path = "edge/monitoring.rs"]
mod monitoring;
#[path = "edge/node.rs"]
mod node;
#[path = "edge/prove.rs"]
mod prove;
#[path = "edge/session.rs"]
mod session;
#[path = "edge/sharing.rs"]
mod sharing;
#[path = "edge/tls.rs"]
mod tls;
#[path = "edge/windows.rs"]
mod windows;
#[path = "edge/world.rs"]
mod world;
