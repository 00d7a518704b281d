//! Teams and who is in them.

use std::sync::Arc;

use rusqlite::{Connection, Result, Row, params};

use super::read::{RowError, bytes, small, time};
use super::write::run;
use crate::state::Change;
use crate::state::rows::TeamRow;
use crate::wire::blob;

pub(super) fn put(connection: &Connection, team: &TeamRow) -> Result<()> {
    let windows = team.windows_text();
    let TeamRow {
        name,
        weight,
        quota,
        windows: _,
        created_at,
    } = team;
    let quota = blob::quota_to_bytes(quota);
    let values = params![name, weight, quota, windows, created_at.0];
    run(
        connection,
        "INSERT OR REPLACE INTO team VALUES (?, ?, ?, ?, ?)",
        values,
    )
}

pub(super) fn put_member(connection: &Connection, team: &str, person: &str) -> Result<()> {
    let sql = "INSERT OR REPLACE INTO member VALUES (?, ?)";
    run(connection, sql, params![team, person])
}

pub(super) fn read(row: &Row<'_>) -> Result<Change, RowError> {
    let name: String = row.get("name")?;
    let windows: String = row.get("windows")?;
    let quota = bytes(row, "quota")?.ok_or(RowError::Missing("quota"))?;
    let team = TeamRow {
        name: name.clone(),
        weight: small(row, "weight")?,
        quota: blob::quota_from_bytes(&quota)?,
        windows: TeamRow::read_windows(&windows).ok_or(RowError::Windows(windows))?,
        created_at: time(row, "created_at")?,
    };
    Ok(Change::Team(name, Some(Arc::new(team))))
}

pub(super) fn read_member(row: &Row<'_>) -> Result<Change, RowError> {
    Ok(Change::Member(row.get("team")?, row.get("person")?, Some(())))
}
