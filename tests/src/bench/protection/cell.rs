//! One cell: its configurations interleaved in rounds, A B C, C B A, …, so that a drift of the host hits all alike.

use std::fmt::Write as _;

use anyhow::{Context, Result, ensure};

use super::hold;
use super::kills::{Kills, Toll};
use super::matrix::{Cell, Config, Form};
use super::outcome::{CellRuns, Outcome, Run};
use super::rig::Rig;
use crate::bench::abba;
use crate::inguest::beside::Slice;

/// A run whose generator was late is made once more, with other gaps.
const TRIES: usize = 2;

/// Measures a cell. Production runs already.
pub(super) fn measure(
    rig: &Rig,
    cell: &Cell,
    capacity_per_s: u32,
    form: Form,
    toll: &mut Toll,
) -> Result<CellRuns> {
    let order = abba(cell.configs.len(), form.rounds());
    let slices: Vec<(usize, Config)> = order
        .into_iter()
        .enumerate()
        .map(|(place, index)| (place / cell.configs.len(), cell.configs[index]))
        .collect();
    let mut runs = Vec::new();
    // What comes twice in a row, at the turn, is started once.
    for same in slices.chunk_by(|one, next| one.1 == next.1) {
        let config = same[0].1;
        rig.kernel_log()?;
        let held = hold::start(rig, config, cell).with_context(|| format!("start {}", config.name()))?;
        rig.warm_up(cell, capacity_per_s)?;
        for (round, _) in same {
            let outcome = judged(rig, cell, config, capacity_per_s, *round, form)
                .with_context(|| format!("round {round}, {}", config.name()))?;
            eprintln!("  {}", line(cell, config, &outcome));
            runs.push(Run {
                round: *round,
                config,
                outcome,
            });
        }
        let missing = hold::stop(rig, held).with_context(|| format!("end {}", config.name()))?;
        toll.without_receipt.extend(missing);
        toll.add(config, Kills::in_log(&rig.kernel_log()?));
    }
    Ok(CellRuns {
        cell: cell.clone(),
        runs,
    })
}

fn judged(
    rig: &Rig,
    cell: &Cell,
    config: Config,
    capacity_per_s: u32,
    round: usize,
    form: Form,
) -> Result<Outcome> {
    for attempt in 0..TRIES {
        let seed = 1 + round + 1000 * attempt;
        let slice = rig.slice(cell, config, capacity_per_s, seed, form.slice())?;
        if !slice.load.generator_too_late() {
            // Elsewhere production may fail: that is what is measured.
            ensure!(
                config != Config::Alone || slice.load.errors == 0,
                "{} of {} requests failed alone",
                slice.load.errors,
                slice.load.requests
            );
            return Ok(Outcome::Good(Box::new(slice)));
        }
        eprintln!("  {}: the generator was late: {}", config.name(), seen(&slice));
    }
    Ok(Outcome::Discarded)
}

fn line(cell: &Cell, config: Config, outcome: &Outcome) -> String {
    let what = match outcome {
        Outcome::Good(slice) => seen(slice),
        Outcome::Discarded => "discarded".into(),
    };
    format!("{} {}: {what}", cell.id(), config.name())
}

fn seen(slice: &Slice) -> String {
    let load = &slice.load;
    let ms = |share| load.latencies.quantile_us(share) as f64 / 1e3;
    let mut text = format!(
        "{} requests, p50 {:.2} p99 {:.1} p99.9 {:.1} ms, late {:.2} ms",
        load.requests,
        ms(0.5),
        ms(0.99),
        ms(0.999),
        load.lateness.quantile_us(0.999) as f64 / 1e3
    );
    if load.errors > 0 {
        // Writing into a String does not fail.
        let _ = write!(text, ", {} FAILED", load.errors);
    }
    text
}
