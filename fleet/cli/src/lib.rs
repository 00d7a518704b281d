//! The `fleet` command: the one command line of operators and users.
//!
//! Shape: [`args`] says what can be typed; [`job`] turns files and flags into a checked job; [`wire`] is the only
//! place that knows the protocol and speaks to fleetd; [`view`] holds what is shown, rendered by [`output`] as
//! tables or JSON from the same values; [`commands`] ties them together, and [`program`] is where it begins. Every way to fail is a [`problem`] with an
//! exit code and a next step.
#![warn(missing_docs)]

pub mod args;
pub mod clock;
pub mod commands;
pub mod exit;
pub mod generate;
pub mod identity;
pub mod job;
pub mod output;
pub mod problem;
pub mod program;
pub mod text;
pub mod tls;
pub mod token;
pub mod view;
pub mod wire;
