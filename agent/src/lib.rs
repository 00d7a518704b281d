//! Loadline on one node: the warden holds the line, the agent carries its voice.
//!
//! Both programs are thin shells around `loadline-policy`: they observe, let it decide, apply and report.
//! Everything that touches the operating system stands under [`host`].

pub mod agent;
pub mod config;
pub mod host;
pub mod ledger;
pub mod preflight;
pub mod prove;
mod sentence;
pub mod spool;
pub mod warden;
