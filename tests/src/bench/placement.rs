//! Placement: how fast and how steady the engine decides, on fleets that are 85 % full.
//!
//! The measuring programs are bench targets of loadline-placement and, for durable placements through the API, of
//! loadline-fleet, called once a slice. A pass over a long queue is that of the whole planner, with shares, quotas and
//! kept room; `placement.engine_pass_ms` is the engine's part of it.

mod durable;

use std::path::Path;

use anyhow::{Context, Result};
use comfy_table::{Table, presets};
use serde::Deserialize;

use crate::bench::{Bench, BenchReport, Better, Figure, Goal, abba, program};
use crate::testbed::cache::Cache;

const ROUNDS: usize = 5;
/// Placements a second on one core, each with the release that makes room (promise P5).
const GOAL_PER_S: f64 = 200_000.0;
/// A decision, the 99th of 100 (promise P5).
const GOAL_DECISION_US: f64 = 1000.0;
/// How much dearer a decision may be on ten times as many nodes.
const GOAL_GROWTH: f64 = 1.5;
const GOAL_GANG_MS: f64 = 5.0;
const GOAL_PASS_MS: f64 = 50.0;
/// Durable placements a second with their own API in front, as published; not the same thing as an engine alone.
const PUBLISHED: [(&str, f64); 3] = [
    ("Nomad C1M", 3750.0),
    ("kube-scheduler CI", 810.0),
    ("Slurm guide", 500.0),
];

/// One number of what the program prints.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Measured {
    Rate { per_s: f64 },
    Decision { p99_us: f64 },
    Gang { p99_ms: f64 },
    Pass { ms: f64 },
}

impl Measured {
    const fn number(&self) -> f64 {
        match self {
            Self::Rate { per_s: number }
            | Self::Decision { p99_us: number }
            | Self::Gang { p99_ms: number }
            | Self::Pass { ms: number } => *number,
        }
    }
}

/// One call of the program and the figure that it gives.
struct Slice {
    what: &'static str,
    nodes: &'static str,
    id: &'static str,
    goal: Goal,
}

const fn slice(what: &'static str, nodes: &'static str, id: &'static str, goal: Goal) -> Slice {
    Slice {
        what,
        nodes,
        id,
        goal,
    }
}

/// What is measured in each round. The first and the third also give the growth.
const SLICES: [Slice; 10] = [
    slice("rate", "1000", "placement.engine_per_s.1000", Goal::None),
    slice("rate", "5000", "placement.engine_per_s.5000", Goal::None),
    slice(
        "rate",
        "10000",
        "placement.engine_per_s.10000",
        Goal::Value(GOAL_PER_S),
    ),
    slice(
        "decision",
        "1000",
        "placement.decision_p99_us.1000",
        Goal::Value(GOAL_DECISION_US),
    ),
    slice(
        "decision",
        "5000",
        "placement.decision_p99_us.5000",
        Goal::Value(GOAL_DECISION_US),
    ),
    slice(
        "decision",
        "10000",
        "placement.decision_p99_us.10000",
        Goal::Value(GOAL_DECISION_US),
    ),
    slice(
        "gang",
        "10000",
        "placement.gang64_p99_ms",
        Goal::Value(GOAL_GANG_MS),
    ),
    slice(
        "turns",
        "10000",
        "placement.queue_100k_pass_ms",
        Goal::Value(GOAL_PASS_MS),
    ),
    slice("pass", "10000", "placement.engine_pass_ms", Goal::None),
    slice("yield", "10000", "placement.yield_p99_ms", Goal::None),
];

pub(super) fn run(_: &Cache) -> Result<BenchReport> {
    let root = super::report::repository()?;
    let program = program::build(&root, "loadline-placement", "placement")?;
    let mut bench = Bench::start("placement")?;
    let mut samples: [Vec<f64>; SLICES.len()] = Default::default();
    for slice in abba(SLICES.len(), ROUNDS) {
        let seed = (samples[slice].len() + 1).to_string();
        samples[slice].push(measure(&program, &SLICES[slice], &seed)?);
    }
    figures(&mut bench, &samples)?;
    durable::run(&root, &mut bench)?;
    bench.finish()
}

fn measure(program: &Path, slice: &Slice, seed: &str) -> Result<f64> {
    let printed: Vec<Measured> = program::run(program, &[slice.what, slice.nodes, seed])?;
    let last = printed
        .last()
        .with_context(|| format!("{} printed nothing", slice.what))?;
    Ok(last.number())
}

fn figures(bench: &mut Bench, samples: &[Vec<f64>; SLICES.len()]) -> Result<()> {
    for (slice, samples) in SLICES.iter().zip(samples) {
        let (unit, better) = match slice.what {
            "rate" => ("/s", Better::Higher),
            "decision" => ("us", Better::Lower),
            _ => ("ms", Better::Lower),
        };
        bench.add(Figure::new(slice.id, unit, better, samples).map(|figure| figure.goal(slice.goal)))?;
    }
    let growth: Vec<f64> = samples[0]
        .iter()
        .zip(&samples[2])
        .map(|(few, many)| few / many)
        .collect();
    let figure = Figure::new("placement.growth", "x", Better::Lower, &growth);
    bench.add(figure.map(|figure| figure.goal(Goal::Value(GOAL_GROWTH))))?;
    bench.table(peers());
    Ok(())
}

fn peers() -> String {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    table.set_header(["published, durable and with their API", "placements a second"]);
    for (name, per_s) in PUBLISHED {
        table.add_row([name.to_owned(), format!("{per_s:.0}")]);
    }
    table.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_is_told_apart() {
        let number = |text: &str| {
            serde_json::from_str::<Measured>(text)
                .map(|measured| measured.number())
                .ok()
        };
        assert_eq!(number(r#"{"per_s": 2.5, "full": 0.85}"#), Some(2.5));
        assert_eq!(number(r#"{"p99_us": 3.0, "max_us": 9.0}"#), Some(3.0));
        assert_eq!(number(r#"{"p99_ms": 4.0, "placed": 1}"#), Some(4.0));
        assert_eq!(number(r#"{"ms": 5.0}"#), Some(5.0));
        assert_eq!(number(r#"{"other": 5.0}"#), None);
    }

    #[test]
    fn growth_is_how_much_dearer_a_decision_is_on_the_largest_fleet() {
        let samples = [
            vec![600_000.0],
            vec![500_000.0],
            vec![300_000.0],
            vec![1.0],
            vec![2.0],
            vec![3.0],
            vec![4.0],
            vec![60.0],
            vec![5.0],
            vec![6.0],
        ];
        let mut bench = Bench::start("placement").unwrap();
        figures(&mut bench, &samples).unwrap();
        let report = bench.finish().unwrap();
        let of = |id: &str| {
            report
                .figures
                .iter()
                .find(|figure| figure.id == id)
                .map(|f| (f.value(), f.met()))
        };
        assert_eq!(of("placement.growth"), Some((2.0, Some(false))));
        assert_eq!(of("placement.engine_per_s.10000"), Some((300_000.0, Some(true))));
        assert_eq!(of("placement.queue_100k_pass_ms"), Some((60.0, Some(false))));
        assert!(report.to_string().contains("Nomad C1M"), "{report}");
    }
}
