//! The schema and how it came to be: migrations go forward only, one transaction each.

use std::path::Path;

use rusqlite::Connection;

use crate::store::StoreError;

/// Each takes the schema from its index to the next number. Released ones never change.
const MIGRATIONS: [&str; 5] = [ONE, TWO, THREE, FOUR, FIVE];

/// The schema that this version writes.
pub(super) const NEWEST: i64 = {
    assert!(MIGRATIONS.len() == 5, "count the migrations");
    5
};

/// Ids are 16 bytes, times microseconds UTC. Stages and kinds are the numbers of `row.rs`. Specifications,
/// inventories, ends, sites and receipts are the protobuf messages of `loadline.types.v1`.
const ONE: &str = "
CREATE TABLE meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;
INSERT INTO meta VALUES ('epoch', 0), ('last_number', 0);

CREATE TABLE person (
  name TEXT PRIMARY KEY, role TEXT NOT NULL, unix_account TEXT NOT NULL, team TEXT NOT NULL,
  banned INTEGER NOT NULL, created_at INTEGER NOT NULL) STRICT, WITHOUT ROWID;

CREATE TABLE token (
  id TEXT PRIMARY KEY, secret BLOB NOT NULL, for_node INTEGER NOT NULL, bound_to TEXT NOT NULL,
  pool TEXT NOT NULL, created_by TEXT NOT NULL, created_at INTEGER NOT NULL, expires INTEGER NOT NULL,
  used_at INTEGER, revoked_at INTEGER) STRICT, WITHOUT ROWID;

CREATE TABLE node (
  id BLOB PRIMARY KEY, name TEXT NOT NULL, pool TEXT NOT NULL, standing INTEGER NOT NULL,
  joined_at INTEGER NOT NULL, version TEXT NOT NULL, boot_id TEXT NOT NULL, inventory BLOB)
  STRICT, WITHOUT ROWID;

CREATE TABLE progress (
  node BLOB PRIMARY KEY, generation INTEGER NOT NULL, applied INTEGER NOT NULL, ledger BLOB,
  last_seen INTEGER) STRICT, WITHOUT ROWID;

CREATE TABLE ledger (
  node BLOB NOT NULL, ledger BLOB NOT NULL, sequence INTEGER NOT NULL,
  PRIMARY KEY (node, ledger)) STRICT, WITHOUT ROWID;

CREATE TABLE job (
  id BLOB PRIMARY KEY, number INTEGER NOT NULL, person TEXT NOT NULL, unix_account TEXT NOT NULL,
  team TEXT NOT NULL, spec BLOB NOT NULL, submitted_at INTEGER NOT NULL, started_at INTEGER,
  stage INTEGER NOT NULL, outcome INTEGER, exit_code INTEGER, ended_at INTEGER) STRICT, WITHOUT ROWID;

CREATE TABLE worker (
  job BLOB NOT NULL, worker INTEGER NOT NULL, attempts INTEGER NOT NULL, retries_used INTEGER NOT NULL,
  stage INTEGER NOT NULL, attempt BLOB, exit_code INTEGER,
  PRIMARY KEY (job, worker)) STRICT, WITHOUT ROWID;

CREATE TABLE attempt (
  id BLOB PRIMARY KEY, job BLOB NOT NULL, worker INTEGER NOT NULL, number INTEGER NOT NULL,
  node BLOB NOT NULL, generation INTEGER NOT NULL, assigned_at INTEGER NOT NULL, running_at INTEGER,
  stage INTEGER NOT NULL, stop INTEGER, site BLOB, ended BLOB) STRICT, WITHOUT ROWID;

CREATE TABLE node_order (
  node BLOB NOT NULL, generation INTEGER NOT NULL, epoch INTEGER NOT NULL, issued_at INTEGER NOT NULL,
  attempt BLOB NOT NULL, stop INTEGER, grace INTEGER,
  PRIMARY KEY (node, generation)) STRICT, WITHOUT ROWID;

CREATE TABLE refusal (
  job BLOB NOT NULL, node BLOB NOT NULL, why TEXT NOT NULL,
  PRIMARY KEY (job, node)) STRICT, WITHOUT ROWID;

CREATE TABLE receipt (
  node BLOB NOT NULL, ledger BLOB NOT NULL, sequence INTEGER NOT NULL, body BLOB NOT NULL,
  PRIMARY KEY (node, ledger, sequence)) STRICT, WITHOUT ROWID;

CREATE TABLE sample (
  start INTEGER NOT NULL, node BLOB NOT NULL, resource INTEGER NOT NULL, samples INTEGER NOT NULL,
  capacity INTEGER NOT NULL, reserve INTEGER NOT NULL,
  production_mean INTEGER NOT NULL, production_max INTEGER NOT NULL, production_p99 INTEGER NOT NULL,
  lent_mean INTEGER NOT NULL, lent_max INTEGER NOT NULL, lent_p99 INTEGER NOT NULL,
  now_mean INTEGER NOT NULL, firm_mean INTEGER NOT NULL,
  PRIMARY KEY (start, node, resource)) STRICT, WITHOUT ROWID;

CREATE TABLE event (
  seq INTEGER PRIMARY KEY, at INTEGER NOT NULL, kind TEXT NOT NULL, who TEXT NOT NULL,
  subject TEXT NOT NULL, detail TEXT NOT NULL) STRICT;

CREATE TABLE aside (
  seq INTEGER PRIMARY KEY, table_name TEXT NOT NULL, key TEXT NOT NULL, why TEXT NOT NULL,
  row TEXT NOT NULL) STRICT;
";

/// What operators let nodes do, and what lending has cost. Rows of `cost` belong to those of `sample` with the same
/// beginning.
const TWO: &str = "
CREATE TABLE ceiling (
  node BLOB PRIMARY KEY, mode TEXT NOT NULL, line_per_mille INTEGER NOT NULL, set_by TEXT NOT NULL,
  epoch INTEGER NOT NULL, at INTEGER NOT NULL, generation INTEGER NOT NULL) STRICT, WITHOUT ROWID;

CREATE TABLE counted (
  node BLOB PRIMARY KEY, since TEXT NOT NULL, stalled INTEGER NOT NULL, squeezed INTEGER NOT NULL,
  evictions INTEGER NOT NULL, reaping INTEGER NOT NULL) STRICT, WITHOUT ROWID;

CREATE TABLE cost (
  start INTEGER NOT NULL, node BLOB NOT NULL, stalled INTEGER NOT NULL, squeezed INTEGER NOT NULL,
  evictions INTEGER NOT NULL, reaping INTEGER NOT NULL, lent INTEGER NOT NULL, observed INTEGER NOT NULL,
  PRIMARY KEY (start, node)) STRICT, WITHOUT ROWID;
";

/// The newest test of a node and its last report; `ask` and `body` are messages of `loadline.types.v1`.
const THREE: &str = "
CREATE TABLE prove (
  node BLOB PRIMARY KEY, run BLOB NOT NULL, asked_by TEXT NOT NULL, ask BLOB NOT NULL, at INTEGER NOT NULL,
  stopped_by TEXT, epoch INTEGER NOT NULL, generation INTEGER NOT NULL, stage TEXT NOT NULL,
  sentence TEXT NOT NULL, changed INTEGER NOT NULL) STRICT, WITHOUT ROWID;

CREATE TABLE prove_report (
  node BLOB PRIMARY KEY, run BLOB NOT NULL, asked_by TEXT NOT NULL, at INTEGER NOT NULL, body BLOB NOT NULL) STRICT;
";

/// Teams and who is in them; `quota` is a message of `loadline.types.v1`. Until now a team was a word in `person`.
const FOUR: &str = "
CREATE TABLE team (
  name TEXT PRIMARY KEY, weight INTEGER NOT NULL, quota BLOB NOT NULL, windows TEXT NOT NULL,
  created_at INTEGER NOT NULL) STRICT, WITHOUT ROWID;

CREATE TABLE member (
  team TEXT NOT NULL, person TEXT NOT NULL, PRIMARY KEY (team, person)) STRICT, WITHOUT ROWID;

INSERT INTO team SELECT team, 100, x'', '', min(created_at) FROM person WHERE team <> '' GROUP BY team;
INSERT INTO member SELECT team, name FROM person WHERE team <> '';
";

/// What operators say of nodes, as `key=value` with commas between.
const FIVE: &str = "
ALTER TABLE node ADD COLUMN labels TEXT NOT NULL DEFAULT '';
ALTER TABLE node ADD COLUMN taints TEXT NOT NULL DEFAULT '';
";

/// Brings the schema up to date.
pub(super) fn migrate(connection: &mut Connection, path: &Path) -> Result<(), StoreError> {
    let failed = |what| {
        move |source: rusqlite::Error| StoreError::Database {
            what,
            path: path.to_owned(),
            source: source.into(),
        }
    };
    let read = "read the schema's number";
    let found: i64 = connection
        .pragma_query_value(None, "user_version", |row| row.get(0))
        .map_err(failed(read))?;
    if found > NEWEST {
        return Err(StoreError::Newer {
            path: path.to_owned(),
            found,
            known: NEWEST,
        });
    }
    for (from, migration) in (0i64..).zip(MIGRATIONS).skip_while(|(from, _)| *from < found) {
        let step = (|| {
            let transaction = connection.transaction()?;
            transaction.execute_batch(migration)?;
            transaction.pragma_update(None, "user_version", from + 1)?;
            transaction.commit()
        })();
        step.map_err(failed("bring the schema up to date"))?;
    }
    Ok(())
}
