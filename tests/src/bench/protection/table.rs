//! The table for people: a row a cell, a column a configuration.

use comfy_table::{ContentArrangement, Table, presets};

use super::machine::Preemption;
use super::matrix::Config;
use super::outcome::CellRuns;
use crate::bench::Summary;

pub(super) fn of(cells: &[CellRuns], preemption: Preemption) -> String {
    let mut table = Table::new();
    table
        .load_style(presets::UTF8_FULL_CONDENSED)
        .set_content_arrangement(ContentArrangement::Dynamic);
    let head = ["machine", "production", "load", "antagonist"].map(String::from);
    table.set_header(
        head.into_iter()
            .chain(Config::ALL.map(|config| config.name().to_owned())),
    );
    for runs in cells {
        let cell = &runs.cell;
        let names = [
            cell.machine.name().to_owned(),
            cell.production.name().to_owned(),
            cell.load.name(),
            cell.antagonist.name().to_owned(),
        ];
        table.add_row(
            names
                .into_iter()
                .chain(Config::ALL.map(|config| text(runs, config))),
        );
    }
    format!(
        "p99 alone in ms, else p99 ÷ alone (p50 ÷ alone), median of the rounds; lent: CPU time of the antagonist ÷ what \
         was free;\nthe node's kernel preempts: {};\nLATE: the generator itself was late in every round, so that the host was too busy to judge by\n{table}",
        preemption.name()
    )
}

fn text(runs: &CellRuns, config: Config) -> String {
    if !runs.cell.configs.contains(&config) {
        return String::new();
    }
    let mut text = match config {
        Config::Alone => {
            let p99: Vec<f64> = runs
                .of(config)
                .map(|run| run.slice.load.latencies.quantile_us(0.99) as f64 / 1e3)
                .collect();
            median(&p99, " ms")
        }
        Config::Installed => {
            let [p99, p50] = [0.99, 0.5].map(|share| runs.ratios(config, share));
            format!("{} ({})", median(&p99, ""), median(&p50, ""))
        }
        _ => {
            let lent = runs.batch_shares(config);
            let p99 = runs.ratios(config, 0.99);
            let p50 = runs.ratios(config, 0.5);
            format!(
                "{} ({}) lent {}",
                median(&p99, ""),
                median(&p50, ""),
                median(&lent, "")
            )
        }
    };
    let failed = runs.failed_requests(config);
    if failed > 0 {
        text.push_str(&format!("\n{failed} failed"));
    }
    if runs.is_late(config) {
        text.push_str("\ngenerator LATE");
    } else if runs.late_runs(config) > 0 {
        text.push_str(&format!("\n{} discarded", runs.late_runs(config)));
    }
    text
}

fn median(samples: &[f64], unit: &str) -> String {
    Summary::of(samples).map_or_else(|| "–".into(), |summary| format!("{:.2}{unit}", summary.median()))
}

#[cfg(test)]
mod tests {
    use super::super::outcome::tests::{cell, late, run};
    use super::*;

    #[test]
    fn a_row_says_what_was_measured_what_was_not_and_what_was_thrown_away() {
        let runs = cell(vec![
            run(0, Config::Alone, 1000),
            run(0, Config::Loadline, 1200),
            late(run(1, Config::Loadline, 1)),
            late(run(0, Config::Unprotected, 2000)),
        ]);
        let text = of(&[runs], Preemption::Full);
        let parts = [
            "nginx",
            "30",
            "cpu",
            "1.00 ms",
            "1.20 (1.20)",
            "1 discarded",
            "generator LATE",
        ];
        for part in parts {
            assert!(text.contains(part), "{part} in {text}");
        }
    }
}
