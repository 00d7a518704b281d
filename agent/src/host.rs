//! The edge to the operating system: systemd, cgroups, users, clocks, kernel files. Nothing else touches them.

pub mod cgroup;
pub mod clock;
pub mod ended;
pub mod journal_stream;
pub mod systemd;
pub mod users;
