//! The store alone: how many changes become durable in a second, and how many bare SQLite makes durable.
//!
//! One measurement a call, printed as JSON: `make bench-store` interleaves them, since disks differ from minute to
//! minute, and writes the figures. Our path is the one of fleetd, from a command in the writer's queue to its answer
//! after the sync. `ours` are nodes that report a changed inventory, one row each. `audited` are people who make a
//! login token: one row, and its line in the record of what happened. The peer writes rows of about the same size
//! with the same settings.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context;
use clap::{Parser, Subcommand};
use loadline_fleet::clock::Clock;
use loadline_fleet::state::{Command, Hello, Inventory, LendMode, Refused, TokenId};
use loadline_fleet::store::Sqlite;
use loadline_fleet::trust::Role;
use loadline_fleet::writer::{self, Fleet};
use loadline_model::{Amounts, Generation, LedgerId, NodeId, Sequence, Span};
use rusqlite::Connection;
use tokio::time::Instant;

#[derive(Debug, Parser)]
struct Arguments {
    /// Where the database is made; it decides which disk is measured
    folder: PathBuf,
    /// How long
    #[arg(long, default_value_t = 2000)]
    millis: u64,
    /// `cargo bench` says it
    #[arg(long, hide = true, global = true)]
    bench: bool,
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// fleetd's writer with so many nodes, each waiting for its answer before its next change of one row
    Ours { clients: u64 },
    /// The same with so many people, whose changes are a row and a line in the record each
    Audited { clients: u64 },
    /// Bare SQLite with so many rows in each transaction
    Peer { rows: u64 },
}

/// Changes that became durable, and in how many transactions.
struct Count {
    changes: u64,
    commits: u64,
    took: Duration,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let length = Duration::from_millis(arguments.millis);
    let folder = tempfile::tempdir_in(&arguments.folder)
        .with_context(|| format!("make a folder in {}", arguments.folder.display()))?;
    let count = match arguments.what {
        What::Ours { clients } => ours(folder.path(), clients, length, Writers::Nodes).await?,
        What::Audited { clients } => ours(folder.path(), clients, length, Writers::People).await?,
        What::Peer { rows } => {
            let path = folder.path().to_owned();
            tokio::task::spawn_blocking(move || peer(&path, rows, length)).await??
        }
    };
    #[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^52")]
    let [changes, commits] = [count.changes as f64, count.commits.max(1) as f64];
    let printed = serde_json::json!({
        "per_s": changes / count.took.as_secs_f64(),
        "per_commit": changes / commits,
    });
    println!("{printed}");
    Ok(())
}

/// Who writes.
#[derive(Debug, Clone, Copy)]
enum Writers {
    Nodes,
    People,
}

async fn ours(folder: &Path, clients: u64, length: Duration, writers: Writers) -> anyhow::Result<Count> {
    let store = Sqlite::open(&folder.join("ours.db"))?;
    let (fleet, thread) = writer::start(Box::new(store), Clock::system())?;
    fleet.submit(person()).await?;
    let mut making: Vec<Box<dyn FnMut() -> Command + Send>> = Vec::new();
    let next = Arc::new(AtomicU64::new(0));
    for client in 0..clients {
        making.push(match writers {
            Writers::Nodes => node(&fleet, client).await?,
            Writers::People => {
                let next = Arc::clone(&next);
                Box::new(move || token(next.fetch_add(1, Ordering::Relaxed)))
            }
        });
    }
    let over = Arc::new(AtomicBool::new(false));
    let commits_before = fleet.stats().commits();
    let begun = Instant::now();
    let mut tasks = Vec::new();
    for mut make in making {
        let (fleet, over) = (fleet.clone(), Arc::clone(&over));
        tasks.push(tokio::spawn(async move {
            let mut durable = 0;
            while !over.load(Ordering::Relaxed) {
                fleet.submit(make()).await?;
                durable += 1;
            }
            Ok::<u64, Refused>(durable)
        }));
    }
    tokio::time::sleep(length).await;
    over.store(true, Ordering::Relaxed);
    let mut changes = 0;
    for task in tasks {
        changes += task.await??;
    }
    let took = begun.elapsed();
    let commits = fleet.stats().commits() - commits_before;
    drop(fleet);
    tokio::task::spawn_blocking(|| thread.join()).await??;
    Ok(Count {
        changes,
        commits,
        took,
    })
}

/// A node in session, whose every word is of another kernel.
async fn node(fleet: &Fleet, number: u64) -> anyhow::Result<Box<dyn FnMut() -> Command + Send>> {
    let mut bytes = [1; 16];
    bytes[..8].copy_from_slice(&number.to_be_bytes());
    let node = NodeId::from_slice(&bytes)?;
    let link = fleet
        .open_session(hello(node, LedgerId::from_slice(&bytes)?, number))
        .await?;
    let mut boots = 0u64;
    Ok(Box::new(move || {
        boots += 1;
        Command::Alive {
            node,
            session: link.session,
            sample: None,
            word: None,
            inventory: Some(Box::new(inventory(boots))),
        }
    }))
}

fn hello(node: NodeId, ledger: LedgerId, number: u64) -> Hello {
    Hello {
        node,
        name: format!("node{number}"),
        version: "0.1.0".into(),
        boot_id: "c1bceb1f-6d8e-4f03-bba5-3291cf25d6a8".into(),
        ledger,
        applied: Generation(0),
        last_sequence: Sequence(0),
        first_sequence: None,
        inventory: Some(inventory(0)),
        attempts: Vec::new(),
        complete: true,
    }
}

fn inventory(boots: u64) -> Inventory {
    Inventory {
        topology: None,
        gpus: Vec::new(),
        kernel: format!("6.12.{boots}"),
        systemd: "257".into(),
        os: "Debian 13".into(),
        mode: LendMode::Enforce,
        exclusive_cpus: true,
        missed: Vec::new(),
        line: Amounts::default(),
        line_whole_cpus: 0,
        allow_teams: Vec::new(),
        owner_mode: None,
        ceilings: Vec::new(),
        protected: Vec::new(),
        prove: None,
    }
}

fn person() -> Command {
    Command::AddUser {
        by: "local".into(),
        name: "bench".into(),
        role: Role::Admin,
        unix_account: String::new(),
        team: String::new(),
    }
}

/// Names ascend, as the time-ordered ids of jobs and attempts do.
fn token(number: u64) -> Command {
    let mut secret = [0; 32];
    secret[..8].copy_from_slice(&number.to_be_bytes());
    Command::CreateLoginToken {
        by: "bench".into(),
        token: TokenId(format!("{number:032}")),
        secret,
        user: "bench".into(),
        life: Span::from_secs(600),
    }
}

fn peer(folder: &Path, rows: u64, length: Duration) -> anyhow::Result<Count> {
    let mut connection = Connection::open(folder.join("peer.db"))?;
    connection.execute_batch(
        "PRAGMA locking_mode=EXCLUSIVE; PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;
         CREATE TABLE t (id INTEGER PRIMARY KEY, body BLOB NOT NULL);",
    )?;
    let body = [7u8; 128];
    let begun = Instant::now();
    let mut commits = 0;
    while begun.elapsed() < length {
        let transaction = connection.transaction()?;
        for _ in 0..rows {
            transaction
                .prepare_cached("INSERT INTO t (body) VALUES (?)")?
                .execute([&body])?;
        }
        transaction.commit()?;
        commits += 1;
    }
    Ok(Count {
        changes: commits * rows,
        commits,
        took: begun.elapsed(),
    })
}
