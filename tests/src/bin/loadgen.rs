//! `loadgen`: puts a service under open load and prints what it saw as JSON. Runs inside guests.

use std::io::Write;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use loadline_tests::inguest::beside::MEASURING;
use loadline_tests::load::{Arrivals, Plan, Speaks, closed_loop, open_loop};

/// Loads a service and prints a report as JSON.
#[derive(Parser)]
struct Args {
    /// The service's address; default: the protocol's port on the loopback.
    #[arg(long)]
    target: Option<SocketAddr>,
    /// What it speaks.
    #[arg(long, value_enum, default_value_t = Speaks::Http)]
    protocol: Speaks,
    /// The page (HTTP).
    #[arg(long, default_value = "/")]
    path: String,
    /// How many keys or rows there are (redis, PostgreSQL).
    #[arg(long, default_value_t = 10_000)]
    keys: u32,
    /// Account and database (PostgreSQL).
    #[arg(long, default_value = "load")]
    user: String,
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
        /// Another rate for the second half.
        #[arg(long)]
        then: Option<u32>,
        /// For so many seconds before at the first rate, which does not count; says when what counts begins.
        #[arg(long)]
        settle: Option<u64>,
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

impl Args {
    fn plan(&self) -> Plan {
        let (most, ready) = self.protocol.connections();
        Plan {
            target: self.target.unwrap_or_else(|| self.protocol.port_here()),
            protocol: self.protocol.asked(&self.path, self.keys, &self.user),
            length: Duration::from_secs(self.seconds),
            connections: match self.kind {
                Kind::Open { .. } => most,
                Kind::Closed { connections } => connections,
            },
            ready,
            drain: Duration::from_secs(10),
        }
    }
}

fn main() -> Result<()> {
    let args = Args::parse();
    let plan = args.plan();
    let report = match args.kind {
        Kind::Open {
            rate,
            then,
            settle,
            seed,
        } => {
            let arrivals = Arrivals::step(rate, plan.length / 2, then.unwrap_or(rate), seed);
            let before = Arrivals::poisson(rate, seed.wrapping_add(1));
            let settle = settle.map(|seconds| (Duration::from_secs(seconds), before));
            open_loop(&plan, settle, arrivals, || {
                writeln!(std::io::stdout(), "{MEASURING}")
            })?
        }
        Kind::Closed { .. } => closed_loop(&plan)?,
    };
    let text = serde_json::to_string(&report).context("writing the report")?;
    writeln!(std::io::stdout(), "{text}").context("printing the report")
}
