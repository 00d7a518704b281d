//! Holds the line on one node, whether or not anyone else is there.
//!
//! Observe → decide (`loadline-policy`, pure) → apply → report. Works with agent and fleet gone; never opens
//! a network socket; never runs what local policy forbids, whoever asks.

pub mod brakes;
mod check_protect;
mod cli;
mod control;
pub mod costs;
mod drain;
pub mod facts;
pub mod floors;
pub mod headroom;
pub mod keeper;
pub mod logins;
pub mod machine;
mod notify;
pub mod orders;
pub mod reconciler;
mod record_end;
pub mod run;
pub mod sample;
pub mod slices;
pub mod slo;
pub mod socket;
pub mod trust;
pub mod unit;
mod watch;
pub mod week;
pub mod wire;

pub use cli::{command, main};
