//! Decides how the tables of the SQLite store look, and how an older file becomes a current one.

use super::{StoreError, copy};
use rusqlite::{Connection, ErrorCode, OpenFlags};
use std::path::Path;
use std::time::Duration;

/// Marks the file as ours: "mirn".
const APPLICATION_ID: i64 = 0x6d69_726e;

/// What turns schema n into n+1. Entries are never edited, only added.
const MIGRATIONS: &[&str] = &[
    "
    CREATE TABLE records (
        kind TEXT NOT NULL, id TEXT NOT NULL, revision INTEGER NOT NULL, body TEXT NOT NULL,
        PRIMARY KEY (kind, id)
    ) WITHOUT ROWID;
    CREATE TABLE indexes (
        kind TEXT NOT NULL, name TEXT NOT NULL, value TEXT NOT NULL, id TEXT NOT NULL,
        PRIMARY KEY (kind, name, value, id)
    ) WITHOUT ROWID;
    CREATE INDEX indexes_by_record ON indexes (kind, id);
    CREATE TABLE changes (revision INTEGER PRIMARY KEY, kind TEXT NOT NULL, id TEXT NOT NULL, body TEXT);
    CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
    INSERT INTO counters VALUES ('epoch', 0), ('revision', 0), ('compacted', 0);
",
    "
    -- Only the number of the snapshot is kept; the whole of it was, once.
    UPDATE records SET body = json_object('generation', json_extract(body, '$.generation')) WHERE kind = 'snapshot';
",
    "
    -- A transaction has one revision. Each write had its own: it stays where it is, as a transaction of one.
    CREATE TABLE history (
        revision INTEGER NOT NULL, n INTEGER NOT NULL, kind TEXT NOT NULL, id TEXT NOT NULL, body TEXT,
        PRIMARY KEY (revision, n)
    ) WITHOUT ROWID;
    INSERT INTO history SELECT revision, 0, kind, id, body FROM changes ORDER BY revision;
    DROP TABLE changes;
    ALTER TABLE history RENAME TO changes;
    INSERT INTO counters VALUES ('compacted_n', 0);
    -- There was one node.
    UPDATE records SET body = json_set(body, '$.node', 'node-1') WHERE kind = 'sandbox';
",
    "
    -- There are runs, and sandboxes of theirs in no pool. An earlier release knows neither, and would leave them running.
",
];

/// The schema that this release makes of a store: the highest it knows.
#[expect(clippy::cast_possible_wrap, reason = "there are few")]
pub const KNOWN: i64 = MIGRATIONS.len() as i64;

/// Opens the file, checks that it is ours and sound, and migrates it: a copy of it as it was is kept beside it.
pub(super) fn open(path: &Path) -> Result<Connection, StoreError> {
    let failed = |error: rusqlite::Error| refusal(path, &error);
    let mut connection = Connection::open(path).map_err(failed)?;
    connection
        .busy_timeout(std::time::Duration::from_secs(5))
        .map_err(failed)?;
    connection
        .execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;")
        .map_err(failed)?;
    let found: i64 = pragma(&connection, "user_version").map_err(failed)?;
    check_owner(path, &connection, found)?;
    if !(0..=KNOWN).contains(&found) {
        return Err(newer(path, found));
    }
    if (1..KNOWN).contains(&found) {
        copy::keep(path, &connection, KNOWN)?;
    }
    migrate(path, &mut connection, found)?;
    let verdict: String = pragma(&connection, "quick_check").map_err(failed)?;
    if verdict != "ok" {
        return Err(undecodable(path, verdict));
    }
    Ok(connection)
}

/// The schema of the file, which is left as it is; none where there is no file. It may be open elsewhere.
///
/// # Errors
/// As [`open`], when it is not ours or has a schema that this release does not know.
pub fn on_disk(path: &Path) -> Result<Option<i64>, StoreError> {
    if !path.exists() {
        return Ok(None);
    }
    let failed = |error: rusqlite::Error| refusal(path, &error);
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(failed)?;
    connection.busy_timeout(Duration::from_secs(5)).map_err(failed)?;
    let found: i64 = pragma(&connection, "user_version").map_err(failed)?;
    check_owner(path, &connection, found)?;
    match found {
        0..=KNOWN => Ok(Some(found)),
        _ => Err(newer(path, found)),
    }
}

fn newer(path: &Path, found: i64) -> StoreError {
    StoreError::NewerSchema {
        path: path.to_owned(),
        found,
        known: KNOWN,
    }
}

fn pragma<T: rusqlite::types::FromSql>(connection: &Connection, name: &str) -> rusqlite::Result<T> {
    connection.query_row(&format!("PRAGMA {name}"), [], |row| row.get(0))
}

fn check_owner(path: &Path, connection: &Connection, schema: i64) -> Result<(), StoreError> {
    let failed = |error: rusqlite::Error| refusal(path, &error);
    let owner: i64 = pragma(connection, "application_id").map_err(failed)?;
    let tables: i64 = connection
        .query_row("SELECT count(*) FROM sqlite_master", [], |row| row.get(0))
        .map_err(failed)?;
    let fresh = owner == 0 && schema == 0 && tables == 0;
    if owner != APPLICATION_ID && !fresh {
        return Err(undecodable(path, "it is a database of another program"));
    }
    Ok(())
}

fn migrate(path: &Path, connection: &mut Connection, found: i64) -> Result<(), StoreError> {
    let failed = |error: rusqlite::Error| refusal(path, &error);
    let transaction = connection.transaction().map_err(failed)?;
    for step in MIGRATIONS.iter().skip(usize::try_from(found).unwrap_or(0)) {
        transaction.execute_batch(step).map_err(failed)?;
    }
    transaction
        .execute_batch(&format!(
            "PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {KNOWN};"
        ))
        .map_err(failed)?;
    transaction.commit().map_err(failed)
}

fn undecodable(path: &Path, why: impl Into<String>) -> StoreError {
    StoreError::Undecodable {
        path: path.to_owned(),
        why: why.into(),
    }
}

pub(super) fn refusal(path: &Path, error: &rusqlite::Error) -> StoreError {
    match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => undecodable(path, error.to_string()),
        _ => StoreError::Failed {
            doing: "opening the store",
            why: format!("{}: {error}", path.display()),
        },
    }
}
