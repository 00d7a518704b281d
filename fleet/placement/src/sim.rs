//! A queue in virtual time: what the fleet would do with a load, in seconds instead of months.
//!
//! Problem: whether a queue is fast and fair shows after weeks. Approach: a discrete-event driver: jobs come and end
//! at known times, and a [`Fleet`] keeps the real [`crate::Planner`] and tells it what fleetd would. First come first
//! served, EASY and conservative backfill are written apart from it, on a machine of equal processors as logs of
//! parallel machines describe it, to be held against.
//!
//! Pure: the load is values, time is a number, the same load gives the same result.

mod conservative;
mod driver;
mod easy;
mod fleet;
mod load;
mod openb;
mod swf;
mod work;

pub use conservative::Conservative;
pub use driver::{Running, Scheduler, Tell, play, simulate};
pub use easy::{Easy, Fcfs};
pub use fleet::{Fleet, Judge, Planned};
pub use load::{Load, Outcome, SimJob};
pub use openb::{OpenbError, OpenbLife, OpenbNode, OpenbPod, openb_work, read_openb_nodes, read_openb_pods};
pub use swf::{SwfError, read_swf};
pub use work::{Happened, What, Work};
