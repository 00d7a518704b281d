//! Durable placements: how many workers a second go from a job's submission to their order in the hands of the session
//! of the node's agent, everything committed in between.
//!
//! One measurement a call, printed as JSON. `api` is fleetd as it runs, with its store and its audit log, in this
//! process; 64 people stream messages of a hundred jobs over TLS and gRPC, each with one message on its way. `writer`
//! is the same without the door: jobs enter fleetd's writer as the services hand them on, and nothing is audited. Agents
//! are played: each takes what is queued for its session and says every 5 s that it lives, without TLS of its own.
//! What fleetd and what the players take of the CPUs is told apart by their threads.

mod door;
mod measure;
mod nodes_and_jobs;

use std::path::PathBuf;

use anyhow::Context;
use clap::{Parser, ValueEnum};
use door::Door;
use measure::{known, measure};
use tokio::runtime::{Builder, Runtime};

/// As many as submit at once in the figure that is promised.
const CLIENTS: u64 = 64;

/// The threads of the players; all others are fleetd's.
const PLAYERS: &str = "player";

/// Where jobs come in.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Through {
    Api,
    Writer,
}

#[derive(Debug, Parser)]
struct Arguments {
    /// Where the database is made; it decides which disk is measured
    folder: PathBuf,
    through: Through,
    /// How many nodes the fleet has
    nodes: u64,
    /// How many workers are placed while the clock runs
    #[arg(long, default_value_t = 20_000)]
    workers: u64,
    /// Measures what memory so many jobs take once all nodes are full, not how fast they are placed
    #[arg(long)]
    known: bool,
    /// `cargo bench` says it
    #[arg(long, hide = true)]
    bench: bool,
}

fn runtime(name: &str) -> anyhow::Result<Runtime> {
    let mut builder = Builder::new_multi_thread();
    Ok(builder.worker_threads(2).thread_name(name).enable_all().build()?)
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let folder = tempfile::tempdir_in(&arguments.folder)
        .with_context(|| format!("make a folder in {}", arguments.folder.display()))?;
    let (fleetd, players) = (runtime("fleetd")?, runtime(PLAYERS)?);
    let door = match arguments.through {
        Through::Api => Door::api(&fleetd, folder.path())?,
        Through::Writer => Door::writer(folder.path())?,
    };
    let printed = players.block_on(async {
        let clients = door.clients(CLIENTS).await?;
        if arguments.known {
            known(door.fleet(), clients, &arguments).await
        } else {
            measure(door.fleet(), clients, &arguments).await
        }
    })?;
    println!("{printed}");
    // Sessions and streams are still open; they end with the process, once its files are gone.
    drop(folder);
    std::process::exit(0)
}
