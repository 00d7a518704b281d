//! Holds the line on one node, whether or not anyone else is there.
//!
//! Observe → decide (`loadline-policy`, pure) → apply → report. Works with agent and fleet gone; never opens
//! a network socket; never runs what local policy forbids, whoever asks.

mod cli;
mod drain;
pub mod facts;
pub mod machine;
mod notify;
pub mod orders;
pub mod reconciler;
mod record_end;
pub mod run;
pub mod sample;
pub mod slices;
pub mod socket;
pub mod trust;
pub mod unit;
mod watch;
pub mod wire;

pub use cli::main;

/// An error with its sources, as one sentence.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}
