//! What a gate lets in, counts and tells.

use super::*;
use std::future::{pending, ready};
use std::sync::atomic::AtomicUsize;
use std::task::{Context, Wake, Waker};

/// Counts how often it was woken.
#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: std::sync::Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Woken {
    fn times(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

fn poll<F: Future>(future: std::pin::Pin<&mut F>, woken: &std::sync::Arc<Woken>) -> Poll<F::Output> {
    let waker = Waker::from(std::sync::Arc::clone(woken));
    future.poll(&mut Context::from_waker(&waker))
}

fn counts(gate: &Gate<Kind>) -> [u64; 2] {
    Kind::ALL
        .iter()
        .map(|kind| gate.counts().of(*kind))
        .collect::<Vec<_>>()
        .try_into()
        .expect("two classes")
}

#[test]
fn what_is_let_in_is_counted_by_class_until_it_is_dropped() {
    let gate = Gate::new(1);
    let first = gate.enter(Kind::Request).unwrap();
    let second = gate.enter(Kind::Request).unwrap();
    let tunnel = first.also(Kind::Tunnel);
    assert_eq!((counts(&gate), gate.counts().total()), ([2, 1], 3));
    drop((first, tunnel));
    assert_eq!((counts(&gate), second.class()), ([1, 0], Kind::Request));
    drop(second);
    assert_eq!(gate.counts().total(), 0);
}

#[test]
fn a_closed_gate_lets_in_what_comes_of_a_permit_and_nothing_else() {
    let gate = Gate::new(7);
    let permit = gate.enter(Kind::Request).unwrap();
    assert!(!gate.is_closed());
    assert!(gate.close().is_first());
    assert!(!gate.close().is_first(), "closed already");
    assert!(gate.is_closed());
    assert_eq!(gate.enter(Kind::Request).unwrap_err(), Draining { epoch: 7 });
    let also = permit.also(Kind::Tunnel);
    drop(permit);
    assert_eq!(counts(&gate), [0, 1], "the one that was refused left no trace");
    drop(also);
    assert_eq!(counts(&gate), [0, 0]);
}

#[test]
fn the_wait_ends_with_the_last_permit_or_at_the_deadline() {
    let gate = Gate::new(1);
    let permit = gate.enter(Kind::Request).unwrap();
    let closed = gate.close();
    let woken = std::sync::Arc::<Woken>::default();
    let Poll::Ready(Waited::TimedOut(left)) = poll(pin!(closed.wait(ready(()))), &woken) else {
        panic!("the deadline is over");
    };
    assert_eq!((left.of(Kind::Request), left.of(Kind::Tunnel)), (1, 0));
    let mut wait = pin!(closed.wait(pending()));
    assert!(poll(wait.as_mut(), &woken).is_pending());
    let tunnel = permit.also(Kind::Tunnel);
    drop(permit);
    assert!(poll(wait.as_mut(), &woken).is_pending(), "one is left");
    let before = woken.times();
    drop(tunnel);
    assert!(woken.times() > before);
    assert_eq!(poll(wait, &woken), Poll::Ready(Waited::Idle));
    assert_eq!(poll(pin!(closed.wait(ready(()))), &woken), Poll::Ready(Waited::Idle));
}

#[test]
fn one_class_is_waited_for_whatever_goes_on_of_another() {
    let gate = Gate::new(1);
    let (request, _tunnel) = (gate.enter(Kind::Request).unwrap(), gate.enter(Kind::Tunnel).unwrap());
    let closed = gate.close();
    let woken = std::sync::Arc::<Woken>::default();
    let mut empty = pin!(closed.empty(Kind::Request));
    assert!(poll(empty.as_mut(), &woken).is_pending());
    drop(request);
    assert_eq!(woken.times(), 1);
    assert!(poll(empty, &woken).is_ready());
}

#[test]
fn permits_are_told_that_they_are_called_off_and_nobody_else_is_woken_by_it() {
    let gate = Gate::new(1);
    let permit = gate.enter(Kind::Request).unwrap();
    let woken = std::sync::Arc::<Woken>::default();
    let mut cancelled = pin!(permit.cancelled());
    assert!(poll(cancelled.as_mut(), &woken).is_pending());
    let closed = gate.close();
    assert!(!permit.is_cancelled(), "to close is not to call off");
    assert!(poll(cancelled.as_mut(), &woken).is_pending());
    let before = woken.times();
    closed.abort();
    assert!(permit.is_cancelled() && woken.times() > before);
    assert!(poll(cancelled, &woken).is_ready());
    assert!(permit.also(Kind::Tunnel).is_cancelled());
    assert_eq!(counts(&gate), [1, 0], "it is there until it is dropped");
}

#[test]
fn who_waits_for_the_close_is_told() {
    let gate = Gate::<Kind>::new(1);
    let woken = std::sync::Arc::<Woken>::default();
    let mut closed = pin!(gate.closed());
    assert!(poll(closed.as_mut(), &woken).is_pending());
    gate.close();
    assert_eq!(woken.times(), 1);
    assert!(matches!(poll(closed, &woken), Poll::Ready(closed) if !closed.is_first()));
}

#[test]
fn nobody_is_looked_for_once_the_last_who_slept_gave_up() {
    let gate = Gate::new(1);
    let permit = gate.enter(Kind::Request).unwrap();
    let closed = gate.close();
    let woken = std::sync::Arc::<Woken>::default();
    {
        let mut one = pin!(closed.wait(pending()));
        assert!(poll(one.as_mut(), &woken).is_pending());
        {
            let mut other = pin!(closed.empty(Kind::Request));
            assert!(poll(other.as_mut(), &woken).is_pending());
        }
        assert!(gate.has(WAITED), "one sleeps still");
    }
    assert!(!gate.has(WAITED));
    drop(permit);
    assert_eq!(woken.times(), 0);
}

/// L2: nobody who sleeps, wakes or lies down holds up who only looks, enters or leaves.
#[test]
fn l2_status_entering_and_leaving_take_no_lock() {
    let gate = Gate::new(3);
    let (told, emptied) = (gate.inner.told.hold(), gate.inner.emptied.hold());
    let (done, is_done) = std::sync::mpsc::channel();
    let other = gate.clone();
    let looks = std::thread::spawn(move || {
        let permit = other.enter(Kind::Request).unwrap();
        let also = permit.also(Kind::Tunnel);
        let seen = (other.counts().total(), other.count(Kind::Tunnel), other.is_closed());
        drop((also, permit));
        let _ = format!("{other:?}");
        done.send((seen, other.counts().total())).unwrap();
    });
    let seen = is_done.recv_timeout(std::time::Duration::from_secs(60));
    drop((told, emptied));
    assert_eq!(seen.expect("it waits for a lock"), ((2, 1, false), 0));
    looks.join().unwrap();
}

/// L3 and L6: what is closed stays closed, under its epoch, whatever comes of it; another epoch is another gate.
#[test]
fn l3_l6_a_gate_is_never_opened_again_and_the_next_one_is_another() {
    let (gate, next) = (Gate::new(1), Gate::new(2));
    let permit = gate.enter(Kind::Request).unwrap();
    let closed = gate.close();
    let woken = std::sync::Arc::<Woken>::default();
    assert!(matches!(
        poll(pin!(closed.wait(ready(()))), &woken),
        Poll::Ready(Waited::TimedOut(_))
    ));
    // L4: who waited in vain may wait again, by another deadline.
    drop(permit);
    assert_eq!(poll(pin!(closed.wait(pending())), &woken), Poll::Ready(Waited::Idle));
    drop(closed);
    assert_eq!(gate.enter(Kind::Request).unwrap_err(), Draining { epoch: 1 });
    assert!(next.enter(Kind::Request).is_ok());
}

/// L1: who was let in is never asked again; what comes of it is counted, by its own close too (L5).
#[test]
fn l1_l5_a_permit_holds_through_the_close_and_whatever_it_begins_is_waited_for() {
    let gate = Gate::new(1);
    let request = gate.enter(Kind::Request).unwrap();
    let closed = gate.close();
    assert!(!request.is_cancelled(), "closing calls nothing off");
    let tunnel = request.also(Kind::Tunnel);
    drop(request);
    let woken = std::sync::Arc::<Woken>::default();
    let mut wait = pin!(closed.wait(pending()));
    assert!(
        poll(wait.as_mut(), &woken).is_pending(),
        "a tunnel outlives its request"
    );
    drop(tunnel);
    assert_eq!(poll(wait, &woken), Poll::Ready(Waited::Idle));
}

#[test]
fn a_count_at_its_limit_changes_nothing_beside_it() {
    let gate = Gate::new(1);
    let permit = gate.enter(Kind::Request).unwrap();
    gate.inner.word.fetch_or(TOTAL, Ordering::SeqCst);
    let refused = |more: &dyn Fn()| std::panic::catch_unwind(std::panic::AssertUnwindSafe(more)).is_err();
    assert!(refused(&|| drop(gate.enter(Kind::Request))));
    assert!(refused(&|| drop(permit.also(Kind::Tunnel))));
    assert!(!gate.is_closed() && !gate.has(WAITED) && !permit.is_cancelled());
    assert_eq!(gate.inner.word.load(Ordering::SeqCst), TOTAL);
    assert_eq!(counts(&gate), [1, 0]);
    assert!(gate.close().is_first());
    assert!(refused(&|| drop(permit.also(Kind::Tunnel))));
    assert!(gate.is_closed() && !permit.is_cancelled());
}
