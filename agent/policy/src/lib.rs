//! What one machine should look like: the node's decisions, pure.
//!
//! Values in, values out: no clock, file, socket or thread can be named here; `now` is an argument. The warden
//! observes, asks this crate, applies, reports. The modules, in the order of a decision: [`node_policy`] (what
//! the owner allows), [`line`] (how much that is, also by production's [`week`]), [`admission`] (may this order run
//! here), [`allocation`] (on which CPUs), [`settings`] (with which limits, and are they held), [`attempt`] (where it
//! stands), [`reconcile`] (what to do now), [`check`] (the invariants, stated apart). Beside them, every 100 ms:
//! [`headroom`] (how much lent work may have at this moment), which is told by [`slo`] how production's promises
//! stand; [`reap`] (what it needs to end); every few seconds [`logins`] (what its people may have besides),
//! [`protect`] (which memory production's units keep whatever happens) and [`io_cost`] (which disks go by weight);
//! [`remarks`] says in whose log a receipt stands. And, when the owner asks: [`prove`] (does lent work cost production
//! anything?).
#![cfg_attr(not(test), no_std)]
#![warn(missing_docs)]

extern crate alloc;

pub mod admission;
pub mod allocation;
pub mod attempt;
pub mod ceiling;
pub mod check;
pub mod cost;
pub mod headroom;
pub mod io_cost;
pub mod line;
pub mod logins;
pub mod node_policy;
pub mod protect;
pub mod prove;
pub mod reap;
pub mod reconcile;
pub mod remarks;
pub mod settings;
pub mod slo;
pub mod week;

#[cfg(test)]
mod sample;
