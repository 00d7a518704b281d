//! GPUs allocated on the openb traces, next to best fit and FGD on the same tasks.
//!
//! The measuring program is a bench target of loadline-placement; the traces are read from `OPENB_DIR` and are not
//! part of the repository. Where they are missing there is an error, never a green run.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use serde::Deserialize;

use crate::bench::{Bench, BenchReport, Better, Figure, Goal, program};
use crate::testbed::cache::Cache;

const SEEDS: &str = "10";
const MARKS: [&str; 3] = ["100", "120", "130"];
/// How far our runs of the peers may be from their published figures, in points: beyond it the protocol is wrong.
const OFF_MAX: f64 = 0.5;

/// Means of ten seeds that the authors of FGD publish: best fit, FGD.
const PUBLISHED: [(&str, [f64; 3], [f64; 3]); 5] = [
    ("default", [92.86, 93.00, 93.08], [95.23, 95.35, 95.39]),
    ("cpu100", [93.26, 93.38, 93.44], [95.21, 95.31, 95.35]),
    ("gpushare40", [91.44, 91.61, 91.69], [93.96, 94.09, 94.15]),
    ("gpuspec20", [88.46, 93.23, 93.30], [94.66, 94.78, 94.84]),
    ("multigpu30", [94.57, 94.67, 94.72], [96.36, 96.42, 96.46]),
];

/// What the program prints for one variant, one entry a seed.
#[derive(Debug, Deserialize)]
struct Variant {
    variant: String,
    ours: Vec<[f64; 3]>,
    bestfit: Vec<[f64; 3]>,
    fgd: Vec<[f64; 3]>,
    per_s: Vec<f64>,
}

/// The variant that is played again in virtual time: the trace as it was.
const PLAYED: &str = "default";

/// What the program prints of a variant that it played again.
#[derive(Debug, Deserialize)]
struct Played {
    never_started: u64,
    /// Median and 99th percentile.
    waits_s: [f64; 2],
    /// The same as the trace tells it of its own scheduler.
    waits_in_trace_s: [f64; 2],
    gpus_used: f64,
}

pub(super) fn run(_: &Cache) -> Result<BenchReport> {
    let root = super::report::repository()?;
    let folder =
        std::env::var_os("OPENB_DIR").map_or_else(|| root.join("../shared/data/openb"), PathBuf::from);
    ensure!(
        folder.is_dir(),
        "{} is no folder: set OPENB_DIR to the one that holds openb_node_list_gpu_node.csv and openb_pod_list_*.csv",
        folder.display()
    );
    let program = program::build(&root, "loadline-placement", "openb")?;
    let mut bench = Bench::start("openb")?;
    let variants: Vec<Variant> = program::run(&program, &[&folder.to_string_lossy(), SEEDS])?;
    let (mut rates, mut margin) = (Vec::new(), f64::INFINITY);
    for variant in &variants {
        margin = margin.min(figures(&mut bench, variant)?);
        rates.extend(&variant.per_s);
    }
    let least = Figure::new("openb.least_margin", "points", Better::Higher, &[margin]);
    bench.add(least.map(|figure| figure.goal(Goal::Value(0.0))))?;
    bench.add(Figure::new("openb.per_s", "/s", Better::Higher, &rates))?;
    if variants.iter().any(|variant| variant.variant == PLAYED) {
        let played: Vec<Played> = program::run(&program, &[&folder.to_string_lossy(), "replay", PLAYED])?;
        played.iter().try_for_each(|played| replay(&mut bench, played))?;
    }
    bench.finish()
}

fn mean(seeds: &[[f64; 3]], mark: usize) -> f64 {
    seeds.iter().map(|seed| seed[mark]).sum::<f64>() / seeds.len() as f64
}

/// The protocol's figures are means over the seeds, so each is one sample. Returns how far ours is above FGD, published
/// or measured here, whichever is higher, at the mark where that is least.
fn figures(bench: &mut Bench, variant: &Variant) -> Result<f64> {
    let name = &variant.variant;
    let mut margin = f64::INFINITY;
    let published = PUBLISHED.iter().find(|(known, ..)| known == name);
    for (mark, at) in MARKS.into_iter().enumerate() {
        let fgd = mean(&variant.fgd, mark);
        let goal = published.map_or(fgd, |(_, _, published)| published[mark].max(fgd));
        let ours = mean(&variant.ours, mark);
        margin = margin.min(ours - goal);
        let figure = Figure::new(&format!("openb.{name}.{at}"), "%", Better::Higher, &[ours]);
        bench.add(figure.and_then(|figure| figure.goal(Goal::Value(goal)).peer("FGD", &[fgd])))?;
        let peers = [("bestfit", &variant.bestfit, 0), ("fgd", &variant.fgd, 1)];
        for (peer, seeds, which) in peers {
            let value = mean(seeds, mark);
            let id = format!("openb.{name}.{peer}.{at}");
            let figure = Figure::new(&id, "%", Better::Higher, &[value]);
            let Some((_, bestfit, fgd)) = published else {
                bench.add(figure)?;
                continue;
            };
            let said = [bestfit, fgd][which][mark];
            ensure!(
                (value - said).abs() <= OFF_MAX,
                "{id} is {value:.2} and published as {said}: the protocol is not the published one"
            );
            bench.add(figure.and_then(|figure| figure.peer("published", &[said])))?;
        }
    }
    Ok(margin)
}

/// What the real planner makes of the trace. Only its own scheduler's waits stand beside it: its cluster had other work
/// and other rules.
fn replay(bench: &mut Bench, played: &Played) -> Result<()> {
    ensure!(
        played.never_started == 0,
        "{} pods that ran in the trace never started when it was played again",
        played.never_started
    );
    for (place, part) in ["p50", "p99"].into_iter().enumerate() {
        let id = format!("openb.replay.wait_{part}_s");
        let figure = Figure::new(&id, "s", Better::Lower, &[played.waits_s[place]]);
        bench.add(figure.and_then(|figure| figure.peer("the trace", &[played.waits_in_trace_s[place]])))?;
    }
    bench.add(Figure::new(
        "openb.replay.gpus_used",
        "%",
        Better::Higher,
        &[played.gpus_used],
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_played_again_is_three_figures_and_who_never_started_is_an_error() {
        let mut played = Played {
            never_started: 0,
            waits_s: [0.0, 60.0],
            waits_in_trace_s: [1.0, 30.0],
            gpus_used: 42.0,
        };
        let mut bench = Bench::start("openb").unwrap();
        replay(&mut bench, &played).unwrap();
        let report = bench.finish().unwrap();
        let told: Vec<_> = report
            .figures
            .iter()
            .map(|figure| (figure.id.as_str(), figure.value()))
            .collect();
        assert_eq!(
            told,
            [
                ("openb.replay.wait_p50_s", 0.0),
                ("openb.replay.wait_p99_s", 60.0),
                ("openb.replay.gpus_used", 42.0)
            ]
        );
        played.never_started = 1;
        let mut bench = Bench::start("openb").unwrap();
        assert!(replay(&mut bench, &played).is_err());
    }

    fn variant(fgd: f64) -> Variant {
        Variant {
            variant: "default".into(),
            ours: vec![[95.0, 96.0, 97.0], [96.0, 97.0, 98.0]],
            bestfit: vec![[92.86, 93.00, 93.08]; 2],
            fgd: vec![[fgd, 95.35, 95.39]; 2],
            per_s: vec![1.0],
        }
    }

    #[test]
    fn ours_is_the_mean_over_the_seeds_and_held_against_the_higher_fgd() {
        let mut bench = Bench::start("openb").unwrap();
        let margin = figures(&mut bench, &variant(95.6)).unwrap();
        assert!((margin + 0.1).abs() < 1e-9, "{margin}");
        let report = bench.finish().unwrap();
        let first = &report.figures[0];
        assert_eq!((first.id.as_str(), first.value()), ("openb.default.100", 95.5));
        assert_eq!((first.goal_value(), first.met()), (Some(95.6), Some(false)));
        assert_eq!(report.figures.len(), 9);
        assert_eq!(report.figures[3].goal_value(), Some(95.35));
    }

    #[test]
    fn peers_far_from_what_is_published_are_an_error() {
        let mut bench = Bench::start("openb").unwrap();
        let wrong = figures(&mut bench, &variant(94.0)).unwrap_err();
        assert!(wrong.to_string().contains("openb.default.fgd.100"), "{wrong}");
        let mut unknown = variant(94.0);
        unknown.variant = "other".into();
        assert!(figures(&mut bench, &unknown).is_ok());
    }
}
