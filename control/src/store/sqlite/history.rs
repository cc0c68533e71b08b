//! Decides how much of the changes is kept for watchers, and forgets the oldest, a transaction at a time.

use super::{counter, set_counter};
use crate::store::{Cursor, Revision, Write};
use rusqlite::{Connection, Transaction};

/// How much is kept for watchers: the newest changes, as far as neither is exceeded. Who is further behind reads everything
/// again.
#[derive(Clone, Copy, Debug)]
pub struct History {
    pub changes: u64,
    /// Bodies of these changes, bytes.
    pub bytes: u64,
}

impl Default for History {
    fn default() -> Self {
        Self {
            changes: 10_000,
            bytes: 16 << 20,
        }
    }
}

/// How much there is of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kept {
    changes: u64,
    /// Bodies of these changes, bytes.
    bytes: u64,
}

impl Kept {
    pub(super) fn of(writes: &[Write]) -> Self {
        let bodies = writes.iter().filter_map(|write| write.content.as_ref());
        Self {
            changes: writes.len() as u64,
            bytes: bodies.map(|content| content.body.len() as u64).sum(),
        }
    }

    pub(super) fn and(self, more: Self) -> Self {
        Self {
            changes: self.changes + more.changes,
            bytes: self.bytes + more.bytes,
        }
    }

    fn without(self, less: Self) -> Self {
        Self {
            changes: self.changes.saturating_sub(less.changes),
            bytes: self.bytes.saturating_sub(less.bytes),
        }
    }

    fn exceeds(self, most: History) -> bool {
        self.changes > most.changes || self.bytes > most.bytes
    }
}

/// The newest revision, and how much of the history there is.
pub(super) fn counted(connection: &Connection) -> rusqlite::Result<(Revision, Kept)> {
    let all = "SELECT count(*), coalesce(sum(octet_length(body)), 0) FROM changes";
    let kept = connection.query_row(all, [], |row| {
        Ok(Kept {
            changes: row.get(0)?,
            bytes: row.get(1)?,
        })
    })?;
    Ok((counter(connection, "revision")?, kept))
}

/// The last change that is forgotten.
pub(super) fn compacted(connection: &Connection) -> rusqlite::Result<Cursor> {
    let n = counter(connection, "compacted_n")?;
    Ok(Cursor {
        revision: counter(connection, "compacted")?,
        n: u32::try_from(n).unwrap_or(u32::MAX),
    })
}

/// Forgets the oldest transactions until the rest, of `kept`, is within the bounds; returns how much that is.
pub(super) fn compact(transaction: &Transaction<'_>, kept: Kept, most: History) -> rusqlite::Result<Kept> {
    let (mut left, mut upto) = (kept, None);
    if left.exceeds(most) {
        let mut oldest = transaction.prepare_cached(
            "SELECT revision, max(n), count(*), coalesce(sum(octet_length(body)), 0) FROM changes \
             GROUP BY revision ORDER BY revision",
        )?;
        let mut oldest = oldest.query([])?;
        while left.exceeds(most) {
            let Some(row) = oldest.next()? else { break };
            upto = Some((row.get(0)?, row.get(1)?));
            left = left.without(Kept {
                changes: row.get(2)?,
                bytes: row.get(3)?,
            });
        }
    }
    if let Some((revision, n)) = upto {
        transaction
            .prepare_cached("DELETE FROM changes WHERE revision <= ?1")?
            .execute([revision])?;
        set_counter(transaction, "compacted", revision)?;
        set_counter(transaction, "compacted_n", n)?;
    }
    Ok(left)
}
