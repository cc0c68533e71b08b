//! Decides how one transaction is written: fenced, compared whole, then made under one revision, and the history cut to size.

use super::history::{Kept, compact};
use super::{Held, History, counter, failed, set_counter};
use crate::store::{Content, Cursor, Expect, Revision, StoreError, Write};
use miren_fault::Point;
use rusqlite::{OptionalExtension, Transaction, params};

/// Commits the writes and returns their revision. What is kept of the history is `most`.
pub(super) fn write(held: &mut Held, epoch: u64, writes: &[Write], most: History) -> Result<Revision, StoreError> {
    miren_fault::blocking(Point::StoreBegin)?;
    let transaction = held
        .connection
        .transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)
        .map_err(failed("writing records"))?;
    let revision = apply(&transaction, epoch, writes)?;
    let kept = held.kept.and(Kept::of(writes));
    let kept = compact(&transaction, kept, most).map_err(failed("writing records"))?;
    miren_fault::blocking(Point::StoreCommit).map_err(doubtful)?;
    transaction.commit().map_err(unsettled)?;
    miren_fault::blocking(Point::StoreCommitted).map_err(doubtful)?;
    held.kept = kept;
    Ok(revision)
}

/// A commit that failed may have reached the disk all the same, unless there was no room for it.
fn unsettled(error: rusqlite::Error) -> StoreError {
    if error.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull) {
        return failed("writing records")(error);
    }
    doubtful(error)
}

fn doubtful(error: impl std::fmt::Display) -> StoreError {
    StoreError::Unknown {
        doing: "writing records",
        why: error.to_string(),
    }
}

fn apply(transaction: &Transaction<'_>, own: u64, writes: &[Write]) -> Result<Revision, StoreError> {
    let sql = failed("writing records");
    let current = counter(transaction, "epoch").map_err(&sql)?;
    if current != own {
        return Err(StoreError::Fenced { current, own });
    }
    writes.iter().try_for_each(|write| check(transaction, write))?;
    let revision = counter(transaction, "revision").map_err(&sql)? + 1;
    for (n, write) in (0..).zip(writes) {
        put(transaction, write, Cursor { revision, n }).map_err(&sql)?;
    }
    set_counter(transaction, "revision", revision).map_err(&sql)?;
    Ok(revision)
}

fn check(transaction: &Transaction<'_>, write: &Write) -> Result<(), StoreError> {
    let found: Option<Revision> = transaction
        .prepare_cached("SELECT revision FROM records WHERE kind = ?1 AND id = ?2")
        .and_then(|mut statement| {
            statement
                .query_row(params![write.key.kind.as_str(), write.key.id], |row| row.get(0))
                .optional()
        })
        .map_err(failed("writing records"))?;
    let holds = match write.expect {
        Expect::Absent => found.is_none(),
        Expect::Revision(revision) => found == Some(revision),
    };
    if holds {
        Ok(())
    } else {
        Err(StoreError::Conflict { key: write.key.clone() })
    }
}

fn put(transaction: &Transaction<'_>, write: &Write, at: Cursor) -> rusqlite::Result<()> {
    let (kind, id) = (write.key.kind.as_str(), write.key.id.as_str());
    transaction
        .prepare_cached("DELETE FROM indexes WHERE kind = ?1 AND id = ?2")?
        .execute(params![kind, id])?;
    match &write.content {
        Some(Content { body, indexes }) => {
            transaction
                .prepare_cached("INSERT OR REPLACE INTO records (kind, id, revision, body) VALUES (?1, ?2, ?3, ?4)")?
                .execute(params![kind, id, at.revision, body])?;
            for (name, value) in indexes {
                transaction
                    .prepare_cached("INSERT OR IGNORE INTO indexes (kind, name, value, id) VALUES (?1, ?2, ?3, ?4)")?
                    .execute(params![kind, name, value, id])?;
            }
        }
        None => {
            transaction
                .prepare_cached("DELETE FROM records WHERE kind = ?1 AND id = ?2")?
                .execute(params![kind, id])?;
        }
    }
    let body = write.content.as_ref().map(|content| content.body.as_str());
    transaction
        .prepare_cached("INSERT INTO changes (revision, n, kind, id, body) VALUES (?1, ?2, ?3, ?4, ?5)")?
        .execute(params![at.revision, at.n, kind, id, body])?;
    Ok(())
}
