//! `loadgen`: puts an HTTP service under open load and prints what it saw as JSON. Runs inside guests.

use std::io::Write;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use loadline_tests::load::{Arrivals, Plan, closed_loop, open_loop};

/// Loads an HTTP service and prints a report as JSON.
#[derive(Parser)]
struct Args {
    /// The service's address.
    #[arg(long, default_value = "127.0.0.1:80")]
    target: SocketAddr,
    /// The page.
    #[arg(long, default_value = "/")]
    path: String,
    /// How long, in seconds.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    #[command(subcommand)]
    kind: Kind,
}

#[derive(Subcommand)]
enum Kind {
    /// Requests at fixed random instants, whatever the answers do.
    Open {
        /// Requests a second on average.
        #[arg(long)]
        rate: u32,
        /// Of the random gaps.
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// Requests as fast as they are answered: the service's capacity.
    Closed {
        /// Connections.
        #[arg(long, default_value_t = 8)]
        connections: usize,
    },
}

fn main() -> Result<()> {
    let args = Args::parse();
    let connections = match args.kind {
        Kind::Open { .. } => 256,
        Kind::Closed { connections } => connections,
    };
    let length = Duration::from_secs(args.seconds);
    let drain = Duration::from_secs(10);
    let plan = Plan {
        target: args.target,
        path: args.path,
        length,
        connections,
        drain,
    };
    let report = match args.kind {
        Kind::Open { rate, seed } => open_loop(&plan, Arrivals::poisson(rate, seed))?,
        Kind::Closed { .. } => closed_loop(&plan)?,
    };
    let text = serde_json::to_string(&report).context("writing the report")?;
    writeln!(std::io::stdout(), "{text}").context("printing the report")
}
