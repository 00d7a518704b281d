//! `launchprobe`: how long a job takes to start and to end, next to `systemd-run`, inside one guest with one clock.
//!
//! One client on one open connection; a job's time runs from the call to the event received. The peer is
//! `systemd-run` with the properties that a worker's unit has, as a whole command, since that is what it is.

use std::io::Write;

use anyhow::{Context, Result};
use clap::Parser;
use loadline_tests::probe;

/// Measures launches of `true`.
#[derive(Parser)]
struct Args {
    /// How many of each
    #[arg(long, default_value_t = 20)]
    rounds: usize,
    /// Properties of the peer's unit, as `systemd-run -p` takes them
    #[arg(long = "property")]
    properties: Vec<String>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let args = Args::parse();
    let samples = probe::measure(args.rounds, &args.properties).await?;
    let text = serde_json::to_string(&samples).context("writing the samples")?;
    writeln!(std::io::stdout(), "{text}").context("printing the samples")
}
