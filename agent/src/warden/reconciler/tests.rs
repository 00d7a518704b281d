//! The reconciler against a systemd in memory: its ordinary life, and each fault by name.

mod ceiling;
mod faults;
mod headroom;
mod io_cost;
mod lives;
mod protect;
mod proving;
mod reaping;
mod remarks;
mod restarts;
pub(crate) mod rig;
mod week;
