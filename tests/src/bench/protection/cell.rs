//! One cell: its configurations interleaved in rounds, A B C, C B A, …, so that a drift of the host hits all alike.

use std::fmt::Write as _;

use anyhow::{Context, Result, ensure};

use super::hold;
use super::kills::{Kills, Toll};
use super::matrix::{Cell, Config};
use super::outcome::{CellRuns, Run, used};
use super::rig::{Measure, Rig};
use crate::bench::abba;
use crate::bench::form::Form;
use crate::inguest::beside::Slice;

/// A run whose generator was late is made once more, with other gaps; after so many that were late again, the host is
/// too busy for it to help, and time runs out.
const IN_VAIN_MOST: usize = 2;

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
    let (mut runs, mut in_vain) = (Vec::new(), 0);
    // What comes twice in a row, at the turn, is started once.
    for same in slices.chunk_by(|one, next| one.1 == next.1) {
        let config = same[0].1;
        rig.kernel_log()?;
        let held = hold::start(rig, config, cell, capacity_per_s)
            .with_context(|| format!("start {}", config.name()))?;
        let mut settled = false;
        for (round, _) in same {
            let again = in_vain < IN_VAIN_MOST;
            let measured = |seed: usize| {
                hold::is_there(rig, &held)?;
                let measure = Measure {
                    length: cell.machine.slice(form),
                    seed,
                    again: std::mem::replace(&mut settled, true),
                };
                let slice = rig.slice(cell, config, capacity_per_s, &measure);
                slice.with_context(|| format!("round {round}, {}", config.name()))
            };
            let run = judged(*round, config, again, measured)?;
            in_vain += usize::from(again && run.late);
            eprintln!("  {} {}: {}", cell.id(), config.name(), seen(&run));
            runs.push(run);
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

/// One run, made again if it was late; the better of two late ones.
fn judged(
    round: usize,
    config: Config,
    again: bool,
    mut measured: impl FnMut(usize) -> Result<Slice>,
) -> Result<Run> {
    let late = |slice: &Slice| slice.load.generator_too_late();
    let lateness = |slice: &Slice| slice.load.lateness.quantile_us(0.999);
    let mut slice = measured(1 + round)?;
    if late(&slice) && again {
        let second = measured(1001 + round)?;
        if !late(&second) || lateness(&second) < lateness(&slice) {
            slice = second;
        }
    }
    // Elsewhere production may fail: that is what is measured.
    ensure!(
        config != Config::Alone || slice.load.errors == 0,
        "{} of {} requests failed alone",
        slice.load.errors,
        slice.load.requests
    );
    Ok(Run {
        round,
        config,
        late: late(&slice),
        slice,
    })
}

fn seen(run: &Run) -> String {
    let load = &run.slice.load;
    let ms = |share| load.latencies.quantile_us(share) as f64 / 1e3;
    let [production, lent, own] = used(&run.slice);
    let mut text = format!(
        "{} requests, p50 {:.2} p99 {:.1} p99.9 {:.1} ms, generator {:.2} ms (p99 without it {:.1}), CPUs: {production:.2} production, \
         {lent:.2} lent, {own:.2} Loadline",
        load.requests,
        ms(0.5),
        ms(0.99),
        ms(0.999),
        load.lateness.quantile_us(0.999) as f64 / 1e3,
        load.served.quantile_us(0.99) as f64 / 1e3
    );
    if run.late {
        text.push_str(" LATE");
    }
    if load.errors > 0 {
        // Writing into a String does not fail.
        let _ = write!(text, ", {} FAILED", load.errors);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::outcome::tests::run;
    use super::*;

    fn slice(late_us: u64) -> Slice {
        let mut slice = run(0, Config::Alone, 10_000).slice;
        slice.load.lateness.record_us(late_us);
        slice
    }

    fn judge(late_us: &[u64], again: bool) -> (bool, u64, usize) {
        let mut made = 0;
        let measured = |_| {
            made += 1;
            Ok(slice(late_us[made - 1]))
        };
        let run = judged(0, Config::Alone, again, measured).unwrap();
        (run.late, run.slice.load.lateness.quantile_us(1.0), made)
    }

    #[test]
    fn a_late_run_is_made_once_more_and_the_better_one_kept() {
        assert_eq!(judge(&[100], true), (false, 100, 1));
        assert_eq!(judge(&[5000, 100], true), (false, 100, 2));
        let (late, us, made) = judge(&[5000, 9000], true);
        assert!(late && us < 6000 && made == 2);
        let (late, _, made) = judge(&[5000, 100], false);
        assert!(late && made == 1);
    }

    #[test]
    fn failures_alone_are_no_measurement() {
        let failed = |_| {
            let mut slice = slice(100);
            slice.load.errors = 1;
            Ok(slice)
        };
        assert!(judged(0, Config::Alone, true, failed).is_err());
        assert!(judged(0, Config::Unprotected, true, failed).is_ok());
    }
}
