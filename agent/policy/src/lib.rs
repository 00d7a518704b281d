//! What one machine should look like: the node's decisions, pure.
//!
//! Values in, values out: no clock, file, socket or thread can be named here; `now` is an argument. The warden
//! observes, asks this crate, applies, reports. The modules, in the order of a decision: [`node_policy`] (what
//! the owner allows), [`line`] (how much that is), [`admission`] (may this order run here), [`allocation`]
//! (on which CPUs), [`settings`] (with which limits, and are they held), [`attempt`] (where it stands),
//! [`reconcile`] (what to do now), [`check`] (the invariants, stated apart). Beside them, every 100 ms:
//! [`headroom`] (how much lent work may have at this moment) and [`reap`] (what it needs to end).
#![cfg_attr(not(test), no_std)]
#![warn(missing_docs)]

extern crate alloc;

pub mod admission;
pub mod allocation;
pub mod attempt;
pub mod check;
pub mod headroom;
pub mod line;
pub mod node_policy;
pub mod reap;
pub mod reconcile;
pub mod settings;

#[cfg(test)]
mod sample;
