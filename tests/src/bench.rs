//! Benchmarks: figures with a goal, a peer measured in the same run, and how busy the host was.
//!
//! A figure that was measured on one machine says little on another, so every bench measures its peer interleaved
//! with ours ([`abba`]) and goals are best given as a multiple of the peer ([`Goal::TimesPeer`]).

mod figure;
mod form;
mod launch;
mod openb;
mod placement;
mod program;
mod protection;
mod queue;
mod reaction;
mod report;
mod stats;
mod store;
mod testbed;

use std::path::PathBuf;

use anyhow::{Context, Result, bail};

pub use figure::{Better, Figure, Goal};
pub use launch::LaunchSamples;
pub use report::{Bench, BenchReport};
pub use stats::{Summary, abba};

use crate::testbed::cache::Cache;

/// A benchmark that `testbed bench NAME` runs.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    /// As `make bench-NAME` says it.
    pub name: &'static str,
    /// What it measures, in a few words.
    pub about: &'static str,
    run: fn(&Cache) -> Result<BenchReport>,
}

/// Every benchmark.
pub const ENTRIES: &[Entry] = &[
    Entry {
        name: "launch",
        about: "submit to running and to done, next to systemd-run",
        run: launch::run,
    },
    Entry {
        name: "openb",
        about: "GPUs allocated on the openb traces, next to best fit and FGD",
        run: openb::run,
    },
    Entry {
        name: "placement",
        about: "the placement engine's rate, latency, gangs and queues on up to 10,000 nodes",
        run: placement::run,
    },
    Entry {
        name: "protection",
        about: "production's latency beside an antagonist, held by Loadline and by others",
        run: protection::run,
    },
    Entry {
        name: "queue",
        about: "waiting and use of a machine over a month, next to FCFS, EASY and conservative backfill",
        run: queue::run,
    },
    Entry {
        name: "reaction",
        about: "from production's need to the first lower limit of lent work",
        run: reaction::run,
    },
    Entry {
        name: "store",
        about: "durable changes a second, next to bare SQLite",
        run: store::run,
    },
    Entry {
        name: "testbed",
        about: "boot and command of a guest, per image",
        run: testbed::run,
    },
];

/// Runs the benchmarks of that name, all without one; prints tables and writes `target/bench/NAME.json`.
///
/// # Errors
/// When there is none of that name, or one cannot be measured.
pub fn run(cache: &Cache, name: Option<&str>) -> Result<()> {
    let chosen: Vec<&Entry> = ENTRIES
        .iter()
        .filter(|entry| name.is_none_or(|name| name == entry.name))
        .collect();
    if chosen.is_empty() {
        let names: Vec<&str> = ENTRIES.iter().map(|entry| entry.name).collect();
        bail!(
            "no benchmark {}; there are {}",
            name.unwrap_or_default(),
            names.join(", ")
        );
    }
    for entry in chosen {
        let report = (entry.run)(cache)?;
        let path = report.publish()?;
        println!("{report}\nwritten to {}", path.display());
    }
    Ok(())
}

/// One of this crate's programs, which are built together.
pub(crate) fn beside_this_program(name: &str) -> Result<PathBuf> {
    let here = std::env::current_exe().context("finding this program")?;
    Ok(here.with_file_name(name))
}
