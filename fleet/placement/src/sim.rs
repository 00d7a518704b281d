//! A queue in virtual time: what a policy would do with a load, in seconds instead of months.
//!
//! Problem: whether a queue is fast and fair shows after weeks. Approach: a discrete-event driver: jobs come and end
//! at known times, and at each event a [`Scheduler`] says who starts. Ours is the parts of [`crate::policy`] on a
//! machine of equal processors, as logs of parallel machines describe it; first come first served, EASY and
//! conservative backfill are written apart from it, to be held against.
//!
//! Pure: the load is values, time is a number, the same load gives the same result.

mod conservative;
mod driver;
mod easy;
mod ours;
mod processors;
mod swf;

pub use conservative::Conservative;
pub use driver::{Load, Outcome, Running, Scheduler, SimJob, simulate};
pub use easy::{Easy, Fcfs};
pub use ours::{Ours, OursRules};
pub use processors::Processors;
pub use swf::{SwfError, read_swf};
