//! The edge to the operating system: systemd, cgroups, users, clocks, kernel files. Nothing else touches them.

pub mod journal_stream;
