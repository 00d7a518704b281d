//! The ledger's tables, and how an older ledger becomes a current one. Forward only.

use rusqlite::Connection;

/// One script a version, applied in order; a released one is never changed.
const MIGRATIONS: [&str; 2] = [
    "
    CREATE TABLE identity (one INTEGER PRIMARY KEY CHECK (one = 1), ledger_id BLOB NOT NULL) STRICT;
    CREATE TABLE counter (key TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT;
    CREATE TABLE attempt (
        id BLOB PRIMARY KEY,
        ended_at_us INTEGER,
        order_bytes BLOB,
        state TEXT NOT NULL
    ) STRICT;
    CREATE TABLE event (sequence INTEGER PRIMARY KEY, body BLOB NOT NULL) STRICT;
    CREATE TABLE set_aside (
        id INTEGER PRIMARY KEY,
        source TEXT NOT NULL,
        key BLOB NOT NULL,
        body BLOB NOT NULL,
        why TEXT NOT NULL,
        at_us INTEGER NOT NULL
    ) STRICT;
",
    "
    CREATE TABLE ceiling (
        setter TEXT PRIMARY KEY,
        mode TEXT NOT NULL,
        line_per_mille INTEGER NOT NULL,
        set_by TEXT NOT NULL,
        at_us INTEGER NOT NULL
    ) STRICT;
",
];

/// The newest schema this version knows.
pub(super) const NEWEST: i64 = 2;
const _: () = assert!(MIGRATIONS.len() == 2, "NEWEST counts the migrations");

/// The schema of an open file.
pub(super) fn found(connection: &Connection) -> rusqlite::Result<i64> {
    connection.pragma_query_value(None, "user_version", |row| row.get(0))
}

/// Brings an older or empty file up to date, all or nothing.
pub(super) fn migrate(connection: &mut Connection) -> rusqlite::Result<()> {
    let found = usize::try_from(found(connection)?).unwrap_or(0);
    let transaction = connection.transaction()?;
    for script in MIGRATIONS.iter().skip(found) {
        transaction.execute_batch(script)?;
    }
    transaction.pragma_update(None, "user_version", NEWEST)?;
    transaction.commit()
}

/// The schema of the first version.
#[cfg(test)]
pub(super) const fn first() -> &'static str {
    MIGRATIONS[0]
}
