//! What the word tells of a sandbox's end, and what sandboxes cost that end by themselves.

use super::super::entry::Lease;
use super::super::tests::table;
use super::*;
use futures_util::FutureExt;
use std::sync::Arc;

#[test]
fn f14_a_stream_of_requests_that_end_sandboxes_costs_hardly_more_than_one_each() {
    let losses = Losses::default();
    let spent = |losses: &Losses| (0..1_000).take_while(|_| losses.spend()).count();
    assert_eq!(spent(&losses), 2, "at its beginning");
    (0..19).for_each(|_| losses.earn());
    assert_eq!(spent(&losses), 0);
    losses.earn();
    assert_eq!(spent(&losses), 1, "one in twenty answers");
    (0..100_000).for_each(|_| losses.earn());
    assert_eq!(spent(&losses), 10, "what is saved is bounded");
}

#[test]
fn f14_the_requests_of_one_sandbox_are_paid_for_together() {
    let (table, losses) = (table(), Losses::default());
    let lease = table.lease(100);
    assert!((0..100).all(|_| lease.is_loss_paid(|| losses.spend())));
    assert!(losses.spend() && !losses.spend(), "one of two is left");
    // Once refused, the same for all who were on it: what is earned meanwhile is for another.
    table.control.advance(0, lease.key.generation, State::Dead).unwrap();
    let next = table.lease(100);
    assert!(!next.is_loss_paid(|| losses.spend()));
    (0..1_000).for_each(|_| losses.earn());
    assert!(!next.is_loss_paid(|| losses.spend()));
}

#[test]
fn f14_the_word_tells_a_sandbox_that_ended_by_itself_from_one_that_was_stopped() {
    let table = table();
    let lease = table.lease(1);
    let ended = |lease: &Lease| Ended::from_word(table.slots.state(lease.key));
    let to = |lease: &Lease, state| table.control.advance(0, lease.key.generation, state).unwrap();
    assert_eq!(ended(&lease), Ended::Runs);
    for state in [State::Draining, State::Stopping, State::Stopped] {
        to(&lease, state);
        assert_eq!(ended(&lease), Ended::Stopped);
    }
    let next = table.lease(1);
    assert_eq!((ended(&lease), ended(&next)), (Ended::Unknown, Ended::Runs));
    to(&next, State::Dead);
    assert_eq!(ended(&next), Ended::ByItself);
}

#[tokio::test(start_paused = true)]
async fn f14_a_word_that_lags_behind_is_waited_for_until_the_lease_is_told() {
    let table = table();
    let lease = Arc::new(table.lease(1));
    let begun = tokio::time::Instant::now();
    assert_eq!(lease.ended(&table.slots, WORD_LAG).await, Ended::Runs);
    assert_eq!(begun.elapsed(), WORD_LAG, "it goes on");
    let mut told = Box::pin(lease.ended(&table.slots, WORD_LAG));
    assert_eq!(told.as_mut().now_or_never(), None);
    table.control.advance(0, lease.key.generation, State::Dead).unwrap();
    lease.close();
    assert_eq!(told.as_mut().now_or_never(), Some(Ended::ByItself));
    assert_eq!(
        lease.ended(&table.slots, WORD_LAG).now_or_never(),
        Some(Ended::ByItself)
    );
}
