//! Every row back as the change that puts it. A row that cannot be read is moved aside by name; the rest loads.

use std::sync::Arc;

use loadline_model::{
    AttemptId, AttemptPhase, Generation, JobId, LabelProblem, Labels, LedgerId, NodeId, ParseIdError,
    PerMille, Sequence, Span, WallTime, labels_from_text,
};
use rusqlite::types::Value;
use rusqlite::{Connection, Row};

use super::{prove, row, team};
use crate::state::rows::{
    AttemptRow, AttemptStage, Avoid, CeilingRow, CostRow, JobRow, JobStage, NodeRow, OrderRow, OrderWhat,
    Progress, Submitter, TokenFor, TokenRow, TokenStage, UserRow, Verdict, WorkerRow, WorkerStage,
};
use crate::state::{
    Ceiling, Change, Cost, CostCounts, LendMode, Loaded, QUARTER, SetAside, Stop, TokenId, quarter,
};
use crate::trust::Role;
use crate::wire::blob::{self, BlobError};

/// Why one row cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum RowError {
    #[error("a column has the wrong type or is missing")]
    Column(#[from] rusqlite::Error),
    #[error("{0}")]
    Id(#[from] ParseIdError),
    #[error("{0}")]
    Blob(#[from] BlobError),
    #[error("`{column}` cannot be {number}")]
    Number { column: &'static str, number: i64 },
    #[error("`{0}` is missing")]
    Missing(&'static str),
    #[error("{0}")]
    Label(#[from] LabelProblem),
    #[error("`role` cannot be `{0}`")]
    Role(String),
    #[error("`mode` cannot be `{0}`")]
    Mode(String),
    #[error("`stage` cannot be `{0}`")]
    Stage(String),
    #[error("`windows` cannot be `{0}`")]
    Windows(String),
    #[error("a secret is 32 bytes")]
    Secret,
}

type Decode = fn(&Row<'_>) -> Result<Change, RowError>;

/// Tables in the order in which rows refer to each other, with the columns that name a row.
const TABLES: [(&str, &[&str], Decode); 17] = [
    ("person", &["name"], person),
    ("team", &["name"], team::read),
    ("member", &["team", "person"], team::read_member),
    ("token", &["id"], token),
    ("node", &["id"], node),
    ("progress", &["node"], progress),
    ("ceiling", &["node"], ceiling),
    ("counted", &["node"], counted),
    ("prove", &["node"], prove::read),
    ("prove_report", &["node"], prove::read_report),
    ("ledger", &["node", "ledger"], ledger),
    ("job", &["id"], job),
    ("attempt", &["id"], attempt),
    ("worker", &["job", "worker"], worker),
    ("node_order", &["node", "generation"], order),
    ("refusal", &["job", "node"], refusal),
    ("receipt", &["node", "ledger", "sequence"], receipt),
];

/// Reads everything and begins a new term.
pub(super) fn load(connection: &mut Connection, note: String) -> rusqlite::Result<Loaded> {
    let transaction = connection.transaction()?;
    let mut loaded = Loaded {
        note,
        ..Loaded::default()
    };
    for (table, key, decode) in TABLES {
        let mut bad = Vec::new();
        let mut statement = transaction.prepare(&format!("SELECT * FROM {table}"))?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            match decode(row) {
                Ok(mut change) => {
                    loaded.shared.of_change(&mut change);
                    loaded.rows.push(change);
                }
                Err(error) => bad.push((values(row, key)?, error.to_string())),
            }
        }
        for (key, why) in bad {
            row::set_aside(&transaction, table, &key, &why)?;
            let name: Vec<String> = key
                .iter()
                .map(|(name, value)| format!("{name}={}", shown(value)))
                .collect();
            loaded.set_aside.push(SetAside {
                row: format!("{table} {}", name.join(" ")),
                why,
            });
        }
    }
    last_buckets(&transaction, &mut loaded)?;
    costs(&transaction, &mut loaded)?;
    transaction.execute("UPDATE meta SET value = value + 1 WHERE key = 'epoch'", [])?;
    let meta = |key: &str| {
        transaction.query_row("SELECT value FROM meta WHERE key = ?", [key], |row| {
            row.get::<_, i64>(0)
        })
    };
    loaded.epoch = meta("epoch")?.try_into().unwrap_or(0);
    loaded.last_number = meta("last_number")?.try_into().unwrap_or(0);
    transaction.commit()?;
    Ok(loaded)
}

fn values(row: &Row<'_>, key: &[&'static str]) -> rusqlite::Result<Vec<(&'static str, Value)>> {
    key.iter()
        .map(|name| Ok((*name, row.get::<_, Value>(*name)?)))
        .collect()
}

fn shown(value: &Value) -> String {
    match value {
        Value::Null => "NULL".into(),
        Value::Integer(number) => number.to_string(),
        Value::Real(number) => number.to_string(),
        Value::Text(text) => text.clone(),
        Value::Blob(bytes) => data_encoding::HEXLOWER.encode(bytes),
    }
}

fn last_buckets(connection: &Connection, loaded: &mut Loaded) -> rusqlite::Result<()> {
    let mut statement = connection.prepare("SELECT node, max(start) FROM sample GROUP BY node")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let bytes: Vec<u8> = row.get(0)?;
        // A bucket of nobody is left where it is: it is forgotten after eight days like the others.
        if let Ok(node) = NodeId::from_slice(&bytes) {
            loaded
                .rows
                .push(Change::LastBucket(node, Some(WallTime(row.get(1)?))));
        }
    }
    Ok(())
}

/// What lending cost, by quarters of days.
fn costs(connection: &Connection, loaded: &mut Loaded) -> rusqlite::Result<()> {
    let sql = "SELECT node, min(start) AS start, sum(stalled) AS stalled, sum(squeezed) AS squeezed,
               sum(evictions) AS evictions, sum(reaping) AS reaping, sum(lent) AS lent, sum(observed) AS observed
               FROM cost GROUP BY node, start / ?";
    let mut statement = connection.prepare(sql)?;
    let mut rows = statement.query([row::int(QUARTER.0)])?;
    while let Some(row) = rows.next()? {
        let bytes: Vec<u8> = row.get("node")?;
        // Of nobody, or not to be understood: forgotten after eight days like the others.
        let (Ok(node), Ok(cost)) = (NodeId::from_slice(&bytes), cost(row)) else {
            continue;
        };
        let amounts = (number(row, "lent"), number(row, "observed"));
        let (Ok(lent), Ok(observed)) = amounts else {
            continue;
        };
        let row_of = CostRow {
            cost,
            lent: Span(lent),
            observed: Span(observed),
        };
        let start = quarter(WallTime(row.get("start")?));
        loaded.rows.push(Change::Costs(node, start, Some(row_of)));
    }
    Ok(())
}

/// A column that holds an id.
macro_rules! id {
    ($row:expr, $column:literal, $type:ty) => {
        <$type>::from_slice($row.get_ref($column)?.as_blob().map_err(rusqlite::Error::from)?)?
    };
}

pub(super) fn number(row: &Row<'_>, column: &'static str) -> Result<u64, RowError> {
    let number: i64 = row.get(column)?;
    u64::try_from(number).map_err(|_| RowError::Number { column, number })
}

pub(super) fn small(row: &Row<'_>, column: &'static str) -> Result<u32, RowError> {
    let number: i64 = row.get(column)?;
    u32::try_from(number).map_err(|_| RowError::Number { column, number })
}

fn code(row: &Row<'_>) -> Result<u8, RowError> {
    let number: i64 = row
        .get::<_, Option<i64>>("exit_code")?
        .ok_or(RowError::Missing("exit_code"))?;
    u8::try_from(number).map_err(|_| RowError::Number {
        column: "exit_code",
        number,
    })
}

pub(super) fn time(row: &Row<'_>, column: &str) -> Result<WallTime, RowError> {
    Ok(WallTime(row.get(column)?))
}

fn maybe_time(row: &Row<'_>, column: &str) -> Result<Option<WallTime>, RowError> {
    Ok(row.get::<_, Option<i64>>(column)?.map(WallTime))
}

fn coded<T>(row: &Row<'_>, column: &'static str, of: fn(i64) -> Option<T>) -> Result<T, RowError> {
    let number: i64 = row
        .get::<_, Option<i64>>(column)?
        .ok_or(RowError::Missing(column))?;
    of(number).ok_or(RowError::Number { column, number })
}

pub(super) fn bytes(row: &Row<'_>, column: &str) -> Result<Option<Vec<u8>>, RowError> {
    Ok(row.get(column)?)
}

fn person(row: &Row<'_>) -> Result<Change, RowError> {
    let name: String = row.get("name")?;
    let role: String = row.get("role")?;
    let user = UserRow {
        name: name.clone(),
        role: Role::from_word(&role).ok_or(RowError::Role(role))?,
        unix_account: row.get("unix_account")?,
        team: row.get("team")?,
        banned: row.get("banned")?,
        created_at: time(row, "created_at")?,
    };
    Ok(Change::User(name, Some(Arc::new(user))))
}

fn token(row: &Row<'_>) -> Result<Change, RowError> {
    let id = TokenId(row.get("id")?);
    let secret: Vec<u8> = row.get("secret")?;
    let bound_to: String = row.get("bound_to")?;
    let whom = if row.get("for_node")? {
        TokenFor::Node {
            name: bound_to,
            pool: row.get("pool")?,
        }
    } else {
        TokenFor::User(bound_to)
    };
    let stage = match (maybe_time(row, "used_at")?, maybe_time(row, "revoked_at")?) {
        (Some(at), _) => TokenStage::Used(at),
        (None, Some(at)) => TokenStage::Revoked(at),
        (None, None) => TokenStage::Open,
    };
    let token = TokenRow {
        id: id.clone(),
        secret: secret.try_into().map_err(|_| RowError::Secret)?,
        whom,
        created_by: row.get("created_by")?,
        created_at: time(row, "created_at")?,
        expires: time(row, "expires")?,
        stage,
    };
    Ok(Change::Token(id, Some(Arc::new(token))))
}

fn node(row: &Row<'_>) -> Result<Change, RowError> {
    let id = id!(row, "id", NodeId);
    let inventory = bytes(row, "inventory")?
        .map(|bytes| blob::inventory_from_bytes(&bytes))
        .transpose()?;
    let node = NodeRow {
        id,
        name: row.get("name")?,
        pool: row.get("pool")?,
        standing: coded(row, "standing", row::standing_of)?,
        joined_at: time(row, "joined_at")?,
        version: row.get("version")?,
        boot_id: row.get("boot_id")?,
        inventory: inventory.map(Arc::new),
        labels: labels(row, "labels")?,
        taints: labels(row, "taints")?,
    };
    Ok(Change::Node(id, Some(Arc::new(node))))
}

fn labels(row: &Row<'_>, column: &str) -> Result<Labels, RowError> {
    let text: String = row.get(column)?;
    Ok(labels_from_text(&text)?)
}

fn progress(row: &Row<'_>) -> Result<Change, RowError> {
    let ledger = bytes(row, "ledger")?
        .map(|bytes| LedgerId::from_slice(&bytes))
        .transpose()?;
    let progress = Progress {
        generation: Generation(number(row, "generation")?),
        applied: Generation(number(row, "applied")?),
        ledger,
        last_seen: maybe_time(row, "last_seen")?,
    };
    Ok(Change::Progress(id!(row, "node", NodeId), Some(progress)))
}

fn cost(row: &Row<'_>) -> Result<Cost, RowError> {
    Ok(Cost {
        stalled: Span(number(row, "stalled")?),
        squeezed: Span(number(row, "squeezed")?),
        evictions: number(row, "evictions")?,
        reaping: Span(number(row, "reaping")?),
    })
}

fn counted(row: &Row<'_>) -> Result<Change, RowError> {
    let counts = CostCounts {
        since: row.get("since")?,
        cost: cost(row)?,
    };
    Ok(Change::Counted(id!(row, "node", NodeId), Some(Arc::new(counts))))
}

fn ceiling(row: &Row<'_>) -> Result<Change, RowError> {
    let mode: String = row.get("mode")?;
    let line: i64 = row.get("line_per_mille")?;
    let share = u16::try_from(line).map(PerMille).ok();
    let column = "line_per_mille";
    let ceiling = Ceiling {
        mode: LendMode::from_word(&mode).ok_or(RowError::Mode(mode))?,
        line: share
            .filter(|share| *share <= PerMille::ONE)
            .ok_or(RowError::Number { column, number: line })?,
        by: row.get("set_by")?,
    };
    let row_of = CeilingRow {
        ceiling,
        epoch: number(row, "epoch")?,
        at: time(row, "at")?,
        generation: Generation(number(row, "generation")?),
    };
    Ok(Change::Ceiling(id!(row, "node", NodeId), Some(Arc::new(row_of))))
}

fn ledger(row: &Row<'_>) -> Result<Change, RowError> {
    let sequence = Sequence(number(row, "sequence")?);
    Ok(Change::Ledger(
        id!(row, "node", NodeId),
        id!(row, "ledger", LedgerId),
        Some(sequence),
    ))
}

fn job(row: &Row<'_>) -> Result<Change, RowError> {
    let id = id!(row, "id", JobId);
    let verdict = || -> Result<Verdict, RowError> {
        Ok(Verdict {
            outcome: coded(row, "outcome", row::outcome_of)?,
            exit_code: code(row)?,
        })
    };
    let stage = match row.get("stage")? {
        row::JOB_QUEUED => JobStage::Queued,
        row::JOB_RUNNING => JobStage::Running,
        row::JOB_ENDING => JobStage::Ending(verdict()?),
        row::JOB_DONE => {
            let at = maybe_time(row, "ended_at")?.ok_or(RowError::Missing("ended_at"))?;
            JobStage::Done(verdict()?, at)
        }
        number => {
            return Err(RowError::Number {
                column: "stage",
                number,
            });
        }
    };
    let spec = bytes(row, "spec")?.ok_or(RowError::Missing("spec"))?;
    let job = JobRow {
        id,
        number: number(row, "number")?,
        submitter: Arc::new(Submitter {
            user: row.get("person")?,
            unix_account: row.get("unix_account")?,
            team: row.get("team")?,
        }),
        spec: blob::spec_from_bytes(&spec)?,
        submitted_at: time(row, "submitted_at")?,
        started_at: maybe_time(row, "started_at")?,
        stage,
    };
    Ok(Change::Job(id, Some(Arc::new(job))))
}

fn worker(row: &Row<'_>) -> Result<Change, RowError> {
    let stage = match row.get("stage")? {
        row::WORKER_WAITING => WorkerStage::Waiting,
        row::WORKER_ACTIVE => WorkerStage::Active(id!(row, "attempt", AttemptId)),
        row::WORKER_SUCCEEDED => WorkerStage::Succeeded,
        row::WORKER_FAILED => WorkerStage::Failed(code(row)?),
        row::WORKER_DROPPED => WorkerStage::Dropped,
        number => {
            return Err(RowError::Number {
                column: "stage",
                number,
            });
        }
    };
    let worker = WorkerRow {
        attempts: small(row, "attempts")?,
        retries_used: small(row, "retries_used")?,
        stage,
    };
    Ok(Change::Worker(
        id!(row, "job", JobId),
        small(row, "worker")?,
        Some(worker),
    ))
}

fn attempt(row: &Row<'_>) -> Result<Change, RowError> {
    let id = id!(row, "id", AttemptId);
    let ended = || -> Result<_, RowError> {
        let bytes = bytes(row, "ended")?.ok_or(RowError::Missing("ended"))?;
        Ok(Arc::new(blob::ended_from_bytes(&bytes)?))
    };
    let live = |number| row::phase_of(number).filter(|phase| *phase != AttemptPhase::Ended);
    let stage = match row.get("stage")? {
        row::ATTEMPT_GIVEN_UP => AttemptStage::GivenUp(ended()?),
        row::ATTEMPT_ENDED => AttemptStage::Ended(ended()?),
        number => AttemptStage::Live(live(number).ok_or(RowError::Number {
            column: "stage",
            number,
        })?),
    };
    let stop = match row.get::<_, Option<i64>>("stop")? {
        None => None,
        Some(_) => Some(coded(row, "stop", row::stop_of)?),
    };
    let attempt = AttemptRow {
        id,
        job: id!(row, "job", JobId),
        worker: small(row, "worker")?,
        number: small(row, "number")?,
        node: id!(row, "node", NodeId),
        generation: Generation(number(row, "generation")?),
        assigned_at: time(row, "assigned_at")?,
        running_at: maybe_time(row, "running_at")?,
        site: bytes(row, "site")?
            .map(|bytes| blob::site_from_bytes(&bytes).map(Arc::new))
            .transpose()?,
        stage,
        stop,
    };
    Ok(Change::Attempt(id, Some(Arc::new(attempt))))
}

fn order(row: &Row<'_>) -> Result<Change, RowError> {
    let what = match row.get::<_, Option<i64>>("stop")? {
        None => OrderWhat::Start,
        Some(_) => OrderWhat::Stop(Stop {
            why: coded(row, "stop", row::stop_of)?,
            grace: Span(number(row, "grace")?),
        }),
    };
    let order = OrderRow {
        epoch: number(row, "epoch")?,
        issued_at: time(row, "issued_at")?,
        attempt: id!(row, "attempt", AttemptId),
        what,
    };
    Ok(Change::Order(
        id!(row, "node", NodeId),
        Generation(number(row, "generation")?),
        Some(order),
    ))
}

fn refusal(row: &Row<'_>) -> Result<Change, RowError> {
    let avoid = Avoid {
        until: None,
        why: row.get("why")?,
    };
    Ok(Change::Avoid(
        id!(row, "job", JobId),
        id!(row, "node", NodeId),
        Some(avoid),
    ))
}

fn receipt(row: &Row<'_>) -> Result<Change, RowError> {
    let body = bytes(row, "body")?.ok_or(RowError::Missing("body"))?;
    Ok(Change::Receipt(
        id!(row, "node", NodeId),
        id!(row, "ledger", LedgerId),
        Sequence(number(row, "sequence")?),
        Some(Arc::new(blob::receipt_from_bytes(&body)?)),
    ))
}
