//! The edge to the operating system: systemd, cgroups, users, clocks, kernel files. Nothing else touches them.

pub mod affinity;
pub mod brake;
pub mod capabilities;
pub mod cgroup;
pub mod clock;
pub mod disks;
pub mod ended;
pub mod facts;
pub mod io_cost;
pub mod journal;
pub mod journal_send;
pub mod journal_stream;
pub mod journal_unread;
mod kept;
pub mod kill;
pub mod logins;
pub mod notify;
pub mod pressure;
pub mod production;
pub mod root;
mod short;
mod siblings;
pub mod systemd;
pub mod topology;
pub mod trial;
pub mod users;
pub mod vitals;
