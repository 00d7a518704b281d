//! `benchprobe`: what the benchmarks of production's protection run inside guests; prints JSON.

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use loadline_tests::inguest::antagonist::{self, Antagonist};
use loadline_tests::inguest::{beside, brake, onset};
use serde::Serialize;

#[derive(Parser)]
enum Args {
    /// Work that stands for lent work; goes on until it is ended
    Antagonist {
        kind: Antagonist,
        /// For its files, and the tally of what it did
        #[arg(long)]
        folder: PathBuf,
    },
    #[command(flatten)]
    Probe(Probe),
}

#[derive(Subcommand)]
enum Probe {
    /// Run a load generator, and read beside it who used which CPU time
    Beside {
        /// The antagonist's cgroup, below the root
        #[arg(long)]
        lent: Option<String>,
        /// Loadline's own programs' cgroups
        #[arg(long)]
        own: Vec<String>,
        /// The antagonist's
        #[arg(long)]
        folder: PathBuf,
        #[arg(last = true)]
        generator: Vec<String>,
    },
    /// Saturate the CPUs again and again, and see when lent work's limits follow
    Onset(onset::Order),
    /// Run a command, and see when a cgroup is idle
    Brake {
        #[arg(long)]
        group: String,
        #[arg(last = true)]
        command: Vec<String>,
    },
}

fn main() -> Result<()> {
    match Args::parse() {
        Args::Antagonist { kind, folder } => antagonist::run(kind, &folder),
        Args::Probe(probe) => measure(probe),
    }
}

fn measure(probe: Probe) -> Result<()> {
    match probe {
        Probe::Beside {
            lent,
            own,
            folder,
            generator,
        } => print(&beside::run(&generator, lent.as_deref(), &own, &folder)?),
        Probe::Onset(order) => print(&onset::run(&order)?),
        Probe::Brake { group, command } => print(&brake::run(&command, &group)?),
    }
}

fn print(seen: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string(seen).context("writing what was seen")?;
    writeln!(std::io::stdout(), "{text}").context("printing what was seen")
}
