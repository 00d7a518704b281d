//! A node's newest test and its last report. The report is a row of its own: it is large and seldom changes, the test
//! moves on with every round.

use std::sync::Arc;

use loadline_model::{Generation, NodeId, ProveId};
use rusqlite::{Connection, Row, params};

use super::read::{RowError, number, time};
use super::row;
use super::write::run;
use crate::state::rows::{ProveRow, ReportRow};
use crate::state::{Change, ProveStage};
use crate::wire::blob;

pub(super) fn put(connection: &Connection, id: NodeId, test: &ProveRow) -> rusqlite::Result<()> {
    let ProveRow {
        run: name,
        by,
        ask,
        at,
        stopped_by,
        epoch,
        generation,
        stage,
        sentence,
        changed,
    } = test;
    let sql = "INSERT OR REPLACE INTO prove VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
    let values = params![
        id.as_bytes(),
        name.as_bytes(),
        by,
        blob::ask_to_bytes(ask),
        at.0,
        stopped_by,
        row::int(*epoch),
        row::int(generation.0),
        stage.word(),
        sentence,
        changed.0,
    ];
    run(connection, sql, values)
}

pub(super) fn put_report(connection: &Connection, id: NodeId, kept: &ReportRow) -> rusqlite::Result<()> {
    let ReportRow {
        run: name,
        by,
        at,
        report,
    } = kept;
    let sql = "INSERT OR REPLACE INTO prove_report VALUES (?, ?, ?, ?, ?)";
    let body = blob::report_to_bytes(report);
    run(
        connection,
        sql,
        params![id.as_bytes(), name.as_bytes(), by, at.0, body],
    )
}

fn node(row: &Row<'_>) -> Result<NodeId, RowError> {
    let bytes = row.get_ref("node")?.as_blob().map_err(rusqlite::Error::from)?;
    Ok(NodeId::from_slice(bytes)?)
}

fn name(row: &Row<'_>) -> Result<ProveId, RowError> {
    let bytes = row.get_ref("run")?.as_blob().map_err(rusqlite::Error::from)?;
    Ok(ProveId::from_slice(bytes)?)
}

pub(super) fn read(row: &Row<'_>) -> Result<Change, RowError> {
    let (ask, stage): (Vec<u8>, String) = (row.get("ask")?, row.get("stage")?);
    let test = ProveRow {
        run: name(row)?,
        by: row.get("asked_by")?,
        ask: blob::ask_from_bytes(&ask)?,
        at: time(row, "at")?,
        stopped_by: row.get("stopped_by")?,
        epoch: number(row, "epoch")?,
        generation: Generation(number(row, "generation")?),
        stage: ProveStage::from_word(&stage).ok_or(RowError::Stage(stage))?,
        sentence: row.get("sentence")?,
        changed: time(row, "changed")?,
    };
    Ok(Change::Prove(node(row)?, Some(Arc::new(test))))
}

pub(super) fn read_report(row: &Row<'_>) -> Result<Change, RowError> {
    let body: Vec<u8> = row.get("body")?;
    let kept = ReportRow {
        run: name(row)?,
        by: row.get("asked_by")?,
        at: time(row, "at")?,
        report: blob::report_from_bytes(&body)?,
    };
    Ok(Change::Report(node(row)?, Some(Arc::new(kept))))
}
