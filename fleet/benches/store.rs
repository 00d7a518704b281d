//! The store alone: how many changes become durable in a second, and how many bare SQLite makes durable.
//!
//! One measurement a call, printed as JSON: `make bench-store` interleaves them, since disks differ from minute to
//! minute, and writes the figures. Our path is the one of fleetd, from a command in the writer's queue to its answer
//! after the sync: each command makes a login token, one row and its line in the record. The peer writes rows of
//! about the same size with the same settings.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context;
use clap::{Parser, Subcommand};
use loadline_fleet::clock::Clock;
use loadline_fleet::state::{Command, Refused, TokenId};
use loadline_fleet::store::Sqlite;
use loadline_fleet::trust::Role;
use loadline_fleet::writer;
use loadline_model::Span;
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
    /// fleetd's writer with so many clients, each waiting for its answer before its next change
    Ours { clients: u64 },
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
        What::Ours { clients } => ours(folder.path(), clients, length).await?,
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

async fn ours(folder: &Path, clients: u64, length: Duration) -> anyhow::Result<Count> {
    let store = Sqlite::open(&folder.join("ours.db"))?;
    let (fleet, thread) = writer::start(Box::new(store), Clock::system())?;
    fleet.submit(person()).await?;
    let next = Arc::new(AtomicU64::new(0));
    let over = Arc::new(AtomicBool::new(false));
    let commits_before = fleet.stats().commits();
    let begun = Instant::now();
    let mut tasks = Vec::new();
    for _ in 0..clients {
        let (fleet, next, over) = (fleet.clone(), Arc::clone(&next), Arc::clone(&over));
        tasks.push(tokio::spawn(async move {
            let mut durable = 0;
            while !over.load(Ordering::Relaxed) {
                fleet.submit(token(next.fetch_add(1, Ordering::Relaxed))).await?;
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
