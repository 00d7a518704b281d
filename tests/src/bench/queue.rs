//! The queue: how long jobs wait for what they need, and how much of a machine is used, next to the policies that
//! others publish, on a generated month at three levels and on any log given.
//!
//! The measuring program is a bench target of loadline-placement. Time in it is virtual, so the figures are the same on
//! every machine. Logs in the standard workload format are read from `SWF_DIR`, each as a load of its own name; without
//! it the generated months are all. A folder without a log is an error, never a green run.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use crate::bench::{Bench, BenchReport, Better, Figure, Goal, program};
use crate::testbed::cache::Cache;

/// Months of each level, from a seed on that no rule was picked on.
const SEEDS: &str = "20";
const FIRST: &str = "2001";
const PEERS: [&str; 3] = ["fcfs", "easy", "conservative"];

/// How long a queue of 100,000 claims takes to order.
const CLAIMS: &str = "100000";
const ROUNDS: u64 = 5;
/// A pass over so many must take no longer, and it orders them first.
const GOAL_MS: f64 = 50.0;

#[derive(Debug, Deserialize)]
struct Took {
    ms: f64,
}

/// What one policy made of one load.
#[derive(Debug, Clone, Copy, Deserialize)]
struct Outcome {
    slowdown: f64,
    utilisation: f64,
    wait_max_h: f64,
}

/// What the program prints for one load and seed.
#[derive(Debug, Deserialize)]
struct Measured {
    load: String,
    ours: Outcome,
    /// Ours with what was had forgiven at once: the others know of no teams and users.
    shareless: Outcome,
    fcfs: Outcome,
    easy: Outcome,
    conservative: Outcome,
}

impl Measured {
    fn peer(&self, name: &str) -> Outcome {
        match name {
            "fcfs" => self.fcfs,
            "easy" => self.easy,
            _ => self.conservative,
        }
    }
}

pub(super) fn run(_: &Cache) -> Result<BenchReport> {
    let root = super::report::repository()?;
    let program = program::build(&root, "loadline-placement", "queue")?;
    let mut bench = Bench::start("queue")?;
    let mut measured: Vec<Measured> = program::run(&program, &["generated", SEEDS, FIRST])?;
    if let Some(folder) = std::env::var_os("SWF_DIR").map(PathBuf::from) {
        for log in logs(&folder)? {
            measured.extend(program::run::<Measured>(&program, &[&log.to_string_lossy()])?);
        }
    }
    let mut loads: BTreeMap<&str, Vec<&Measured>> = BTreeMap::new();
    for of_seed in &measured {
        loads.entry(&of_seed.load).or_default().push(of_seed);
    }
    for (load, seeds) in loads {
        figures(&mut bench, load, &seeds)?;
    }
    let mut took = Vec::new();
    for seed in 1..=ROUNDS {
        let printed: Vec<Took> = program::run(&program, &["order", CLAIMS, &seed.to_string()])?;
        took.extend(printed.iter().map(|printed| printed.ms));
    }
    let figure = Figure::new("queue.order_100k_ms", "ms", Better::Lower, &took);
    bench.add(figure.map(|figure| figure.goal(Goal::Value(GOAL_MS))))?;
    bench.finish()
}

/// A figure's name, unit, which direction is good, and where it is found.
type Kind = (&'static str, &'static str, Better, fn(Outcome) -> f64);

fn logs(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder).with_context(|| format!("read SWF_DIR {}", folder.display()))?;
    let mut logs = Vec::new();
    for entry in entries {
        let path = entry
            .with_context(|| format!("read SWF_DIR {}", folder.display()))?
            .path();
        if path.extension().is_some_and(|extension| extension == "swf") {
            logs.push(path);
        }
    }
    ensure!(
        !logs.is_empty(),
        "{} holds no log: name a folder with files *.swf",
        folder.display()
    );
    logs.sort();
    Ok(logs)
}

/// Means over the seeds, so each is one sample: single months differ by more than policies do. The goal is the best
/// of the others in each figure.
fn figures(bench: &mut Bench, load: &str, seeds: &[&Measured]) -> Result<()> {
    let mean = |of: &dyn Fn(&Measured) -> f64| -> f64 {
        seeds.iter().map(|seed| of(seed)).sum::<f64>() / seeds.len() as f64
    };
    let kinds: [Kind; 2] = [
        ("slowdown", "x", Better::Lower, |outcome| outcome.slowdown),
        ("utilisation", "%", Better::Higher, |outcome| outcome.utilisation),
    ];
    for (kind, unit, better, of) in kinds {
        let peers = PEERS.map(|peer| (peer, mean(&|seed: &Measured| of(seed.peer(peer)))));
        let best = |a: (&'static str, f64), b: (&'static str, f64)| {
            let b_is_better = match better {
                Better::Lower => b.1 < a.1,
                Better::Higher => b.1 > a.1,
            };
            if b_is_better { b } else { a }
        };
        let (name, goal) = peers.into_iter().reduce(best).context("there are peers")?;
        let figure = |policy: &str, value: f64| {
            Figure::new(&format!("queue.{load}.{policy}.{kind}"), unit, better, &[value])
        };
        let ours = figure("ours", mean(&|seed: &Measured| of(seed.ours)));
        bench.add(ours.and_then(|figure| figure.goal(Goal::Value(goal)).peer(name, &[goal])))?;
        bench.add(figure("shareless", mean(&|seed: &Measured| of(seed.shareless))))?;
        for (peer, value) in peers {
            bench.add(figure(peer, value))?;
        }
    }
    let waits = [
        ("ours", mean(&|seed: &Measured| seed.ours.wait_max_h)),
        ("easy", mean(&|seed: &Measured| seed.easy.wait_max_h)),
    ];
    for (policy, hours) in waits {
        let id = format!("queue.{load}.{policy}.wait_max");
        bench.add(Figure::new(&id, "h", Better::Lower, &[hours]))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(ours: [f64; 2], easy: [f64; 2]) -> Measured {
        let outcome = |[slowdown, utilisation]: [f64; 2]| Outcome {
            slowdown,
            utilisation,
            wait_max_h: 1.0,
        };
        Measured {
            load: "month".into(),
            ours: outcome(ours),
            shareless: outcome(ours),
            fcfs: outcome([100.0, 50.0]),
            easy: outcome(easy),
            conservative: outcome([20.0, 71.0]),
        }
    }

    #[test]
    fn ours_is_held_against_the_best_of_the_others_in_each_figure() {
        let seeds = [
            measured([10.0, 70.0], [18.0, 69.0]),
            measured([30.0, 72.0], [18.0, 71.0]),
        ];
        let mut bench = Bench::start("queue").unwrap();
        figures(&mut bench, "month", &seeds.iter().collect::<Vec<_>>()).unwrap();
        let report = bench.finish().unwrap();
        let of = |id: &str| {
            let figure = report.figures.iter().find(|figure| figure.id == id);
            figure.map(|figure| (figure.value(), figure.goal_value(), figure.met()))
        };
        assert_eq!(
            of("queue.month.ours.slowdown"),
            Some((20.0, Some(18.0), Some(false)))
        );
        assert_eq!(
            of("queue.month.ours.utilisation"),
            Some((71.0, Some(71.0), Some(true)))
        );
        assert_eq!(of("queue.month.fcfs.utilisation"), Some((50.0, None, None)));
        assert_eq!(report.figures.len(), 12);
    }

    #[test]
    fn a_folder_without_a_log_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        assert!(
            logs(folder.path())
                .unwrap_err()
                .to_string()
                .contains("holds no log")
        );
        std::fs::write(folder.path().join("a.swf"), "").unwrap();
        assert_eq!(logs(folder.path()).unwrap(), [folder.path().join("a.swf")]);
        assert!(logs(&folder.path().join("none")).is_err());
    }
}
