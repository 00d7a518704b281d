//! The table for people: a row a cell, a column a configuration.

use comfy_table::{ContentArrangement, Table, presets};

use super::matrix::Config;
use super::outcome::CellRuns;
use crate::bench::Summary;

pub(super) fn of(cells: &[CellRuns]) -> String {
    let mut table = Table::new();
    table
        .load_style(presets::UTF8_FULL_CONDENSED)
        .set_content_arrangement(ContentArrangement::Dynamic);
    let head = ["production", "load", "antagonist"].map(String::from);
    table.set_header(
        head.into_iter()
            .chain(Config::ALL.map(|config| config.name().to_owned())),
    );
    for runs in cells {
        let cell = &runs.cell;
        let names = [
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
         was free\n{table}"
    )
}

fn text(runs: &CellRuns, config: Config) -> String {
    if !runs.cell.configs.contains(&config) {
        return String::new();
    }
    let mut text = match config {
        Config::Alone => {
            let p99: Vec<f64> = runs
                .good(config)
                .map(|(_, slice)| slice.load.latencies.quantile_us(0.99) as f64 / 1e3)
                .collect();
            median(&p99, " ms")
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
    for (count, what) in [
        (runs.failed_requests(config), "failed"),
        (runs.discarded(config) as u64, "discarded"),
    ] {
        if count > 0 {
            text.push_str(&format!("\n{count} {what}"));
        }
    }
    text
}

fn median(samples: &[f64], unit: &str) -> String {
    Summary::of(samples).map_or_else(|| "–".into(), |summary| format!("{:.2}{unit}", summary.median()))
}

#[cfg(test)]
mod tests {
    use super::super::outcome::tests::{cell, run};
    use super::super::outcome::{Outcome, Run};
    use super::*;

    #[test]
    fn a_row_says_what_was_measured_what_was_not_and_what_was_thrown_away() {
        let lost = Run {
            outcome: Outcome::Discarded,
            ..run(1, Config::Loadline, 1)
        };
        let runs = cell(vec![
            run(0, Config::Alone, 1000),
            run(0, Config::Loadline, 1200),
            lost,
        ]);
        let text = of(&[runs]);
        for part in [
            "nginx",
            "30",
            "cpu",
            "1.00 ms",
            "1.20 (1.20) lent 0.41",
            "1 discarded",
            "– (–)",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }
}
