//! How stages become numbers, where a change's row lies, and how a bad row is moved aside.

use loadline_model::{AttemptPhase, JobOutcome};
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, params_from_iter};

use crate::state::rows::{Standing, TokenFor};
use crate::state::{Change, StopReason};

/// Numbers for the variants of an enum. Written once, never changed.
macro_rules! numbers {
    ($to:ident, $from:ident, $type:ty, $($number:literal = $variant:path),+ $(,)?) => {
        pub(super) const fn $to(value: $type) -> i64 {
            match value {
                $($variant => $number),+
            }
        }

        pub(super) const fn $from(number: i64) -> Option<$type> {
            match number {
                $($number => Some($variant),)+
                _ => None,
            }
        }
    };
}

numbers!(
    standing_number,
    standing_of,
    Standing,
    0 = Standing::Member,
    1 = Standing::Draining,
    2 = Standing::Forgotten,
    3 = Standing::Banned
);
numbers!(
    outcome_number,
    outcome_of,
    JobOutcome,
    0 = JobOutcome::Succeeded,
    1 = JobOutcome::Failed,
    2 = JobOutcome::Cancelled
);
numbers!(
    stop_number,
    stop_of,
    StopReason,
    0 = StopReason::Cancelled,
    1 = StopReason::NodeLost,
    2 = StopReason::Yielded
);
numbers!(
    phase_number,
    phase_of,
    AttemptPhase,
    0 = AttemptPhase::Assigned,
    1 = AttemptPhase::Starting,
    2 = AttemptPhase::Running,
    3 = AttemptPhase::Squeezed,
    4 = AttemptPhase::Stopping,
    5 = AttemptPhase::Ended
);

/// A live attempt has its phase's number, 0 to 4.
pub(super) const ATTEMPT_GIVEN_UP: i64 = 8;
pub(super) const ATTEMPT_ENDED: i64 = 9;

pub(super) const JOB_QUEUED: i64 = 0;
pub(super) const JOB_RUNNING: i64 = 1;
pub(super) const JOB_ENDING: i64 = 2;
pub(super) const JOB_DONE: i64 = 3;

pub(super) const WORKER_WAITING: i64 = 0;
pub(super) const WORKER_ACTIVE: i64 = 1;
pub(super) const WORKER_SUCCEEDED: i64 = 2;
pub(super) const WORKER_FAILED: i64 = 3;
pub(super) const WORKER_DROPPED: i64 = 4;

pub(super) const CPU: i64 = 0;
pub(super) const MEMORY: i64 = 1;

/// The largest that the database holds; no amount or count comes near.
pub(super) fn int(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

pub(super) fn bound_to(whom: &TokenFor) -> (bool, &str, &str) {
    match whom {
        TokenFor::Node { name, pool } => (true, name, pool),
        TokenFor::User(name) => (false, name, ""),
    }
}

/// A row's table and the columns that name it, with their values.
pub(super) type Place = (&'static str, Vec<(&'static str, Value)>);

/// Where the row of a change lies; none for changes that are not one row.
pub(super) fn place(change: &Change) -> Option<Place> {
    let blob = |bytes: &[u8; 16]| Value::Blob(bytes.to_vec());
    Some(match change {
        Change::Job(id, _) => ("job", vec![("id", blob(id.as_bytes()))]),
        Change::Worker(job, worker, _) => (
            "worker",
            vec![
                ("job", blob(job.as_bytes())),
                ("worker", Value::Integer((*worker).into())),
            ],
        ),
        Change::Attempt(id, _) => ("attempt", vec![("id", blob(id.as_bytes()))]),
        Change::Node(id, _) => ("node", vec![("id", blob(id.as_bytes()))]),
        Change::Progress(id, _) => ("progress", vec![("node", blob(id.as_bytes()))]),
        Change::Ceiling(id, _) => ("ceiling", vec![("node", blob(id.as_bytes()))]),
        Change::Prove(id, _) => ("prove", vec![("node", blob(id.as_bytes()))]),
        Change::Report(id, _) => ("prove_report", vec![("node", blob(id.as_bytes()))]),
        Change::Counted(id, _) => ("counted", vec![("node", blob(id.as_bytes()))]),
        Change::Order(node, generation, _) => (
            "node_order",
            vec![
                ("node", blob(node.as_bytes())),
                ("generation", Value::Integer(int(generation.0))),
            ],
        ),
        Change::Ledger(node, ledger, _) => (
            "ledger",
            vec![
                ("node", blob(node.as_bytes())),
                ("ledger", blob(ledger.as_bytes())),
            ],
        ),
        Change::Avoid(job, node, _) => (
            "refusal",
            vec![("job", blob(job.as_bytes())), ("node", blob(node.as_bytes()))],
        ),
        Change::Receipt(node, ledger, sequence, _) => (
            "receipt",
            vec![
                ("node", blob(node.as_bytes())),
                ("ledger", blob(ledger.as_bytes())),
                ("sequence", Value::Integer(int(sequence.0))),
            ],
        ),
        Change::User(name, _) => ("person", vec![("name", Value::Text(name.clone()))]),
        Change::Team(name, _) => ("team", vec![("name", Value::Text(name.clone()))]),
        Change::Member(team, person, _) => (
            "member",
            vec![
                ("team", Value::Text(team.clone())),
                ("person", Value::Text(person.clone())),
            ],
        ),
        Change::Token(id, _) => ("token", vec![("id", Value::Text(id.0.clone()))]),
        Change::Bucket(..) | Change::ForgetBuckets(_) | Change::Log(_) => return None,
        Change::Link(..) | Change::LastBucket(..) | Change::Costs(..) => return None,
    })
}

fn clause(key: &[(&'static str, Value)]) -> (String, Vec<Value>) {
    let names: Vec<String> = key.iter().map(|(name, _)| format!("{name} = ?")).collect();
    (
        names.join(" AND "),
        key.iter().map(|(_, value)| value.clone()).collect(),
    )
}

pub(super) fn delete(connection: &Connection, change: &Change) -> rusqlite::Result<()> {
    let Some((table, key)) = place(change) else {
        return Ok(());
    };
    let (wanted, values) = clause(&key);
    let mut statement = connection.prepare_cached(&format!("DELETE FROM {table} WHERE {wanted}"))?;
    statement.execute(params_from_iter(values)).map(drop)
}

/// Moves the row of a change aside, with the reason.
pub(super) fn set_aside_change(connection: &Connection, change: &Change, why: &str) -> rusqlite::Result<()> {
    match place(change) {
        Some((table, key)) => set_aside(connection, table, &key, why),
        None => Ok(()),
    }
}

/// Moves a row aside: all its columns as SQL literals, so that nothing of it is lost. A job's number is never
/// given again.
pub(super) fn set_aside(
    connection: &Connection,
    table: &str,
    key: &[(&'static str, Value)],
    why: &str,
) -> rusqlite::Result<()> {
    let (wanted, values) = clause(key);
    let mut columns = Vec::new();
    connection.pragma(None, "table_info", table, |row| {
        columns.push(row.get::<_, String>("name")?);
        Ok(())
    })?;
    let literal = |name: &str| format!("'{name}=' || quote({name})");
    let row = columns
        .iter()
        .map(|name| literal(name))
        .collect::<Vec<_>>()
        .join(" || ', ' || ");
    let name = key
        .iter()
        .map(|(name, _)| literal(name))
        .collect::<Vec<_>>()
        .join(" || ', ' || ");
    let sql = format!("SELECT {name}, {row} FROM {table} WHERE {wanted}");
    let found: Option<(String, String)> = connection
        .query_row(&sql, params_from_iter(&values), |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .optional()?;
    let Some((name, row)) = found else { return Ok(()) };
    if table == "job" {
        let kept = "UPDATE meta SET value = max(value, coalesce((SELECT number FROM job WHERE id = ?), 0))
                    WHERE key = 'last_number'";
        connection.execute(kept, params_from_iter(&values))?;
    }
    let insert = "INSERT INTO aside (table_name, key, why, row) VALUES (?, ?, ?, ?)";
    connection.execute(insert, (table, name, why, row))?;
    connection
        .execute(
            &format!("DELETE FROM {table} WHERE {wanted}"),
            params_from_iter(&values),
        )
        .map(drop)
}
