//! The reconciler against a systemd in memory: its ordinary life, and each fault by name.

mod faults;
mod headroom;
mod lives;
mod reaping;
mod restarts;
pub(crate) mod rig;
