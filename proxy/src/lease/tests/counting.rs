//! A request is counted once at every instant: in each order of the steps by which requests come, go in and end, and sandboxes go.

use super::super::KeepLimits;
use super::super::entry::Lease;
use super::super::pool::demand_of;
use super::super::queue::{Queue, Ticket};
use super::super::wanted::{Present, Wanted};
use super::{Table, table};
use crate::slots::Slots;
use miren_api::SandboxId;
use miren_api::lease::LeaseKey;
use miren_loader::State;
use std::sync::Arc;
use std::time::Duration;

/// What one of them does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Actor {
    /// A request that waits in the queue first.
    Waits(usize),
    /// A request that finds room at once.
    Enters,
    /// The sandbox drains.
    Closes,
}

/// A request that waits, and how many of its steps it has made.
#[derive(Default)]
struct Waiting<'w> {
    step: u32,
    ticket: Option<Ticket<'w>>,
    present: Option<Present<'w>>,
}

/// Two requests that wait, one that does not, and the end of their sandbox, each at some step.
struct World<'w> {
    queue: &'w Queue,
    wanted: &'w Wanted,
    lease: Lease,
    slots: &'w Slots,
    waiting: [Waiting<'w>; 2],
    entering: u32,
    closed: bool,
    /// Requests in flight when the sandbox began to drain, that have not ended.
    left_over: u32,
}

/// Steps of each: join, go in, leave the queue, end; go in, be counted, end; close.
const STEPS: [(Actor, u32); 4] = [
    (Actor::Waits(0), 4),
    (Actor::Waits(1), 4),
    (Actor::Enters, 2),
    (Actor::Closes, 1),
];

impl World<'_> {
    /// Requests that are there and are not about to end with a sandbox that drains.
    fn there(&self) -> u32 {
        let waiting = self.waiting.iter().filter(|one| (1..4).contains(&one.step)).count();
        u32::try_from(waiting).unwrap() + u32::from(self.entering == 1) - self.left_over
    }

    fn step(&mut self, actor: Actor) {
        match actor {
            Actor::Waits(which) => self.wait_step(which),
            Actor::Enters if self.entering == 0 => {
                let entered = self.lease.enter(self.slots);
                assert_eq!(entered, !self.closed);
                match entered {
                    true => self.wanted.begin().entered(),
                    // It is sent away: it has had its turn.
                    false => self.entering += 1,
                }
                self.entering += 1;
            }
            Actor::Enters if self.entering == 1 => {
                self.leave();
                self.entering += 1;
            }
            Actor::Enters => {}
            Actor::Closes => {
                self.left_over = self.lease.in_flight();
                self.lease.close();
                self.closed = true;
            }
        }
    }

    fn wait_step(&mut self, which: usize) {
        let one = &mut self.waiting[which];
        match one.step {
            0 => {
                one.ticket = Some(self.queue.join(1).unwrap());
                one.present = Some(self.wanted.begin());
            }
            1 if self.lease.enter(self.slots) => one.present.take().unwrap().entered(),
            // Its client goes.
            1 => {
                *one = Waiting {
                    step: 3,
                    ..Waiting::default()
                };
            }
            2 => one.ticket = None,
            3 => self.leave(),
            _ => {}
        }
        self.waiting[which].step += 1;
    }

    fn leave(&mut self) {
        self.lease.leave();
        self.left_over = self.left_over.saturating_sub(u32::from(self.closed));
    }
}

/// Every order of these steps, as far as `done` says they have been made.
fn orders(done: &mut Vec<Actor>, visit: &mut impl FnMut(&[Actor])) {
    let mut is_whole = true;
    for (actor, steps) in STEPS {
        let made = done.iter().filter(|other| **other == actor).count();
        if made < steps as usize {
            is_whole = false;
            done.push(actor);
            orders(done, visit);
            done.pop();
        }
    }
    if is_whole {
        visit(done);
    }
}

fn lease(table: &Table, wanted: &Arc<Wanted>, key: LeaseKey) -> Lease {
    let granted = miren_api::lease::Lease {
        key,
        sandbox: SandboxId::from_text("sb-1"),
        endpoint: "127.0.0.1:1".parse().unwrap(),
        capacity: 10,
    };
    assert!(table.slots.is_running(key));
    Lease::new(
        &granted,
        Arc::clone(wanted),
        &Arc::new(KeepLimits::new(0, Duration::ZERO)),
    )
}

#[test]
fn f21_a_request_that_goes_from_the_queue_to_a_sandbox_is_counted_once_in_every_order() {
    let table = table();
    let key = table.lease(1).key;
    let (queue, mut count) = (Queue::new(10, 10), 0);
    orders(&mut Vec::new(), &mut |order| {
        let wanted = Arc::<Wanted>::default();
        let mut world = World {
            queue: &queue,
            wanted: &wanted,
            lease: lease(&table, &wanted, key),
            slots: &table.slots,
            waiting: Default::default(),
            entering: 0,
            closed: false,
            left_over: 0,
        };
        for (at, actor) in order.iter().enumerate() {
            world.step(*actor);
            let counted = demand_of(&wanted, &queue).total();
            assert_eq!(counted, u64::from(world.there()), "after {:?}", &order[..=at]);
        }
        count += 1;
    });
    assert_eq!(count, 34_650, "11! / (4! 4! 2! 1!)");
}

#[test]
fn f21_one_that_meets_the_end_of_a_sandbox_while_it_goes_in_is_counted_once() {
    let table = table();
    let wanted = Arc::<Wanted>::default();
    let key = table.lease(1).key;
    let lease = lease(&table, &wanted, key);
    let waiting = wanted.begin();
    table.control.advance(0, key.generation, State::Draining).unwrap();
    assert!(!lease.enter(&table.slots), "room, but not RUNNING");
    assert_eq!(wanted.count(), 1, "it goes on looking");
    lease.close();
    assert_eq!(wanted.count(), 1, "nothing was in flight");
    drop(waiting);
    assert_eq!(wanted.count(), 0);
}

#[test]
fn f21_one_that_is_counted_in_when_its_sandbox_closes_and_not_let_in_is_counted_once() {
    let table = table();
    let wanted = Arc::<Wanted>::default();
    let key = table.lease(1).key;
    let lease = lease(&table, &wanted, key);
    let waiting = wanted.begin();
    assert!(lease.count_in(), "room");
    table.control.advance(0, key.generation, State::Draining).unwrap();
    lease.close();
    assert!(!lease.is_let_in(&table.slots), "but not RUNNING");
    assert_eq!(wanted.count(), 1, "it goes on looking");
    drop(waiting);
    let next = wanted.begin();
    assert_eq!(wanted.count(), 1, "nobody but the next one");
    drop(next);
}
