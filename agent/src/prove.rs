//! `loadline-warden prove`: a bounded, abortable test on the owner's own machine of whether lent work, held at the line,
//! costs production anything.
//!
//! A process of its own, started by the caller as root; never the warden, whose sandbox could neither probe a service
//! nor should. It starts one antagonist at a time as a transient unit among burst work, with a worker's sandbox, within
//! the line, and ends it at the first sign of danger. What it decides is in `loadline_policy::prove`. Where the fleet
//! asked for it, the caller is `loadline-prove.service`, and the warden takes what comes out (`handover`).

pub mod antagonist;
pub mod cli;
pub mod flow;
pub mod handover;
mod ordered;
pub mod probe;
pub mod report;
mod run;
pub mod stand_in;
pub mod summary;
mod watcher;

pub use cli::Arguments;
pub use run::{STAND_IN, main};
