//! Durable placements: from a streamed submission to an order that is queued for the node's agent, everything
//! committed. fleetd, the clients and the agents share the machine, so what each takes of it is told too.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use nix::sys::statfs::{TMPFS_MAGIC, statfs};
use serde::Deserialize;

use crate::bench::{Bench, Better, Figure, Goal, abba, program};

const ROUNDS: usize = 3;
/// Placements a second on two cores, the load generator among them (promise P5).
const GOAL_PER_S: f64 = 10_000.0;

/// What is measured in each round: through what, on how many nodes, and the figure.
const SLICES: [(&str, &str, &str); 4] = [
    ("api", "1000", "placement.durable_per_s.1000"),
    ("api", "5000", "placement.durable_per_s.5000"),
    ("api", "10000", "placement.durable_per_s.10000"),
    ("writer", "10000", "placement.writer_per_s.10000"),
];
/// Whose use of the CPUs is told: that of fleetd's API on the largest fleet.
const TOLD: usize = 2;

/// So many jobs are known to a fleet of 10,000 nodes.
const KNOWN: &str = "1000000";
const GOAL_RSS_MB: f64 = 1024.0;

/// What the program prints of memory.
#[derive(Debug, Deserialize)]
struct Known {
    rss_mb: f64,
}

/// What the program prints.
#[derive(Debug, Deserialize)]
struct Durable {
    per_s: f64,
    fleetd_cores: f64,
    player_cores: f64,
}

pub(super) fn run(root: &Path, bench: &mut Bench) -> Result<()> {
    let program = program::build(root, "loadline-fleet", "durable")?;
    let folder = root.join("target/bench");
    fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
    let disk = statfs(&folder).with_context(|| format!("look at {}", folder.display()))?;
    ensure!(
        disk.filesystem_type() != TMPFS_MAGIC,
        "{} lies in memory: a sync costs nothing there; use a checkout on a disk",
        folder.display()
    );
    let mut samples: [Vec<Durable>; SLICES.len()] = Default::default();
    for slice in abba(SLICES.len(), ROUNDS) {
        let (through, nodes, _) = SLICES[slice];
        let printed: Vec<Durable> = program::run(&program, &[&folder.to_string_lossy(), through, nodes])?;
        let last = printed.into_iter().next_back();
        samples[slice].push(last.with_context(|| format!("{through} {nodes} printed nothing"))?);
    }
    figures(bench, &samples)?;
    let arguments = [
        &folder.to_string_lossy(),
        "writer",
        "10000",
        "--workers",
        KNOWN,
        "--known",
    ];
    let known: Vec<Known> = program::run(&program, &arguments)?;
    let rss = known
        .into_iter()
        .next_back()
        .context("the memory of known jobs was not printed")?;
    let figure = Figure::new("placement.rss_mb", "MiB", Better::Lower, &[rss.rss_mb]);
    bench.add(figure.map(|figure| figure.goal(Goal::Value(GOAL_RSS_MB))))
}

fn figures(bench: &mut Bench, samples: &[Vec<Durable>; SLICES.len()]) -> Result<()> {
    let of = |slice: &[Durable], each: fn(&Durable) -> f64| slice.iter().map(each).collect::<Vec<f64>>();
    for ((through, _, id), slice) in SLICES.into_iter().zip(samples) {
        let goal = if through == "api" {
            Goal::Value(GOAL_PER_S)
        } else {
            Goal::None
        };
        let rates = of(slice, |durable| durable.per_s);
        bench.add(Figure::new(id, "/s", Better::Higher, &rates).map(|figure| figure.goal(goal)))?;
    }
    for (id, each) in [
        (
            "placement.durable_fleetd_cores.10000",
            (|durable| durable.fleetd_cores) as fn(&Durable) -> f64,
        ),
        ("placement.durable_player_cores.10000", |durable| {
            durable.player_cores
        }),
    ] {
        let cores = of(&samples[TOLD], each);
        bench.add(Figure::new(id, "cores", Better::Lower, &cores))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_becomes_the_figures_that_are_promised() {
        let text = r#"{"per_s": 12000.5, "per_commit": 90.0, "writer_cores": 0.8, "fleetd_cores": 1.4, "player_cores": 0.6}"#;
        let read = || serde_json::from_str::<Durable>(text).unwrap();
        let samples: [Vec<Durable>; SLICES.len()] = std::array::from_fn(|_| vec![read()]);
        let mut bench = Bench::start("placement").unwrap();
        figures(&mut bench, &samples).unwrap();
        let report = bench.finish().unwrap();
        let of = |id: &str| report.figures.iter().find(|figure| figure.id == id);
        let durable = of("placement.durable_per_s.10000").unwrap();
        assert_eq!((durable.value(), durable.met()), (12000.5, Some(true)));
        assert_eq!(of("placement.durable_player_cores.10000").unwrap().value(), 0.6);
    }
}
