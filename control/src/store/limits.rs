//! Decides how much one transaction may write: what etcd takes of one, whatever the store.

use super::{StoreError, Write};
use std::collections::HashSet;

/// Operations of one transaction that etcd takes unless it is told otherwise (`--max-txn-ops`).
const OPERATIONS: usize = 128;
/// Most writes of a transaction: one of its operations compares the epoch.
pub const WRITES_MAX: usize = OPERATIONS - 1;
/// Most bytes of a transaction, as [`size`] counts them: a request that etcd takes unless it is told otherwise
/// (`--max-request-bytes`).
pub const BYTES_MAX: usize = 3 << 19;
/// What a write has around its key and its body, bytes: more than the framing of a comparison and of an operation.
const AROUND: usize = 64;

/// How much of [`BYTES_MAX`] a write takes, bytes: its key is compared and written.
pub fn size(write: &Write) -> usize {
    let key = write.key.kind.as_str().len() + write.key.id.len();
    let body = write.content.as_ref().map_or(0, |content| content.body.len());
    2 * key + body + AROUND
}

/// Refuses what is no transaction, before any of it is sent.
///
/// # Errors
/// [`StoreError::TooLarge`]; [`StoreError::Failed`] when it writes nothing, or a record twice.
pub fn check(writes: &[Write]) -> Result<(), StoreError> {
    let bytes = writes.iter().map(size).sum();
    let Some(largest) = writes.iter().max_by_key(|write| size(write)) else {
        return Err(refused("there is nothing to write".into()));
    };
    if writes.len() > WRITES_MAX || bytes > BYTES_MAX {
        return Err(StoreError::TooLarge {
            key: largest.key.clone(),
            writes: writes.len(),
            bytes,
        });
    }
    let mut keys = HashSet::with_capacity(writes.len());
    match writes.iter().find(|write| !keys.insert(&write.key)) {
        None => Ok(()),
        Some(twice) => Err(refused(format!(
            "{} would be written twice in one transaction",
            twice.key
        ))),
    }
}

fn refused(why: String) -> StoreError {
    StoreError::Failed {
        doing: "writing records",
        why,
    }
}
