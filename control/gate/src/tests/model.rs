//! Every interleaving of a few threads at one gate: what is let in is seen by who closed it, and the last one to go wakes him.

use super::*;
use loom::future::block_on;
use loom::thread;
use std::future::pending;

/// Threads that are interrupted more often than this in one run are not tried unless LOOM_MAX_PREEMPTIONS says so: the orders are
/// then too many, and hardly any fault needs so many.
const INTERRUPTED: usize = 3;

/// Every order in which the threads may run.
fn in_every_order(model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound.get_or_insert(INTERRUPTED);
    builder.check(model);
}

fn idle(closed: &Closed<Kind>) {
    assert_eq!(block_on(closed.wait(pending())), Waited::Idle);
}

/// Begins something, says so, and ends it.
fn one_request(gate: &Gate<Kind>, under_way: &AtomicU64) -> bool {
    let Ok(permit) = gate.enter(Kind::Request) else {
        return false;
    };
    under_way.fetch_add(1, Ordering::SeqCst);
    thread::yield_now();
    under_way.fetch_sub(1, Ordering::SeqCst);
    drop(permit);
    true
}

#[test]
fn who_was_let_in_before_the_close_is_waited_for_and_nobody_is_let_in_after() {
    in_every_order(|| {
        let gate = Gate::new(1);
        let under_way = Arc::new(AtomicU64::new(0));
        let request = {
            let (gate, under_way) = (gate.clone(), Arc::clone(&under_way));
            thread::spawn(move || one_request(&gate, &under_way))
        };
        let closed = gate.close();
        assert!(gate.enter(Kind::Request).is_err(), "it is closed");
        idle(&closed);
        assert_eq!(
            under_way.load(Ordering::SeqCst),
            0,
            "something goes on that nobody waits for"
        );
        assert_eq!(gate.counts().total(), 0);
        request.join().unwrap();
        assert_eq!(under_way.load(Ordering::SeqCst), 0);
    });
}

#[test]
fn the_last_one_to_go_is_never_missed() {
    in_every_order(|| {
        let gate = Gate::new(1);
        let permits = [(); 2].map(|()| gate.enter(Kind::Request).unwrap());
        let leave = permits.map(|permit| thread::spawn(move || drop(permit)));
        // A wake-up that is lost is a thread that sleeps for ever: the model says so.
        idle(&gate.close());
        leave.into_iter().for_each(|left| left.join().unwrap());
    });
}

#[test]
fn the_last_one_of_a_class_is_never_missed() {
    in_every_order(|| {
        let gate = Gate::new(1);
        let (request, tunnel) = (gate.enter(Kind::Request).unwrap(), gate.enter(Kind::Tunnel).unwrap());
        let left = thread::spawn(move || drop(request));
        block_on(gate.close().empty(Kind::Request));
        assert_eq!(gate.count(Kind::Request), 0);
        left.join().unwrap();
        assert_eq!(gate.counts().total(), 1);
        drop(tunnel);
    });
}

#[test]
fn what_comes_of_a_permit_is_waited_for_though_the_class_was_empty_for_a_moment() {
    in_every_order(|| {
        let gate = Gate::new(1);
        let request = gate.enter(Kind::Request).unwrap();
        let under_way = Arc::new(AtomicU64::new(1));
        let goes_on = {
            let under_way = Arc::clone(&under_way);
            thread::spawn(move || {
                let tunnel = request.also(Kind::Tunnel);
                drop(request);
                let again = tunnel.also(Kind::Request);
                drop(tunnel);
                under_way.store(0, Ordering::SeqCst);
                drop(again);
            })
        };
        idle(&gate.close());
        assert_eq!(under_way.load(Ordering::SeqCst), 0, "nobody waited for it");
        goes_on.join().unwrap();
    });
}

#[test]
fn of_two_who_close_one_is_the_first_and_both_find_it_closed() {
    in_every_order(|| {
        let gate = Gate::<Kind>::new(1);
        let other = {
            let gate = gate.clone();
            thread::spawn(move || {
                let first = gate.close().is_first();
                assert!(gate.enter(Kind::Request).is_err());
                first
            })
        };
        let first = gate.close().is_first();
        assert!(gate.enter(Kind::Request).is_err());
        assert_ne!(first, other.join().unwrap());
    });
}

#[test]
fn who_sleeps_until_the_close_is_told() {
    in_every_order(|| {
        let gate = Gate::<Kind>::new(1);
        let other = {
            let gate = gate.clone();
            thread::spawn(move || gate.close())
        };
        assert!(!block_on(gate.closed()).is_first());
        assert!(other.join().unwrap().is_first());
    });
}

#[test]
fn who_sleeps_until_it_is_called_off_is_told() {
    in_every_order(|| {
        let gate = Gate::new(1);
        let permit = gate.enter(Kind::Request).unwrap();
        let closed = gate.close();
        let other = thread::spawn(move || closed.abort());
        block_on(permit.cancelled());
        assert!(permit.is_cancelled());
        other.join().unwrap();
    });
}

#[test]
fn one_who_was_woken_in_vain_and_sleeps_again_is_woken_again() {
    in_every_order(|| {
        let gate = Gate::new(1);
        // The last one of its class wakes him though the other is still there.
        let permits = [Kind::Request, Kind::Tunnel].map(|kind| gate.enter(kind).unwrap());
        let leave = permits.map(|permit| thread::spawn(move || drop(permit)));
        idle(&gate.close());
        leave.into_iter().for_each(|left| left.join().unwrap());
    });
}

#[test]
fn one_who_gives_up_waiting_takes_nobody_elses_wake_up_along() {
    in_every_order(|| {
        let gate = Gate::new(1);
        let permit = gate.enter(Kind::Request).unwrap();
        let closed = gate.close();
        let gives_up = thread::spawn({
            let gate = gate.clone();
            move || {
                let closed = gate.close();
                block_on(closed.wait(std::future::ready(())))
            }
        });
        let left = thread::spawn(move || drop(permit));
        idle(&closed);
        gives_up.join().unwrap();
        left.join().unwrap();
    });
}

#[test]
fn one_who_lies_down_while_others_are_woken_is_woken_in_turn() {
    in_every_order(|| {
        let gate = Gate::new(1);
        let (request, tunnel) = (gate.enter(Kind::Request).unwrap(), gate.enter(Kind::Tunnel).unwrap());
        let (closed, leave) = (
            gate.close(),
            thread::spawn(move || {
                drop(request);
                drop(tunnel);
            }),
        );
        let other = thread::spawn(move || block_on(closed.empty(Kind::Request)));
        idle(&gate.close());
        other.join().unwrap();
        leave.join().unwrap();
    });
}
