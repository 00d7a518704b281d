//! A finished benchmark: the file for machines, the table for people.

use std::fmt;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;

use crate::bench::figure::Figure;
use crate::testbed::host::{HostReport, HostWatch};

/// A benchmark that is being measured.
#[derive(Debug)]
pub struct Bench {
    name: String,
    watch: HostWatch,
    figures: Vec<Figure>,
    table: Option<String>,
}

/// What `target/bench/NAME.json` holds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BenchReport {
    /// Of the benchmark.
    pub name: String,
    /// Where it ran and how disturbed it was.
    pub host: HostReport,
    /// What was measured.
    pub figures: Vec<Figure>,
    /// For people: figures that are better read side by side.
    #[serde(skip)]
    pub table: Option<String>,
}

impl Bench {
    /// Begins, and watches the host from here on.
    ///
    /// # Errors
    /// When the host's counters cannot be read.
    pub fn start(name: &str) -> Result<Self> {
        Ok(Self {
            name: name.into(),
            watch: HostWatch::start()?,
            figures: Vec::new(),
            table: None,
        })
    }

    /// A table of figures that are marked as shown in it.
    pub fn table(&mut self, text: String) {
        self.table = Some(text);
    }

    /// Adds a figure; one without samples is an error, never a hole in the file.
    ///
    /// # Errors
    /// When the figure has no samples.
    pub fn add(&mut self, figure: Option<Figure>) -> Result<()> {
        self.figures
            .push(figure.with_context(|| format!("{}: a figure without samples", self.name))?);
        Ok(())
    }

    /// Ends.
    ///
    /// # Errors
    /// When the host's counters cannot be read.
    pub fn finish(self) -> Result<BenchReport> {
        Ok(BenchReport {
            name: self.name,
            host: self.watch.report()?,
            figures: self.figures,
            table: self.table,
        })
    }
}

impl BenchReport {
    /// Writes `target/bench/NAME.json` of the repository that holds the working folder.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn publish(&self) -> Result<PathBuf> {
        let folder = repository()?.join("target/bench");
        fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
        let path = folder.join(format!("{}.json", self.name));
        let text = serde_json::to_string_pretty(self).context("encode the report")?;
        fs::write(&path, text + "\n").with_context(|| format!("write {}", path.display()))?;
        Ok(path)
    }
}

/// Where `make packages` puts the packages.
///
/// # Errors
/// When the working folder lies in no Loadline repository.
pub(super) fn packages_folder() -> Result<PathBuf> {
    Ok(repository()?.join("target/packages"))
}

/// The folder above the working folder that holds the workspace.
pub(super) fn repository() -> Result<PathBuf> {
    let here = std::env::current_dir().context("find the working folder")?;
    let workspace = |folder: &&std::path::Path| {
        fs::read_to_string(folder.join("Cargo.toml")).is_ok_and(|text| text.contains("[workspace]"))
    };
    let root = here.ancestors().find(workspace);
    root.map(Into::into)
        .with_context(|| format!("{} lies in no Loadline repository", here.display()))
}

impl fmt::Display for BenchReport {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new();
        table
            .load_style(presets::UTF8_FULL_CONDENSED)
            .set_content_arrangement(ContentArrangement::Dynamic);
        table.set_header(["figure", "median", "spread", "unit", "goal", "peer", ""]);
        for figure in self.figures.iter().filter(|figure| !figure.in_table) {
            let sign = if figure.better == super::Better::Lower {
                "≤"
            } else {
                "≥"
            };
            table.add_row([
                figure.id.clone(),
                short(figure.value()),
                short(figure.spread()),
                figure.unit.into(),
                figure
                    .goal_value()
                    .map_or_else(String::new, |goal| format!("{sign} {}", short(goal))),
                figure
                    .peer_value()
                    .map_or_else(String::new, |(name, value)| format!("{} {name}", short(value))),
                figure
                    .met()
                    .map_or("", |met| if met { "met" } else { "MISSED" })
                    .into(),
            ]);
        }
        let HostReport {
            cpus,
            kernel,
            virtualised,
            steal,
            psi,
        } = &self.host;
        let kind = if *virtualised {
            "virtual machine"
        } else {
            "machine"
        };
        let psi = psi.map_or_else(|| "not counted".into(), |psi| format!("{psi} %"));
        writeln!(out, "{}", self.name)?;
        if let Some(table) = &self.table {
            writeln!(out, "{table}")?;
        }
        writeln!(out, "{table}")?;
        write!(
            out,
            "host: {kind}, {cpus} CPUs, kernel {kernel}; steal {steal} %, tasks waiting for a CPU before it began {psi}"
        )
    }
}

/// Three digits or so.
fn short(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::{Better, Goal};

    fn report() -> BenchReport {
        let figure = Figure::new("a.b_ms", "ms", Better::Lower, &[10.0, 20.0, 30.0])
            .and_then(|figure| figure.goal(Goal::TimesPeer(1.3)).peer("systemd-run", &[100.0]));
        let host = HostReport {
            cpus: 2,
            kernel: "6.1".into(),
            virtualised: true,
            steal: 1.5,
            psi: Some(3.0),
        };
        BenchReport {
            name: "x".into(),
            host,
            figures: figure.into_iter().collect(),
            table: None,
        }
    }

    #[test]
    fn the_file_has_the_agreed_shape() {
        let value = serde_json::to_value(report()).unwrap();
        let want = serde_json::json!({
            "name": "x",
            "host": {"cpus": 2, "kernel": "6.1", "virtualised": true, "steal": 1.5, "psi": 3.0},
            "figures": [{
                "id": "a.b_ms", "value": 20.0, "unit": "ms", "better": "lower",
                "goal": 130.0, "peer": 100.0, "spread": 10.0,
            }],
        });
        assert_eq!(value, want);
    }

    #[test]
    fn the_table_says_whether_the_goal_was_met() {
        let text = report().to_string();
        let row = text.lines().find(|line| line.contains("a.b_ms")).unwrap();
        for part in ["20.0", "10.0", "≤ 130", "100 systemd-run", "met"] {
            assert!(row.contains(part), "{part} in {row}");
        }
        assert!(text.contains("before it began 3 %"), "{text}");
    }

    #[test]
    fn what_a_table_shows_is_in_the_file_and_not_in_the_list() {
        let mut report = report();
        report
            .figures
            .extend(Figure::new("a.cell", "x", Better::Lower, &[1.0]).map(Figure::in_table));
        report.table = Some("side by side".into());
        let text = report.to_string();
        assert!(
            text.contains("side by side") && !text.contains("a.cell"),
            "{text}"
        );
        let file = serde_json::to_string(&report).unwrap();
        assert!(
            file.contains("a.cell") && !file.contains("side by side"),
            "{file}"
        );
    }

    #[test]
    fn a_figure_without_samples_is_an_error() {
        let mut bench = Bench::start("x").unwrap();
        assert!(bench.add(Figure::new("a", "ms", Better::Lower, &[])).is_err());
    }
}
