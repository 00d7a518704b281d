//! Holds the line on one node, whether or not anyone else is there.
//!
//! Observe → decide (`loadline-policy`, pure) → apply → report. Works with agent and fleet gone; never opens
//! a network socket; never runs what local policy forbids, whoever asks.

pub mod orders;
pub mod reconciler;
pub mod slices;
pub mod trust;
pub mod unit;
pub mod wire;
