//! What is let in, and what a closed gate has seen of it.

use super::*;
use crate::record::NodeRecord;
use miren_api::id::NodeId;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// An admission, and who says whether the node is cordoned.
fn admission() -> (Admission, watch::Sender<NodeRecord>) {
    let (node, seen) = watch::channel(NodeRecord {
        id: NodeId::FIRST,
        name: "here".into(),
        created_at: jiff::Timestamp::UNIX_EPOCH,
        cordoned: false,
        drain: None,
    });
    (Admission::new(7, seen), node)
}

#[test]
fn d1_what_is_refused_says_which_node_why_and_what_to_do() {
    let (admission, node) = admission();
    node.send_modify(|node| node.cordoned = true);
    for work in [Work::Deploy, Work::Preview, Work::Upload] {
        let refused = admission.admit(work).unwrap_err();
        assert_eq!(
            (refused.code, refused.code.status()),
            (ErrorCode::Cordoned, 503),
            "{work:?}"
        );
        assert!(refused.message.contains("node here"), "{}", refused.message);
        assert_eq!(refused.remedy, "miren node uncordon");
    }
    assert!(admission.admit(Work::Change).is_ok() && admission.takes_activations());
    assert!(admission.start().is_some(), "what it runs is replaced");

    admission.close_api();
    for work in [Work::Deploy, Work::Preview, Work::Upload, Work::Change] {
        let refused = admission.admit(work).unwrap_err();
        assert_eq!(
            (refused.code, refused.code.status()),
            (ErrorCode::Draining, 503),
            "{work:?}"
        );
        assert!(
            refused.message.contains("node here drains (epoch 7)"),
            "{}",
            refused.message
        );
        assert!(refused.retry_after.is_some());
    }
}

#[test]
fn d2_what_was_let_in_finds_the_gate_of_sandboxes_open() {
    let (admission, _node) = admission();
    let _deploy = admission.admit(Work::Deploy).unwrap();
    admission.close_api();
    assert!(!admission.takes_activations());
    assert_eq!(admission.seen().gate, NodeGate::ApiClosed);
    assert!(admission.start().is_some(), "the deploy's sandbox");
    admission.close_starts();
    assert_eq!(admission.seen().gate, NodeGate::Closed);
    assert!(admission.start().is_none());
    assert_eq!(admission.seen().admitted.of(Work::Deploy), 1, "it has not ended");
}

#[test]
fn d4_opened_again_they_are_others_and_what_the_old_ones_let_in_is_not_counted_by_them() {
    let (admission, _node) = admission();
    let _old = admission.admit(Work::Deploy).unwrap();
    let closed = admission.close_api();
    admission.close_starts();
    admission.open();
    let seen = admission.seen();
    assert_eq!(
        (seen.gate, seen.generation, seen.admitted.total()),
        (NodeGate::Open, 1, 0)
    );
    let _new = admission.admit(Work::Deploy).unwrap();
    assert!(admission.start().is_some());
    assert!(!closed.is_first() || closed.counts().of(Work::Deploy) == 1);
}

#[tokio::test]
async fn d1_whoever_waits_is_told_after_the_gate_is_closed() {
    let (admission, _node) = admission();
    let mut changes = admission.changes();
    let waits = admission.clone();
    let told = tokio::spawn(async move {
        changes.next().await;
        waits.takes_activations()
    });
    tokio::task::yield_now().await;
    admission.close_api();
    assert!(!told.await.unwrap(), "told before it was so");
}

/// Threads that start sandboxes as fast as they can while the gate is closed: each start that was let in is found registered when
/// the gate is idle, and nothing is registered after that.
#[test]
fn d2_of_starts_against_the_close_none_is_missed_and_none_comes_after() {
    const ROUNDS: usize = 1_000;
    const STARTS: usize = 100;
    const THREADS: usize = 4;
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let (let_in, refused) = (AtomicUsize::new(0), AtomicUsize::new(0));
    for round in 0..ROUNDS {
        let (admission, _node) = admission();
        let registered = Mutex::new(Vec::new());
        let begin = std::sync::Barrier::new(THREADS + 1);
        let found = thread::scope(|scope| {
            for thread in 0..THREADS {
                let (admission, registered, begin) = (&admission, &registered, &begin);
                let (let_in, refused) = (&let_in, &refused);
                scope.spawn(move || {
                    begin.wait();
                    for start in 0..STARTS / THREADS {
                        match admission.start() {
                            Some(permit) => {
                                thread::yield_now();
                                registered.lock().unwrap().push((thread, start));
                                let_in.fetch_add(1, Ordering::Relaxed);
                                drop(permit);
                            }
                            None => drop(refused.fetch_add(1, Ordering::Relaxed)),
                        }
                    }
                });
            }
            begin.wait();
            // Another place in the row of starts each time.
            (0..round % 64).for_each(|_| std::hint::spin_loop());
            let closed = admission.close_starts();
            runtime.block_on(closed.wait(std::future::pending()));
            assert!(admission.start().is_none(), "round {round}: one came after the close");
            registered.lock().unwrap().len()
        });
        // By now every thread has ended.
        let all = registered.into_inner().unwrap().len();
        assert_eq!(all, found, "round {round}: one was let in and not waited for");
        assert_eq!(admission.seen().starts, 0);
    }
    let (let_in, refused) = (let_in.into_inner(), refused.into_inner());
    assert_eq!(let_in + refused, ROUNDS * STARTS, "each was answered");
}
