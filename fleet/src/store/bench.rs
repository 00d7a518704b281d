//! The store measured alone: how many changes become durable in a second, against bare SQLite on the same disk.
//!
//! The measured path is the one of fleetd, from a command in the queue to its answer after the sync: one login
//! token is made by each command, which is one row and its line in the record. The peer writes rows of about the
//! same size in transactions of a hundred, which is what group commit can reach at best. Callers interleave the
//! two, since disks differ from minute to minute.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use loadline_model::Span;
use rusqlite::Connection;
use tokio::time::Instant;

use super::{Sqlite, StoreError};
use crate::clock::Clock;
use crate::state::{Command, Refused, TokenId};
use crate::trust::Role;
use crate::writer::{self, StartError};

/// So many rows the peer writes in one transaction.
const PEER_ROWS: u64 = 100;

/// What was measured.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate {
    /// Changes that became durable each second.
    pub per_s: f64,
    /// Changes in one transaction, on average.
    pub per_commit: f64,
}

/// Why nothing was measured.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// The store cannot be opened.
    #[error("the store cannot be opened")]
    Open(#[from] StoreError),
    /// The writer cannot start.
    #[error("the writer cannot start")]
    Start(#[from] StartError),
    /// A change was refused.
    #[error("a change was refused")]
    Refused(#[from] Refused),
    /// A client's task failed.
    #[error("a client failed")]
    Client(#[from] tokio::task::JoinError),
    /// Bare SQLite refused.
    #[error("bare SQLite failed")]
    Peer(#[from] rusqlite::Error),
}

/// So many clients, each waiting for its answer before its next change, for so long. A new store in `folder`.
///
/// # Errors
/// When a change was refused or the store cannot be opened.
pub async fn ours(folder: &Path, clients: u64, length: Duration) -> Result<Rate, BenchError> {
    let store = Sqlite::open(&folder.join("ours.db"))?;
    let (fleet, _thread) = writer::start(Box::new(store), Clock::system())?;
    let (by, name) = ("local".to_owned(), "bench".to_owned());
    let (unix_account, team) = (String::new(), String::new());
    fleet
        .submit(Command::AddUser {
            by,
            name,
            role: Role::Admin,
            unix_account,
            team,
        })
        .await?;
    let (done, next) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let over = Arc::new(AtomicBool::new(false));
    let commits_before = fleet.stats().commits();
    let begun = Instant::now();
    let mut tasks = Vec::new();
    for _ in 0..clients {
        let (fleet, done, over) = (fleet.clone(), Arc::clone(&done), Arc::clone(&over));
        let next = Arc::clone(&next);
        tasks.push(tokio::spawn(async move {
            let mut count = 0u64;
            while !over.load(Ordering::Relaxed) {
                fleet.submit(token(next.fetch_add(1, Ordering::Relaxed))).await?;
                count += 1;
            }
            done.fetch_add(count, Ordering::Relaxed);
            Ok::<(), Refused>(())
        }));
    }
    tokio::time::sleep(length).await;
    over.store(true, Ordering::Relaxed);
    for task in tasks {
        task.await??;
    }
    let commits = fleet.stats().commits() - commits_before;
    Ok(rate(done.load(Ordering::Relaxed), commits, begun.elapsed()))
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

/// Bare SQLite with the same settings: rows of about the same size, a hundred in each transaction.
///
/// # Errors
/// When SQLite fails.
pub fn peer(folder: &Path, length: Duration) -> Result<Rate, BenchError> {
    let mut connection = Connection::open(folder.join("peer.db"))?;
    connection.execute_batch(
        "PRAGMA locking_mode=EXCLUSIVE; PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;
         CREATE TABLE IF NOT EXISTS t (id INTEGER PRIMARY KEY, body BLOB NOT NULL);",
    )?;
    let body = [7u8; 128];
    let begun = Instant::now();
    let mut commits = 0;
    while begun.elapsed() < length {
        let transaction = connection.transaction()?;
        for _ in 0..PEER_ROWS {
            transaction
                .prepare_cached("INSERT INTO t (body) VALUES (?)")?
                .execute([&body])?;
        }
        transaction.commit()?;
        commits += 1;
    }
    Ok(rate(commits * PEER_ROWS, commits, begun.elapsed()))
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a rate for people; counts stay far below 2^52"
)]
fn rate(changes: u64, commits: u64, took: Duration) -> Rate {
    Rate {
        per_s: changes as f64 / took.as_secs_f64(),
        per_commit: changes as f64 / commits.max(1) as f64,
    }
}
