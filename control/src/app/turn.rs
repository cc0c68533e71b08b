//! Decides which pool of an app may have sandboxes when several want one disk, which one sandbox writes at a time.

use crate::record::PoolRecord;
use miren_sandbox::Budgets;
use std::time::Duration;

#[cfg(test)]
mod tests;

/// Whose turn it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Turn {
    /// Nothing stands in the way.
    #[default]
    Own,
    /// A sandbox with one of its disks has not ended yet: none is started before.
    Waits,
    /// A newer version wants one of its disks: its sandboxes drain. They come back if that version fails.
    GivesWay,
}

/// A pool of the app, and which of its sandboxes have not ended.
#[derive(Clone, Copy, Debug)]
pub struct Rival<'p> {
    pub pool: &'p PoolRecord,
    pub live: bool,
}

/// Whose turn it is for `pool`. `leaves`: it has a sandbox that drains or stops. `others` may contain the pool itself.
pub fn of<'p>(pool: &PoolRecord, leaves: bool, others: impl Iterator<Item = Rival<'p>>) -> Turn {
    let mut turn = match leaves && pool.spec.written_disks().next().is_some() {
        true => Turn::Waits,
        false => Turn::Own,
    };
    for rival in others.filter(|rival| collide(pool, rival.pool)) {
        if is_newer(rival.pool, pool) {
            return Turn::GivesWay;
        }
        if rival.live {
            turn = Turn::Waits;
        }
    }
    turn
}

/// How long the pools that give way to `pool` may take for it.
pub fn handover<'p>(pool: &PoolRecord, others: impl Iterator<Item = &'p PoolRecord>) -> Duration {
    let older = others.filter(|other| collide(pool, other) && !is_newer(other, pool));
    let times = older.map(|other| Budgets::of(&other.spec).total());
    times.max().unwrap_or_default()
}

/// Whether they cannot have sandboxes at the same time: they share a disk, and not both only read it.
fn collide(a: &PoolRecord, b: &PoolRecord) -> bool {
    let shares = |disk: &miren_api::app_file::DiskMount| {
        let same = b.spec.disks.iter().find(|other| other.name == disk.name);
        same.is_some_and(|other| !(disk.read_only && other.read_only))
    };
    a.id != b.id && a.spec.disks.iter().any(shares)
}

/// Whether the newest version that wants `a` came after that of `b`.
fn is_newer(a: &PoolRecord, b: &PoolRecord) -> bool {
    let seq = |pool: &PoolRecord| pool.newest().map(|reference| reference.seq);
    seq(a) > seq(b)
}
