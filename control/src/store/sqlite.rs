//! Decides how records are kept in one SQLite file: WAL, synced at each commit, on a thread of its own, fenced by an epoch.

use super::{Change, Cursor, Key, Kind, Record, Revision, Selection, Store, StoreError, Write, limits, schema};
use crate::reserve::Reserve;
use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, Row, params};
use std::path::Path;
use std::sync::mpsc;
use tokio::sync::{oneshot, watch};

mod commit;
mod history;

pub use history::History;
use history::{Kept, compact, compacted, counted};

type Job = Box<dyn FnOnce(&mut Held) + Send>;

/// What the store's thread has.
struct Held {
    connection: Connection,
    /// Of the history.
    kept: Kept,
}

/// The store of one node. Its connection lives on one thread, so writes have one order and block no task.
pub struct Sqlite {
    jobs: mpsc::Sender<Job>,
    epoch: u64,
    newest: watch::Sender<Revision>,
    history: History,
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
            let held = with_room(&of_thread, || {
                let mut connection = schema::open(&path)?;
                let (epoch, revision, kept) =
                    take_over(&mut connection, history).map_err(failed("taking over the store"))?;
                Ok((Held { connection, kept }, epoch, revision))
            });
            let mut held = match held {
                Ok((held, epoch, revision)) => {
                    let _ = ready.send(Ok((epoch, revision)));
                    held
                }
                Err(error) => {
                    let _ = ready.send(Err(error));
                    return;
                }
            };
            for job in queue {
                job(&mut held);
            }
        });
        spawned.map_err(|error| StoreError::Failed {
            doing: "starting the store's thread",
            why: error.to_string(),
        })?;
        let (epoch, revision) = opened.await.map_err(|_| closed("opening the store"))??;
        Ok(Self {
            jobs,
            epoch,
            newest: watch::Sender::new(revision),
            history,
            reserve,
        })
    }

    async fn run<T: Send + 'static>(
        &self,
        doing: &'static str,
        work: impl FnOnce(&mut Held) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        let job: Job = Box::new(move |held| {
            let _ = reply.send(work(held));
        });
        self.jobs.send(job).map_err(|_| closed(doing))?;
        answer.await.map_err(|_| closed(doing))?
    }
}

#[async_trait]
impl Store for Sqlite {
    async fn get(&self, key: &Key) -> Result<Option<Record>, StoreError> {
        let key = key.clone();
        self.run("reading a record", move |held| {
            held.connection
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
        self.run("listing records", move |held| {
            select(&held.connection, kind, &which).map_err(failed("listing records"))
        })
        .await
    }

    async fn commit(&self, writes: Vec<Write>) -> Result<Revision, StoreError> {
        limits::check(&writes)?;
        let (epoch, most) = (self.epoch, self.history);
        let (newest, reserve) = (self.newest.clone(), self.reserve.clone());
        self.run("writing records", move |held| {
            let written = with_room(&reserve, || commit::write(held, epoch, &writes, most));
            if matches!(written, Err(StoreError::Unknown { .. }))
                && let Ok((revision, kept)) = counted(&held.connection)
            {
                // It may have been made: whoever follows looks.
                held.kept = kept;
                newest.send_replace(revision);
            }
            let revision = written?;
            newest.send_replace(revision);
            Ok(revision)
        })
        .await
    }

    async fn changes(&self, after: Cursor, limit: usize) -> Result<Vec<Change>, StoreError> {
        self.run("reading the history", move |held| {
            let upto = compacted(&held.connection).map_err(failed("reading the history"))?;
            if after < upto {
                return Err(StoreError::Compacted { upto });
            }
            history(&held.connection, after, limit).map_err(failed("reading the history"))
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
fn take_over(connection: &mut Connection, most: History) -> rusqlite::Result<(u64, Revision, Kept)> {
    let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    let epoch = counter(&transaction, "epoch")? + 1;
    set_counter(&transaction, "epoch", epoch)?;
    let (revision, kept) = counted(&transaction)?;
    let kept = compact(&transaction, kept, most)?;
    transaction.commit()?;
    Ok((epoch, revision, kept))
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

fn history(connection: &Connection, after: Cursor, limit: usize) -> rusqlite::Result<Vec<Change>> {
    let mut statement = connection.prepare_cached(
        "SELECT revision, n, kind, id, body FROM changes WHERE (revision, n) > (?1, ?2) ORDER BY revision, n LIMIT ?3",
    )?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let rows = statement.query_map(params![after.revision, after.n, limit], |row| {
        let kind: String = row.get(2)?;
        let kind = Kind::parse(&kind).ok_or(rusqlite::Error::InvalidQuery)?;
        Ok(Change {
            at: Cursor {
                revision: row.get(0)?,
                n: row.get(1)?,
            },
            key: Key::new(kind, row.get::<_, String>(3)?),
            body: row.get(4)?,
        })
    })?;
    rows.collect()
}

#[cfg(test)]
mod tests;
