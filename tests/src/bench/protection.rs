//! Production's latency with an antagonist on its node, over the matrix of the test protocol (promises P1 and P3).
//!
//! `LOADLINE_BENCH=release` measures the release form, all else the short one. Each cell is measured in one boot, its
//! configurations interleaved; what is held against what is always two slices of the same round. The share that was
//! lent speaks only of antagonists that would use every CPU they are given.

mod cell;
mod hold;
mod kills;
mod lanes;
mod machine;
mod matrix;
mod outcome;
mod rig;
mod table;

use anyhow::{Context, Result, bail};

use self::kills::Toll;
use self::machine::{Machine, Preemption};
use self::matrix::{Cell, Config, Production};
use self::outcome::CellRuns;
use self::rig::Rig;
use super::form::Form;
use super::{Bench, BenchReport, Better, Figure, Goal, Summary};
use crate::clock;
use crate::deploy::Packages;
use crate::load::Latencies;
use crate::testbed::cache::Cache;

/// P1, over all cells.
const GOAL_MEDIAN_P99: f64 = 1.10;
const GOAL_WORST_P99: f64 = 1.25;
const GOAL_P999: f64 = 1.5;
const GOAL_BATCH_SHARE: f64 = 0.8;
/// A 99.9th percentile of fewer requests than this says nothing.
const P999_REQUESTS: u64 = 50_000;

pub(super) fn run(cache: &Cache) -> Result<BenchReport> {
    let form = Form::chosen()?;
    let preemption = Preemption::chosen()?;
    let packages = Packages::of(&super::report::packages_folder()?)?;
    let start = clock::now();
    let mut cells = matrix::chosen(form.cells())?;
    if let Some(machine) = Machine::chosen()? {
        cells.iter_mut().for_each(|cell| cell.machine = machine);
    }
    let mut bench = Bench::start("protection")?;
    let mut seen = Seen::default();
    for machine in Machine::ALL {
        let mine = cells.iter().filter(|cell| cell.machine == machine);
        let mine: Vec<Cell> = mine.cloned().collect();
        let boot = |lane: &str| {
            let (name, preempted) = (machine.name(), preemption.name());
            eprintln!("bench: {lane}: booting {name}, preemption {preempted}, and installing");
            let rig = Rig::boot(cache, &packages, lane, machine, preemption)?;
            eprintln!("bench: {lane}: ready after {} s", start.elapsed().as_secs());
            Ok(rig)
        };
        let measured = lanes::run(machine.at_once()?, &mine, boot, |rig, cells| {
            let seen = measure(rig, form, cells)?;
            // Logins end after twelve hours of the node's time, which leaps where it is idle.
            let up = rig.node()?.ok("cut -d. -f1 /proc/uptime")?;
            let (name, real) = (cells[0].production.name(), start.elapsed().as_secs());
            eprintln!("bench: {name}: measured after {real} s, {up} s by the node's clock");
            Ok(seen)
        })?;
        for of_production in measured {
            seen.add(&mut bench, of_production)?;
        }
    }
    if seen.cells.is_empty() {
        bail!("no cell could be measured");
    }
    for runs in &seen.cells {
        cell_figures(&mut bench, runs)?;
    }
    summary(&mut bench, &seen)?;
    bench.table(table::of(&seen.cells, preemption));
    eprintln!("bench: {} s in all", start.elapsed().as_secs());
    bench.finish()
}

/// What was seen of one production, or of all.
#[derive(Debug, Default)]
struct Seen {
    /// Ids, and requests a second.
    capacities: Vec<(String, u32)>,
    cells: Vec<CellRuns>,
    toll: Toll,
    broken: u32,
}

impl Seen {
    fn add(&mut self, bench: &mut Bench, other: Self) -> Result<()> {
        for (id, per_s) in other.capacities {
            bench.add(Figure::new(&id, "/s", Better::Higher, &[per_s.into()]))?;
        }
        self.cells.extend(other.cells);
        self.toll.merge(other.toll);
        self.broken += other.broken;
        Ok(())
    }
}

/// Cells of one production; one that cannot be measured is counted, and the node begins anew for the next.
fn measure(rig: &Rig, form: Form, cells: &[Cell]) -> Result<Seen> {
    let mut seen = Seen::default();
    let first = cells.first().context("no cell to measure")?;
    let (production, name) = (first.production, first.production.name());
    let capacity = rig
        .capacity(production)
        .with_context(|| format!("the capacity of {name}"))?;
    eprintln!("bench: {name} answers {capacity} requests/s at most");
    let prefix = first.machine.prefix();
    let id = format!("protection.{name}.{prefix}capacity_per_s");
    seen.capacities.push((id, capacity));
    for cell in cells {
        match cell::measure(rig, cell, capacity, form, &mut seen.toll) {
            Ok(runs) => seen.cells.push(runs),
            Err(error) => {
                seen.broken += 1;
                eprintln!("bench: {} could not be measured: {error:#}", cell.id());
                begin_anew(rig, production, cell)?;
            }
        }
    }
    rig.production(production, "stop")?;
    Ok(seen)
}

fn begin_anew(rig: &Rig, production: Production, cell: &Cell) -> Result<()> {
    rig.begin_anew()
        .and_then(|()| rig.production(production, "start"))
        .with_context(|| format!("begin anew after {}", cell.id()))
}

fn cell_figures(bench: &mut Bench, runs: &CellRuns) -> Result<()> {
    for &config in &runs.cell.configs {
        let id = |what: &str| format!("{}.{}.{what}", runs.cell.id(), config.name());
        let mut add = |what: &str, unit, better, samples: &[f64]| {
            // Without anything free nothing can be lent.
            if samples.is_empty() {
                return Ok(());
            }
            bench.add(Figure::new(&id(what), unit, better, samples).map(Figure::in_table))
        };
        for (share, name) in [(0.5, "p50"), (0.99, "p99"), (0.999, "p999")] {
            if config == Config::Alone {
                let us: Vec<f64> = runs
                    .of(config)
                    .map(|run| run.slice.load.latencies.quantile_us(share) as f64)
                    .collect();
                add(&format!("{name}_us"), "us", Better::Lower, &us)?;
            } else {
                add(
                    &format!("{name}_ratio"),
                    "x",
                    Better::Lower,
                    &runs.ratios(config, share),
                )?;
            }
        }
        if config != Config::Alone {
            add(
                "cpu_per_request_ratio",
                "x",
                Better::Lower,
                &runs.cpu_ratios(config),
            )?;
        }
        if !matches!(config, Config::Alone | Config::Installed) {
            add("batch_share", "x", Better::Higher, &runs.batch_shares(config))?;
            add("work_per_s", "/s", Better::Higher, &runs.work_per_s(config))?;
        }
    }
    Ok(())
}

/// What is judged by: a clock that counts instructions, where one has been used.
fn judged(cells: &[CellRuns]) -> Vec<&CellRuns> {
    let of = |machine| -> Vec<&CellRuns> {
        let mine = cells.iter().filter(|runs| runs.cell.machine == machine);
        mine.collect()
    };
    let counted = of(Machine::Counted);
    if counted.is_empty() {
        of(Machine::Host)
    } else {
        counted
    }
}

/// Over Loadline's cells only.
fn summary(bench: &mut Bench, seen: &Seen) -> Result<()> {
    let config = Config::Loadline;
    let cells = judged(&seen.cells);
    let medians = |samples: &dyn Fn(&CellRuns) -> Vec<f64>| -> Vec<f64> {
        cells
            .iter()
            .filter_map(|runs| Summary::of(&samples(runs)))
            .map(|summary| summary.median())
            .collect()
    };
    let worst = |of: &[f64]| of.iter().copied().reduce(f64::max);
    let p99 = medians(&|runs| runs.ratios(config, 0.99));
    let low = |id: &str, samples: &[f64], goal: f64| {
        Figure::new(id, "x", Better::Lower, samples).map(|figure| figure.goal(Goal::Value(goal)))
    };
    if let Some(worst) = worst(&p99) {
        bench.add(low("protection.worst_p99_ratio", &[worst], GOAL_WORST_P99))?;
        bench.add(low("protection.median_p99_ratio", &p99, GOAL_MEDIAN_P99))?;
    }
    // What the kernel alone does, and a line that somebody has drawn by hand who knew the load: on a host where these miss
    // P1 too, it cannot be judged.
    for base in [Config::Idle, Config::Static] {
        let against = medians(&|runs| runs.against(config, base, 0.99));
        if !against.is_empty() {
            let id = format!("protection.p99_to_{}", base.name());
            bench.add(Figure::new(&id, "x", Better::Lower, &against))?;
        }
    }
    if let Some(pooled) = pooled_p999(&cells) {
        bench.add(low("protection.pooled_p999_ratio", &[pooled], GOAL_P999))?;
    }
    if let Some(share) = batch_share(&cells) {
        let share = Figure::new("protection.batch_share", "x", Better::Higher, &[share]);
        bench.add(share.map(|figure| figure.goal(Goal::Value(GOAL_BATCH_SHARE))))?;
    }
    for name in &seen.toll.without_receipt {
        eprintln!("bench: killed without a receipt: {name}");
    }
    let failed: u64 = seen.cells.iter().map(|runs| runs.failed_requests(config)).sum();
    let late: usize = seen
        .cells
        .iter()
        .flat_map(|runs| runs.cell.configs.iter().map(|config| runs.late_runs(*config)))
        .sum();
    let runs = seen.cells.iter().flat_map(|cell| &cell.runs);
    let beyond = runs.filter(|run| run.slice.load.is_beyond_protocol()).count();
    let late_cells = seen.cells.iter().filter(|runs| runs.is_late(config)).count();
    let none = |id: &str, count: f64| {
        Figure::new(id, "", Better::Lower, &[count]).map(|figure| figure.goal(Goal::Value(0.0)))
    };
    let kills = seen.toll.of(config);
    let without = seen.toll.without_receipt.len() as f64;
    bench.add(none("protection.production_oom_kills", kills.production as f64))?;
    bench.add(none("protection.kills_without_receipt", without))?;
    bench.add(none("protection.failed_requests", failed as f64))?;
    bench.add(none("protection.broken_cells", seen.broken.into()))?;
    // Their figures stand, for want of better ones, and are not to be judged by.
    bench.add(none("protection.late_cells", late_cells as f64))?;
    let plain = |id: &str, count: f64| Figure::new(id, "", Better::Lower, &[count]);
    let unprotected = seen.toll.of(Config::Unprotected).production;
    bench.add(plain("protection.lent_oom_kills", kills.antagonist as f64))?;
    bench.add(plain("protection.unprotected_oom_kills", unprotected as f64))?;
    bench.add(plain("protection.runs_beyond_protocol", beyond as f64))?;
    bench.add(plain("protection.late_runs", late as f64))
}

/// Over all cells whose antagonist takes all that it gets, as P1's integral is: a cell where next to nothing is free counts
/// for as much as was free. None without such a cell.
fn batch_share(cells: &[&CellRuns]) -> Option<f64> {
    let cells = cells.iter().filter(|runs| runs.cell.antagonist.uses_all_cpus());
    let [lent, free] = cells.fold([0, 0], |[lent, free], runs| {
        let [more_lent, more_free] = runs.lent_of_free(Config::Loadline);
        [lent + more_lent, free + more_free]
    });
    (free > 0).then(|| lent as f64 / free as f64)
}

/// Over all requests of all cells, each in units of its own cell's 99.9th percentile alone; none if they are too few to
/// say.
fn pooled_p999(cells: &[&CellRuns]) -> Option<f64> {
    let [mut alone, mut lent] = [Latencies::default(), Latencies::default()];
    for runs in cells {
        let [of_alone, of_lent] = runs.pooled(Config::Loadline);
        let unit_us = of_alone.quantile_us(0.999);
        alone.add(&of_alone.in_thousandths_of(unit_us));
        lent.add(&of_lent.in_thousandths_of(unit_us));
    }
    let enough = alone.count().min(lent.count()) >= P999_REQUESTS;
    let of = |latencies: &Latencies| latencies.quantile_us(0.999).max(1) as f64;
    enough.then(|| of(&lent) / of(&alone))
}

#[cfg(test)]
mod tests {
    use super::outcome::tests::{cell, run};
    use super::*;

    #[test]
    fn the_summary_has_the_goals_of_the_promises() {
        let runs = cell(vec![
            run(0, Config::Alone, 100),
            run(0, Config::Unprotected, 900),
            run(0, Config::Idle, 100),
            run(0, Config::Loadline, 130),
            run(1, Config::Alone, 100),
            run(1, Config::Idle, 200),
        ]);
        let mut bench = Bench::start("protection").unwrap();
        cell_figures(&mut bench, &runs).unwrap();
        let seen = Seen {
            cells: vec![runs],
            ..Seen::default()
        };
        summary(&mut bench, &seen).unwrap();
        let figures = bench.finish().unwrap().figures;
        let value = |id: &str| {
            let found = figures.iter().find(|figure| figure.id == id);
            found.map(|figure| (figure.value(), figure.met()))
        };
        assert_eq!(value("protection.worst_p99_ratio"), Some((1.3, Some(false))));
        assert_eq!(value("protection.median_p99_ratio"), Some((1.3, Some(false))));
        assert_eq!(
            value("protection.nginx.30.cpu.unprotected.p99_ratio"),
            Some((9.0, None))
        );
        assert_eq!(value("protection.nginx.30.cpu.alone.p99_us"), Some((100.0, None)));
        assert_eq!(value("protection.p99_to_idle"), Some((1.3, None)));
        assert_eq!(value("protection.p99_to_static"), None, "not in this cell");
        assert_eq!(value("protection.production_oom_kills"), Some((0.0, Some(true))));
        assert_eq!(value("protection.batch_share").unwrap().1, Some(false));
        assert_eq!(
            value("protection.pooled_p999_ratio"),
            None,
            "far too few requests"
        );
    }

    #[test]
    fn services_are_pooled_in_their_own_measure() {
        let one = |alone_us: u64, lent_us: u64| {
            let mut runs = cell(vec![
                run(0, Config::Alone, alone_us),
                run(0, Config::Loadline, lent_us),
            ]);
            for (run, us) in runs.runs.iter_mut().zip([alone_us, lent_us]) {
                (0..P999_REQUESTS).for_each(|_| run.slice.load.latencies.record_us(us));
            }
            runs
        };
        let ratio = pooled_p999(&[&one(100, 130), &one(10_000, 12_000)]).unwrap();
        assert!((ratio - 1.3).abs() < 0.01, "{ratio}");
    }
}
