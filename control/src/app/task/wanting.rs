//! Decides what is seen of the demand for a pool: what proxies, deploys and previews want of it, and whose turn it is.

use super::book::Book;
use super::previewing::Making;
use crate::app::pool::Wanted;
use crate::app::turn::{self, Rival, Turn};
use crate::clock::shifted;
use crate::lease::Desk;
use crate::record::{PoolRecord, SandboxRecord};
use miren_api::lease::Demand;

/// What proxies and deploys want of a pool. One that a deploy prepares is to take over what its service does now.
pub(super) fn of(pool: &PoolRecord, book: &Book, making: &Making, desk: &Desk) -> Wanted {
    let own = desk.total_demand(&pool.id);
    let waits = |seq: u64| {
        let deploy = book.state.deploys.get(&seq);
        deploy.is_some_and(|deploy| deploy.starting_at.is_some()) || making.is_starting(seq)
    };
    let deploying = pool.references.iter().any(|reference| waits(reference.seq));
    let same = |other: &&PoolRecord| other.service == pool.service && other.label == pool.label;
    let of_service = book.state.pools.values().filter(same);
    let most = |most: Demand, other: Demand| match most.total() < other.total() {
        true => other,
        false => most,
    };
    let met = book.faults.of(&pool.id);
    Wanted {
        demand: match deploying {
            true => of_service.map(|other| desk.total_demand(&other.id)).fold(own, most),
            false => own,
        },
        deploying,
        at_most: (!book.admission.grows()).then_some(pool.desired),
        turn: turn(pool, book),
        retry_at: met.map(|met| shifted(met.retry_at, book.offset)),
    }
}

fn turn(pool: &PoolRecord, book: &Book) -> Turn {
    if pool.spec.disks.is_empty() {
        return Turn::Own;
    }
    let lives = |sandbox: &SandboxRecord| !sandbox.state.is_terminal();
    let rival = |pool| Rival {
        pool,
        live: book.state.members(&pool.id).any(lives),
    };
    let leaves = |sandbox: &SandboxRecord| lives(sandbox) && !sandbox.counts();
    let leaves = book.state.members(&pool.id).any(leaves);
    turn::of(pool, leaves, book.state.pools.values().map(rival))
}
