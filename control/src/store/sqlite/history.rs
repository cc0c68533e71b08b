//! Decides how much of the changes is kept for watchers, and forgets the oldest.

use super::{counter, set_counter};
use crate::store::{Revision, Write};
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

/// The newest revision, and how long the bodies in the history are.
pub(super) fn counted(connection: &Connection) -> rusqlite::Result<(Revision, u64)> {
    let sum = "SELECT coalesce(sum(octet_length(body)), 0) FROM changes";
    let bytes = connection.query_row(sum, [], |row| row.get(0))?;
    Ok((counter(connection, "revision")?, bytes))
}

pub(super) fn body_bytes(write: &Write) -> u64 {
    write.content.as_ref().map_or(0, |content| content.body.len() as u64)
}

/// Forgets the oldest of the changes up to `revision`, whose bodies are `bytes` long, until the rest is within the bounds;
/// returns how long those are.
pub(super) fn compact(
    transaction: &Transaction<'_>,
    revision: Revision,
    bytes: u64,
    most: History,
) -> rusqlite::Result<u64> {
    let compacted = counter(transaction, "compacted")?;
    let (mut upto, mut left) = (compacted, bytes);
    {
        let mut oldest = transaction
            .prepare_cached("SELECT revision, coalesce(octet_length(body), 0) FROM changes ORDER BY revision")?;
        let mut oldest = oldest.query([])?;
        while revision - upto > most.changes || left > most.bytes {
            let Some(row) = oldest.next()? else { break };
            upto = row.get(0)?;
            left = left.saturating_sub(row.get(1)?);
        }
    }
    if upto > compacted {
        transaction
            .prepare_cached("DELETE FROM changes WHERE revision <= ?1")?
            .execute([upto])?;
        set_counter(transaction, "compacted", upto)?;
    }
    Ok(left)
}
