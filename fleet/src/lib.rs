//! Loadline's fleet manager.
//!
//! One writer: [`state`] is a state machine, values in and values out; [`store`] keeps what it decided;
//! [`writer`] is the one thread that owns both, commits in groups and only then acts or answers. Everything
//! else (sessions, API, certificate authority, HTTP) talks to it through the handle [`Fleet`].
#![warn(missing_docs)]

pub mod api;
pub mod audit;
pub mod ca;
pub mod clock;
pub mod config;
pub mod http;
pub mod run;
pub mod session;
pub mod state;
pub mod store;
pub mod tls;
pub mod tokens;
pub mod trust;
pub mod wire;
pub mod writer;

pub use writer::Fleet;
