//! Permits under concurrency: never more than the capacity, none after the close, given back exactly once.

use super::entry::Lease;
use super::queue::Queue;
use super::store::{Kept, LeaseStore};
use crate::request::refusal::Reason;
use crate::slots::Slots;
use miren_api::SandboxId;
use miren_api::id::NodeId;
use miren_api::lease::LeaseKey;
use miren_loader::{FastPath, FastPathConfig, Mode, SlotSource, State};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

mod counting;
mod waiting;

/// Longer than anything here takes; reached only when something is lost.
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) struct Table {
    folder: tempfile::TempDir,
    pub(super) control: FastPath,
    pub(super) slots: Slots,
}

pub(super) fn table() -> Table {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("slots");
    let config = FastPathConfig {
        mode: Mode::Off,
        table_file: file.clone(),
        capacity: 8,
        ..FastPathConfig::default()
    };
    let control = FastPath::open(config).unwrap();
    let (slots, events) = Slots::open(&[SlotSource::File(file)]).unwrap();
    assert!(events.is_none(), "a file sends no events");
    Table { folder, control, slots }
}

impl Table {
    fn slots_again(&self) -> Slots {
        Slots::open(&[SlotSource::File(self.folder.path().join("slots"))])
            .unwrap()
            .0
    }

    pub(super) fn lease(&self, capacity: u32) -> Lease {
        let endpoint: SocketAddr = "127.0.0.1:1".parse().unwrap();
        let generation = self.control.begin(0, endpoint).unwrap();
        self.control.advance(0, generation, State::Running).unwrap();
        let key = LeaseKey {
            node: NodeId::FIRST,
            slot: 0,
            generation,
        };
        let granted = miren_api::lease::Lease {
            key,
            sandbox: SandboxId::from_text("sb-1"),
            endpoint,
            capacity,
        };
        Lease::alone(&granted)
    }
}

#[test]
fn a_slot_of_another_node_is_no_slot_of_the_table_that_is_mapped() {
    let table = table();
    let own = table.lease(2).key;
    let node: NodeId = "node-2".parse().unwrap();
    let other = LeaseKey { node, ..own };
    let slots = &table.slots;
    assert_eq!(slots.key(own.slot, own.generation), own);
    assert_eq!((slots.is_running(own), slots.state(own)), (true, Some(State::Running)));
    assert_eq!((slots.is_running(other), slots.state(other)), (false, None));
}

#[test]
fn i1_the_word_is_looked_at_for_each_permit() {
    let table = table();
    let lease = table.lease(2);
    assert!(lease.enter(&table.slots));
    table.control.advance(0, lease.key.generation, State::Draining).unwrap();
    assert!(!lease.enter(&table.slots), "room, but not RUNNING");
    assert_eq!(lease.in_flight(), 1, "the one that was refused is not counted");
}

#[test]
fn k5_the_next_generation_of_a_slot_is_another_sandbox() {
    let table = table();
    let lease = table.lease(2);
    table.control.advance(0, lease.key.generation, State::Dead).unwrap();
    let next = table.lease(2);
    assert_eq!(next.key.slot, lease.key.slot);
    assert!(next.enter(&table.slots));
    assert!(!lease.enter(&table.slots), "RUNNING, but another generation");
    assert_ne!(lease.serial, next.serial);
}

#[test]
fn permits_never_exceed_the_capacity_and_a_closed_lease_finishes_once() {
    const CAPACITY: u32 = 1;
    let table = table();
    for _ in 0..200 {
        let lease = table.lease(CAPACITY);
        let (inside, finished, admitted) = (AtomicU32::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
        thread::scope(|threads| {
            for _ in 0..4 {
                threads.spawn(|| {
                    for _ in 0..100 {
                        if lease.enter(&table.slots) {
                            admitted.fetch_add(1, Ordering::Relaxed);
                            assert!(inside.fetch_add(1, Ordering::SeqCst) < CAPACITY);
                            thread::yield_now();
                            inside.fetch_sub(1, Ordering::SeqCst);
                            lease.leave();
                        }
                        finished.fetch_add(usize::from(lease.finish()), Ordering::Relaxed);
                    }
                });
            }
            threads.spawn(|| {
                lease.close();
                finished.fetch_add(usize::from(lease.finish()), Ordering::Relaxed);
            });
        });
        finished.fetch_add(usize::from(lease.finish()), Ordering::Relaxed);
        assert_eq!((finished.into_inner(), lease.in_flight()), (1, 0));
        table.control.advance(0, lease.key.generation, State::Dead).unwrap();
    }
}

#[test]
fn a_revoked_lease_takes_no_connection() {
    let table = table();
    let lease = table.lease(1);
    assert!(lease.conns().register(-1).is_some());
    assert_eq!(lease.conns().cut(), 1);
    assert!(lease.conns().register(-2).is_none());
    lease.conns().deregister(-1);
    assert_eq!(lease.conns().cut(), 0);
}

#[tokio::test]
async fn the_queue_calls_in_order_and_passes_an_unused_call_on() {
    let queue = Queue::new(3, 100);
    let (first, second) = (queue.join(1).unwrap(), queue.join(1).unwrap());
    queue.call(1);
    first.called().await.unwrap();
    queue.call(1);
    drop(first);
    tokio::time::timeout(PATIENCE, second.called())
        .await
        .expect("the call was lost")
        .unwrap();
    assert_eq!(queue.len(), 1);
}

#[tokio::test]
async fn the_queue_is_full_at_its_limits_and_refuses_everybody_alike() {
    let queue = Queue::new(2, 10);
    let only = queue.join(8).unwrap();
    assert_eq!(queue.join(3).unwrap_err(), Reason::QueueFull.into(), "bytes");
    let other = queue.join(2).unwrap();
    assert_eq!(queue.join(0).unwrap_err(), Reason::QueueFull.into(), "requests");
    queue.refuse_all(Reason::BootFailed.into());
    assert_eq!(only.called().await, Err(Reason::BootFailed.into()));
    assert_eq!(other.called().await, Err(Reason::BootFailed.into()));
    drop((only, other));
    assert!(queue.join(10).is_ok(), "what left gave its place back");
}

#[test]
fn a_call_that_comes_before_the_wait_is_not_lost() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    let queue = Arc::new(Queue::new(1000, 1000));
    runtime.block_on(async {
        for _ in 0..500 {
            let caller = Arc::clone(&queue);
            let ticket = queue.join(0).unwrap();
            let task = tokio::spawn(async move { caller.call(1) });
            tokio::time::timeout(PATIENCE, ticket.called())
                .await
                .expect("lost")
                .unwrap();
            task.await.unwrap();
        }
    });
}

fn kept() -> Vec<Kept> {
    let lease = miren_api::lease::Lease {
        key: LeaseKey {
            node: NodeId::FIRST,
            slot: 3,
            generation: 4,
        },
        sandbox: SandboxId::from_text("sb-1"),
        endpoint: "10.88.0.3:3000".parse().unwrap(),
        capacity: 5,
    };
    vec![Kept {
        pool: miren_api::PoolId::from_text("pool-1"),
        version: miren_api::VersionId::from_text("shop-v1"),
        service: "web".into(),
        leases: vec![lease],
        never_twice: false,
    }]
}

#[test]
fn the_leases_kept_last_are_loaded_and_a_file_that_cannot_be_used_is_none() {
    let folder = tempfile::tempdir().unwrap();
    let store = LeaseStore::new(folder.path(), table().slots.table());
    assert_eq!(store.load(), [], "none yet");
    store.save(Vec::new()).unwrap();
    store.save(kept()).unwrap();
    assert_eq!(store.load(), kept());
    let file = folder.path().join("leases");
    let text = std::fs::read_to_string(&file).unwrap();
    for damaged in [
        "",
        &text[1..],
        &text[..text.len() - 1],
        &text.replace("10.88", "10.89"),
        "miren-leases 1 x\n{}",
    ] {
        std::fs::write(&file, damaged).unwrap();
        assert_eq!(store.load(), [], "{damaged}");
    }
    store.save(kept()).unwrap();
    assert_eq!(store.load(), kept(), "damage does not last");
}

#[test]
fn f16_a_service_that_is_asked_once_only_stays_one_over_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let store = LeaseStore::new(folder.path(), table().slots.table());
    let mut kept = kept();
    store.save(kept.clone()).unwrap();
    let file = folder.path().join("leases");
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(
        !text.contains("never_twice"),
        "what releases before this one wrote: {text}"
    );
    kept[0].never_twice = true;
    store.save(kept.clone()).unwrap();
    assert_eq!(store.load(), kept);
}

#[test]
fn k5_f10_leases_of_another_table_say_nothing_about_the_slots_of_this_one() {
    let folder = tempfile::tempdir().unwrap();
    let (one, other) = (table(), table());
    let of = |table: &Table| LeaseStore::new(folder.path(), table.slots.table());
    of(&one).save(kept()).unwrap();
    assert_eq!((of(&one).load(), of(&other).load()), (kept(), Vec::new()));
}

#[test]
fn a_share_that_shrinks_lets_nobody_in_until_what_is_above_it_has_run_out() {
    let table = table();
    let lease = table.lease(2);
    assert!(lease.enter(&table.slots) && lease.enter(&table.slots));
    lease.set_capacity(1);
    assert_eq!(lease.room(), 0);
    lease.leave();
    assert!(!lease.enter(&table.slots), "one is in flight");
    lease.leave();
    assert!(lease.enter(&table.slots));
}
