//! Decides how records are kept in one SQLite file: WAL, synced at each commit, on a thread of its own, fenced by an epoch.

use super::{Change, Content, Expect, Key, Kind, Record, Revision, Selection, Store, StoreError, Write, schema};
use crate::reserve::Reserve;
use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use tokio::sync::{oneshot, watch};

mod history;

pub use history::History;
use history::{body_bytes, compact, counted};

type Job = Box<dyn FnOnce(&mut Connection) + Send>;

/// The store of one node. Its connection lives on one thread, so writes have one order and block no task.
pub struct Sqlite {
    jobs: mpsc::Sender<Job>,
    epoch: u64,
    newest: watch::Sender<Revision>,
    history: History,
    /// Bytes of the bodies in the history. Only the store's thread changes it.
    kept: Arc<AtomicU64>,
    reserve: Option<Reserve>,
}

impl Sqlite {
    /// Opens or makes the file, migrates it, and takes the next epoch: any older opener is refused from now on.
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        Self::open_with(path, History::default(), None).await
    }

    /// As [`Sqlite::open`], with another bound of the history.
    pub async fn open_with_history(path: &Path, history: History) -> Result<Self, StoreError> {
        Self::open_with(path, history, None).await
    }

    /// As [`Sqlite::open`]; a write that finds the disk full is made in the room of `reserve`.
    pub async fn open_with_reserve(path: &Path, reserve: Reserve) -> Result<Self, StoreError> {
        Self::open_with(path, History::default(), Some(reserve)).await
    }

    async fn open_with(path: &Path, history: History, reserve: Option<Reserve>) -> Result<Self, StoreError> {
        let (path, of_thread) = (path.to_owned(), reserve.clone());
        let (jobs, queue) = mpsc::channel::<Job>();
        let (ready, opened) = oneshot::channel();
        let spawned = miren_log::thread("store", move || {
            let connection = with_room(&of_thread, || {
                let mut connection = schema::open(&path)?;
                let start = take_over(&mut connection, history).map_err(failed("taking over the store"))?;
                Ok((connection, start))
            });
            let mut connection = match connection {
                Ok((connection, start)) => {
                    let _ = ready.send(Ok(start));
                    connection
                }
                Err(error) => {
                    let _ = ready.send(Err(error));
                    return;
                }
            };
            for job in queue {
                job(&mut connection);
            }
        });
        spawned.map_err(|error| StoreError::Failed {
            doing: "starting the store's thread",
            why: error.to_string(),
        })?;
        let (epoch, revision, kept) = opened.await.map_err(|_| closed("opening the store"))??;
        Ok(Self {
            jobs,
            epoch,
            newest: watch::Sender::new(revision),
            history,
            kept: Arc::new(AtomicU64::new(kept)),
            reserve,
        })
    }

    async fn run<T: Send + 'static>(
        &self,
        doing: &'static str,
        work: impl FnOnce(&mut Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        let job: Job = Box::new(move |connection| {
            let _ = reply.send(work(connection));
        });
        self.jobs.send(job).map_err(|_| closed(doing))?;
        answer.await.map_err(|_| closed(doing))?
    }
}

#[async_trait]
impl Store for Sqlite {
    async fn get(&self, key: &Key) -> Result<Option<Record>, StoreError> {
        let key = key.clone();
        self.run("reading a record", move |connection| {
            connection
                .prepare_cached("SELECT id, revision, body FROM records WHERE kind = ?1 AND id = ?2")
                .and_then(|mut statement| {
                    statement
                        .query_row(params![key.kind.as_str(), key.id], |row| record(key.kind, row))
                        .optional()
                })
                .map_err(failed("reading a record"))
        })
        .await
    }

    async fn list(&self, kind: Kind, which: Selection) -> Result<Vec<Record>, StoreError> {
        self.run("listing records", move |connection| {
            select(connection, kind, &which).map_err(failed("listing records"))
        })
        .await
    }

    async fn commit(&self, writes: Vec<Write>) -> Result<Revision, StoreError> {
        let (epoch, history) = (self.epoch, self.history);
        let (newest, reserve, kept) = (self.newest.clone(), self.reserve.clone(), Arc::clone(&self.kept));
        self.run("writing records", move |connection| {
            let written = with_room(&reserve, || {
                let bytes = kept.load(Ordering::Relaxed);
                let (revision, bytes) = write(connection, epoch, &writes, (bytes, history))?;
                kept.store(bytes, Ordering::Relaxed);
                Ok(revision)
            });
            if matches!(written, Err(StoreError::Unknown { .. }))
                && let Ok((revision, bytes)) = counted(connection)
            {
                // It may have been made: whoever follows looks.
                kept.store(bytes, Ordering::Relaxed);
                newest.send_replace(revision);
            }
            let revision = written?;
            newest.send_replace(revision);
            Ok(revision)
        })
        .await
    }

    async fn changes(&self, after: Revision, limit: usize) -> Result<Vec<Change>, StoreError> {
        self.run("reading the history", move |connection| {
            let oldest = counter(connection, "compacted").map_err(failed("reading the history"))?;
            if after < oldest {
                return Err(StoreError::Compacted { oldest });
            }
            history(connection, after, limit).map_err(failed("reading the history"))
        })
        .await
    }

    fn epoch(&self) -> u64 {
        self.epoch
    }

    fn revision(&self) -> watch::Receiver<Revision> {
        self.newest.subscribe()
    }
}

/// Does something once more, if nothing was done and there is room now that was kept.
fn with_room<T>(reserve: &Option<Reserve>, mut work: impl FnMut() -> Result<T, StoreError>) -> Result<T, StoreError> {
    let done = work();
    let has_failed = matches!(done, Err(StoreError::Failed { .. } | StoreError::Unknown { .. }));
    let has_room = has_failed && reserve.as_ref().is_some_and(Reserve::give_up_if_short);
    match done {
        // What became of it is read first.
        Err(StoreError::Failed { .. }) if has_room => work(),
        done => done,
    }
}

/// Commits the writes; returns their revision, and how long the bodies in the history are by now, `kept` before.
fn write(
    connection: &mut Connection,
    epoch: u64,
    writes: &[Write],
    (kept, most): (u64, History),
) -> Result<(Revision, u64), StoreError> {
    let transaction = connection
        .transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)
        .map_err(failed("writing records"))?;
    let revision = apply(&transaction, epoch, writes)?;
    let bytes = kept + writes.iter().map(body_bytes).sum::<u64>();
    let bytes = compact(&transaction, revision, bytes, most).map_err(failed("writing records"))?;
    transaction.commit().map_err(unsettled)?;
    Ok((revision, bytes))
}

/// A commit that failed may have reached the disk all the same, unless there was no room for it.
fn unsettled(error: rusqlite::Error) -> StoreError {
    if error.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull) {
        return failed("writing records")(error);
    }
    StoreError::Unknown {
        doing: "writing records",
        why: error.to_string(),
    }
}

fn failed(doing: &'static str) -> impl Fn(rusqlite::Error) -> StoreError {
    move |error| StoreError::Failed {
        doing,
        why: error.to_string(),
    }
}

fn closed(doing: &'static str) -> StoreError {
    StoreError::Closed { doing }
}

fn counter(connection: &Connection, name: &str) -> rusqlite::Result<u64> {
    connection.query_row("SELECT value FROM counters WHERE name = ?1", [name], |row| row.get(0))
}

fn set_counter(connection: &Connection, name: &str, value: u64) -> rusqlite::Result<()> {
    connection
        .execute("UPDATE counters SET value = ?2 WHERE name = ?1", params![name, value])
        .map(drop)
}

/// Takes the next epoch. A history that an earlier release let grow is cut at once.
fn take_over(connection: &mut Connection, most: History) -> rusqlite::Result<(u64, Revision, u64)> {
    let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    let epoch = counter(&transaction, "epoch")? + 1;
    set_counter(&transaction, "epoch", epoch)?;
    let (revision, bytes) = counted(&transaction)?;
    let bytes = compact(&transaction, revision, bytes, most)?;
    transaction.commit()?;
    Ok((epoch, revision, bytes))
}

fn apply(transaction: &Transaction<'_>, own: u64, writes: &[Write]) -> Result<Revision, StoreError> {
    let sql = failed("writing records");
    let current = counter(transaction, "epoch").map_err(&sql)?;
    if current != own {
        return Err(StoreError::Fenced { current, own });
    }
    let mut revision = counter(transaction, "revision").map_err(&sql)?;
    for write in writes {
        check(transaction, write)?;
        revision += 1;
        put(transaction, write, revision).map_err(&sql)?;
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

fn put(transaction: &Transaction<'_>, write: &Write, revision: Revision) -> rusqlite::Result<()> {
    let (kind, id) = (write.key.kind.as_str(), write.key.id.as_str());
    transaction
        .prepare_cached("DELETE FROM indexes WHERE kind = ?1 AND id = ?2")?
        .execute(params![kind, id])?;
    match &write.content {
        Some(Content { body, indexes }) => {
            transaction
                .prepare_cached("INSERT OR REPLACE INTO records (kind, id, revision, body) VALUES (?1, ?2, ?3, ?4)")?
                .execute(params![kind, id, revision, body])?;
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
        .prepare_cached("INSERT INTO changes (revision, kind, id, body) VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![revision, kind, id, body])?;
    Ok(())
}

fn record(kind: Kind, row: &Row<'_>) -> rusqlite::Result<Record> {
    Ok(Record {
        key: Key::new(kind, row.get::<_, String>(0)?),
        revision: row.get(1)?,
        body: row.get(2)?,
    })
}

fn select(connection: &Connection, kind: Kind, which: &Selection) -> rusqlite::Result<Vec<Record>> {
    let name = kind.as_str();
    let read = |row: &Row<'_>| record(kind, row);
    match which {
        Selection::All => connection
            .prepare_cached("SELECT id, revision, body FROM records WHERE kind = ?1 ORDER BY id")?
            .query_map([name], read)?
            .collect(),
        Selection::Prefix(prefix) => connection
            .prepare_cached(
                "SELECT id, revision, body FROM records WHERE kind = ?1 AND id >= ?2 AND id < ?2 || char(0x10ffff) ORDER BY id",
            )?
            .query_map(params![name, prefix], read)?
            .collect(),
        Selection::Index(index, value) => connection
            .prepare_cached(
                // CROSS JOIN keeps the order of the tables: else the planner may walk all records of the kind, since they
                // come sorted (R2).
                "SELECT r.id, r.revision, r.body FROM indexes i CROSS JOIN records r ON r.kind = i.kind AND r.id = i.id \
                 WHERE i.kind = ?1 AND i.name = ?2 AND i.value = ?3 ORDER BY i.id",
            )?
            .query_map(params![name, index, value], read)?
            .collect(),
    }
}

fn history(connection: &Connection, after: Revision, limit: usize) -> rusqlite::Result<Vec<Change>> {
    let mut statement = connection.prepare_cached(
        "SELECT revision, kind, id, body FROM changes WHERE revision > ?1 ORDER BY revision LIMIT ?2",
    )?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let rows = statement.query_map(params![after, limit], |row| {
        let kind: String = row.get(1)?;
        let kind = Kind::parse(&kind).ok_or(rusqlite::Error::InvalidQuery)?;
        Ok(Change {
            revision: row.get(0)?,
            key: Key::new(kind, row.get::<_, String>(2)?),
            body: row.get(3)?,
        })
    })?;
    rows.collect()
}

#[cfg(test)]
mod tests;
