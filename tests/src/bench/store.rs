//! The store alone: durable changes a second through fleetd's writer, next to bare SQLite on the same disk.
//!
//! The measuring program is a bench target of loadline-fleet, built and called here once for each slice, so that the
//! testbed itself needs nothing of the manager.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use nix::sys::statfs::{TMPFS_MAGIC, statfs};
use serde::Deserialize;

use crate::bench::{Bench, BenchReport, Better, Figure, Goal, abba, program};
use crate::testbed::cache::Cache;

const ROUNDS: usize = 6;
const SLICE_MS: u64 = 2000;
/// Group commit should cost at most half of what bare SQLite reaches with the same number of rows in a transaction.
const GOAL_TIMES_PEER: f64 = 0.5;

/// What is measured in each round: ours and its peer, alone and with a hundred; then changes of two rows each.
const SLICES: [[&str; 2]; 5] = [
    ["ours", "1"],
    ["peer", "1"],
    ["ours", "100"],
    ["peer", "100"],
    ["audited", "100"],
];

/// What the program prints.
#[derive(Debug, Deserialize)]
struct Rate {
    per_s: f64,
    per_commit: f64,
}

pub(super) fn run(_: &Cache) -> Result<BenchReport> {
    let root = super::report::repository()?;
    let program = program::build(&root, "loadline-fleet", "store")?;
    let folder = root.join("target/bench");
    fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
    let disk = statfs(&folder).with_context(|| format!("look at {}", folder.display()))?;
    ensure!(
        disk.filesystem_type() != TMPFS_MAGIC,
        "{} lies in memory: a sync costs nothing there; use a checkout on a disk",
        folder.display()
    );
    let mut bench = Bench::start("store")?;
    let mut rates: [Vec<Rate>; SLICES.len()] = Default::default();
    for slice in abba(SLICES.len(), ROUNDS) {
        rates[slice].push(measure(&program, &folder, SLICES[slice])?);
    }
    figures(&mut bench, &rates)?;
    bench.finish()
}

fn measure(program: &Path, folder: &Path, what: [&str; 2]) -> Result<Rate> {
    let (folder, millis) = (folder.to_string_lossy(), SLICE_MS.to_string());
    let printed: Vec<Rate> = program::run(program, &[&folder, "--millis", &millis, what[0], what[1]])?;
    printed
        .into_iter()
        .next_back()
        .with_context(|| format!("{} printed nothing", what.join(" ")))
}

fn figures(bench: &mut Bench, rates: &[Vec<Rate>; SLICES.len()]) -> Result<()> {
    let [ours, peer, ours_100, peer_100, audited_100] = rates
        .each_ref()
        .map(|rates| rates.iter().map(|rate| rate.per_s).collect::<Vec<f64>>());
    let gathered: Vec<f64> = rates[2].iter().map(|rate| rate.per_commit).collect();
    let rate = |id: &str, samples: &[f64]| Figure::new(id, "/s", Better::Higher, samples);
    bench.add(rate("store.commits_per_s.1", &ours).and_then(|figure| figure.peer("SQLite, 1 row", &peer)))?;
    let hundred = rate("store.commits_per_s.100", &ours_100).and_then(|figure| {
        figure
            .goal(Goal::TimesPeer(GOAL_TIMES_PEER))
            .peer("SQLite, 100 rows", &peer_100)
    });
    bench.add(hundred)?;
    bench.add(rate("store.audited_commits_per_s.100", &audited_100))?;
    bench.add(Figure::new(
        "store.changes_per_commit.100",
        "",
        Better::Higher,
        &gathered,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ours_is_held_against_the_peer_with_as_many_rows() {
        let rates = [10.0, 20.0, 300.0, 500.0, 200.0].map(|per_s| {
            vec![Rate {
                per_s,
                per_commit: 1.0,
            }]
        });
        let mut bench = Bench::start("store").unwrap();
        figures(&mut bench, &rates).unwrap();
        let report = bench.finish().unwrap();
        let met: Vec<_> = report
            .figures
            .iter()
            .map(|figure| (figure.id.as_str(), figure.goal_value(), figure.met()))
            .collect();
        assert_eq!(
            met,
            [
                ("store.commits_per_s.1", None, None),
                ("store.commits_per_s.100", Some(250.0), Some(true)),
                ("store.audited_commits_per_s.100", None, None),
                ("store.changes_per_commit.100", None, None),
            ]
        );
    }
}
