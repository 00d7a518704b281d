//! Each change as the statements that keep it.

use loadline_model::{AttemptId, JobId, NodeId, WallTime, labels_text};
use rusqlite::{Connection, Result, params};

use super::{prove, row, team};
use crate::state::rows::{
    AttemptRow, AttemptStage, BucketRow, CeilingRow, CostRow, JobRow, JobStage, LogRow, NodeRow, OrderRow,
    OrderWhat, Progress, ResourceBucket, TokenRow, TokenStage, UserRow, WorkerRow, WorkerStage,
};
use crate::state::{Change, Cost, CostCounts};
use crate::wire::blob;

/// Keeps one change.
pub(super) fn put(connection: &Connection, change: &Change) -> Result<()> {
    if !change.is_durable() {
        return Ok(());
    }
    match change {
        Change::Job(_, Some(row)) => job(connection, row),
        Change::Worker(job, index, Some(row)) => worker(connection, *job, *index, row),
        Change::Attempt(_, Some(row)) => attempt(connection, row),
        Change::Node(_, Some(row)) => node(connection, row),
        Change::Progress(id, Some(row)) => progress(connection, *id, row),
        Change::Order(id, generation, Some(row)) => order(connection, *id, row::int(generation.0), row),
        Change::Ceiling(id, Some(row)) => ceiling(connection, *id, row),
        Change::Prove(id, Some(row)) => prove::put(connection, *id, row),
        Change::Report(id, Some(row)) => prove::put_report(connection, *id, row),
        Change::Counted(id, Some(row)) => counted(connection, *id, row),
        Change::Ledger(id, ledger, Some(sequence)) => {
            let sql = "INSERT OR REPLACE INTO ledger VALUES (?, ?, ?)";
            let values = params![id.as_bytes(), ledger.as_bytes(), row::int(sequence.0)];
            run(connection, sql, values)
        }
        Change::Avoid(job, id, Some(avoid)) => {
            let sql = "INSERT OR REPLACE INTO refusal VALUES (?, ?, ?)";
            run(connection, sql, params![job.as_bytes(), id.as_bytes(), avoid.why])
        }
        Change::Receipt(id, ledger, sequence, Some(receipt)) => {
            let sql = "INSERT OR REPLACE INTO receipt VALUES (?, ?, ?, ?)";
            let body = blob::receipt_to_bytes(receipt);
            run(
                connection,
                sql,
                params![id.as_bytes(), ledger.as_bytes(), row::int(sequence.0), body],
            )
        }
        Change::User(_, Some(row)) => person(connection, row),
        Change::Team(_, Some(row)) => team::put(connection, row),
        Change::Member(team, person, Some(())) => team::put_member(connection, team, person),
        Change::Token(_, Some(row)) => token(connection, row),
        Change::Bucket(id, start, row) => bucket(connection, *id, *start, row),
        Change::ForgetBuckets(before) => {
            run(connection, "DELETE FROM cost WHERE start < ?", params![before.0])?;
            run(
                connection,
                "DELETE FROM sample WHERE start < ?",
                params![before.0],
            )
        }
        Change::Log(row) => log(connection, row),
        Change::Job(_, None)
        | Change::Worker(_, _, None)
        | Change::Attempt(_, None)
        | Change::Node(_, None)
        | Change::Progress(_, None)
        | Change::Order(_, _, None)
        | Change::Ceiling(_, None)
        | Change::Counted(_, None)
        | Change::Prove(_, None)
        | Change::Report(_, None)
        | Change::Ledger(_, _, None)
        | Change::Avoid(_, _, None)
        | Change::Receipt(_, _, _, None)
        | Change::User(_, None)
        | Change::Team(_, None)
        | Change::Member(_, _, None)
        | Change::Token(_, None) => row::delete(connection, change),
        Change::Link(..) | Change::LastBucket(..) | Change::Costs(..) => Ok(()),
    }
}

pub(super) fn run(connection: &Connection, sql: &str, values: impl rusqlite::Params) -> Result<()> {
    connection.prepare_cached(sql)?.execute(values).map(drop)
}

/// The specification never changes, and may be long: it is written once.
fn job(connection: &Connection, job: &JobRow) -> Result<()> {
    let JobRow {
        id,
        number,
        submitter,
        spec,
        submitted_at,
        started_at,
        stage,
    } = job;
    let (stage, verdict, ended_at) = match stage {
        JobStage::Queued => (row::JOB_QUEUED, None, None),
        JobStage::Running => (row::JOB_RUNNING, None, None),
        JobStage::Ending(verdict) => (row::JOB_ENDING, Some(verdict), None),
        JobStage::Done(verdict, at) => (row::JOB_DONE, Some(verdict), Some(at.0)),
    };
    let outcome = verdict.map(|verdict| row::outcome_number(verdict.outcome));
    let exit_code = verdict.map(|verdict| verdict.exit_code);
    let started_at = started_at.map(|at| at.0);
    let update =
        "UPDATE job SET started_at = ?, stage = ?, outcome = ?, exit_code = ?, ended_at = ? WHERE id = ?";
    let values = params![started_at, stage, outcome, exit_code, ended_at, id.as_bytes()];
    if connection.prepare_cached(update)?.execute(values)? > 0 {
        return Ok(());
    }
    let insert = "INSERT INTO job VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
    let values = params![
        id.as_bytes(),
        row::int(*number),
        submitter.user,
        submitter.unix_account,
        submitter.team,
        blob::spec_to_bytes(spec),
        submitted_at.0,
        started_at,
        stage,
        outcome,
        exit_code,
        ended_at
    ];
    run(connection, insert, values)
}

fn worker(connection: &Connection, job: JobId, index: u32, worker: &WorkerRow) -> Result<()> {
    let WorkerRow {
        attempts,
        retries_used,
        stage,
    } = worker;
    let (stage, attempt, exit_code): (i64, Option<&AttemptId>, Option<u8>) = match stage {
        WorkerStage::Waiting => (row::WORKER_WAITING, None, None),
        WorkerStage::Active(attempt) => (row::WORKER_ACTIVE, Some(attempt), None),
        WorkerStage::Succeeded => (row::WORKER_SUCCEEDED, None, None),
        WorkerStage::Failed(code) => (row::WORKER_FAILED, None, Some(*code)),
        WorkerStage::Dropped => (row::WORKER_DROPPED, None, None),
    };
    let sql = "INSERT OR REPLACE INTO worker VALUES (?, ?, ?, ?, ?, ?, ?)";
    let attempt = attempt.map(AttemptId::as_bytes);
    run(
        connection,
        sql,
        params![
            job.as_bytes(),
            index,
            attempts,
            retries_used,
            stage,
            attempt,
            exit_code
        ],
    )
}

fn attempt(connection: &Connection, attempt: &AttemptRow) -> Result<()> {
    let AttemptRow {
        id,
        job,
        worker,
        number,
        node,
        generation,
        assigned_at,
        running_at,
        site,
        stage,
        stop,
    } = attempt;
    let (stage, ended) = match stage {
        AttemptStage::Live(phase) => (row::phase_number(*phase), None),
        AttemptStage::GivenUp(ended) => (row::ATTEMPT_GIVEN_UP, Some(ended)),
        AttemptStage::Ended(ended) => (row::ATTEMPT_ENDED, Some(ended)),
    };
    let sql = "INSERT OR REPLACE INTO attempt VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
    let values = params![
        id.as_bytes(),
        job.as_bytes(),
        worker,
        number,
        node.as_bytes(),
        row::int(generation.0),
        assigned_at.0,
        running_at.map(|at| at.0),
        stage,
        stop.map(row::stop_number),
        site.as_deref().map(blob::site_to_bytes),
        ended.map(|ended| blob::ended_to_bytes(ended))
    ];
    run(connection, sql, values)
}

fn node(connection: &Connection, node: &NodeRow) -> Result<()> {
    let NodeRow {
        id,
        name,
        pool,
        standing,
        joined_at,
        version,
        boot_id,
        inventory,
        labels,
        taints,
    } = node;
    let sql = "INSERT OR REPLACE INTO node VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
    let inventory = inventory.as_deref().map(blob::inventory_to_bytes);
    let standing = row::standing_number(*standing);
    run(
        connection,
        sql,
        params![
            id.as_bytes(),
            name,
            pool,
            standing,
            joined_at.0,
            version,
            boot_id,
            inventory,
            labels_text(labels),
            labels_text(taints)
        ],
    )
}

fn progress(connection: &Connection, id: NodeId, progress: &Progress) -> Result<()> {
    let Progress {
        generation,
        applied,
        ledger,
        last_seen,
    } = progress;
    let sql = "INSERT OR REPLACE INTO progress VALUES (?, ?, ?, ?, ?)";
    let ledger = ledger.as_ref().map(loadline_model::LedgerId::as_bytes);
    let last_seen = last_seen.map(|at| at.0);
    let values = params![
        id.as_bytes(),
        row::int(generation.0),
        row::int(applied.0),
        ledger,
        last_seen
    ];
    run(connection, sql, values)
}

fn order(connection: &Connection, id: NodeId, generation: i64, order: &OrderRow) -> Result<()> {
    let OrderRow {
        epoch,
        issued_at,
        attempt,
        what,
    } = order;
    let (stop, grace) = match what {
        OrderWhat::Start => (None, None),
        OrderWhat::Stop(stop) => (Some(row::stop_number(stop.why)), Some(row::int(stop.grace.0))),
    };
    let sql = "INSERT OR REPLACE INTO node_order VALUES (?, ?, ?, ?, ?, ?, ?)";
    let epoch = row::int(*epoch);
    let values = params![
        id.as_bytes(),
        generation,
        epoch,
        issued_at.0,
        attempt.as_bytes(),
        stop,
        grace
    ];
    run(connection, sql, values)
}

fn ceiling(connection: &Connection, id: NodeId, row: &CeilingRow) -> Result<()> {
    let CeilingRow {
        ceiling,
        epoch,
        at,
        generation,
    } = row;
    let sql = "INSERT OR REPLACE INTO ceiling VALUES (?, ?, ?, ?, ?, ?, ?)";
    let values = params![
        id.as_bytes(),
        ceiling.mode.word(),
        ceiling.line.0,
        ceiling.by,
        row::int(*epoch),
        at.0,
        row::int(generation.0)
    ];
    run(connection, sql, values)
}

fn counted(connection: &Connection, id: NodeId, row: &CostCounts) -> Result<()> {
    let CostCounts { since, cost } = row;
    let Cost {
        stalled,
        squeezed,
        evictions,
        reaping,
    } = cost;
    let sql = "INSERT OR REPLACE INTO counted VALUES (?, ?, ?, ?, ?, ?)";
    let values = params![
        id.as_bytes(),
        since,
        row::int(stalled.0),
        row::int(squeezed.0),
        row::int(*evictions),
        row::int(reaping.0)
    ];
    run(connection, sql, values)
}

fn costs(connection: &Connection, id: NodeId, start: WallTime, row: &CostRow) -> Result<()> {
    let CostRow { cost, lent, observed } = row;
    let Cost {
        stalled,
        squeezed,
        evictions,
        reaping,
    } = cost;
    let sql = "INSERT OR REPLACE INTO cost VALUES (?, ?, ?, ?, ?, ?, ?, ?)";
    let values = params![
        start.0,
        id.as_bytes(),
        row::int(stalled.0),
        row::int(squeezed.0),
        row::int(*evictions),
        row::int(reaping.0),
        row::int(lent.0),
        row::int(observed.0)
    ];
    run(connection, sql, values)
}

fn person(connection: &Connection, person: &UserRow) -> Result<()> {
    let UserRow {
        name,
        role,
        unix_account,
        team,
        banned,
        created_at,
    } = person;
    let sql = "INSERT OR REPLACE INTO person VALUES (?, ?, ?, ?, ?, ?)";
    run(
        connection,
        sql,
        params![name, role.word(), unix_account, team, banned, created_at.0],
    )
}

fn token(connection: &Connection, token: &TokenRow) -> Result<()> {
    let TokenRow {
        id,
        secret,
        whom,
        created_by,
        created_at,
        expires,
        stage,
    } = token;
    let (for_node, bound_to, pool) = row::bound_to(whom);
    let (used_at, revoked_at) = match stage {
        TokenStage::Open => (None, None),
        TokenStage::Used(at) => (Some(at.0), None),
        TokenStage::Revoked(at) => (None, Some(at.0)),
    };
    let sql = "INSERT OR REPLACE INTO token VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
    let values = params![
        id.0,
        secret,
        for_node,
        bound_to,
        pool,
        created_by,
        created_at.0,
        expires.0,
        used_at,
        revoked_at
    ];
    run(connection, sql, values)
}

fn bucket(connection: &Connection, id: NodeId, start: WallTime, bucket: &BucketRow) -> Result<()> {
    let BucketRow {
        samples,
        cpu,
        memory,
        cost,
    } = bucket;
    costs(connection, id, start, cost)?;
    for (number, resource) in [(row::CPU, cpu), (row::MEMORY, memory)] {
        let ResourceBucket {
            capacity,
            reserve,
            production,
            lent,
            now_mean,
            firm_mean,
        } = resource;
        let sql = "INSERT OR REPLACE INTO sample VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
        let values = params![
            start.0,
            id.as_bytes(),
            number,
            samples,
            row::int(*capacity),
            row::int(*reserve),
            row::int(production.mean),
            row::int(production.max),
            row::int(production.p99),
            row::int(lent.mean),
            row::int(lent.max),
            row::int(lent.p99),
            row::int(*now_mean),
            row::int(*firm_mean)
        ];
        run(connection, sql, values)?;
    }
    Ok(())
}

fn log(connection: &Connection, log: &LogRow) -> Result<()> {
    let LogRow {
        at,
        kind,
        who,
        subject,
        detail,
    } = log;
    let sql = "INSERT INTO event (at, kind, who, subject, detail) VALUES (?, ?, ?, ?, ?)";
    run(connection, sql, params![at.0, kind, who, subject, detail])
}
