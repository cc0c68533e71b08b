//! Room is found by whoever may use it: in each order of what becomes free, who looks, who leaves and who is sent away.

use super::super::queue::{Queue, Ticket};
use super::super::{KeepLimits, Leases, Tried, WaitLimits, Waited, Waiter};
use super::{Table, table};
use crate::control::Control;
use crate::metrics::Metrics;
use crate::request::refusal::Reason;
use crate::routing::{Served, Target};
use futures_util::FutureExt;
use miren_api::id::NodeId;
use miren_api::lease::{AcquireResponse, Lease, LeaseKey};
use miren_api::{AppName, PoolId, SandboxId, Server, VersionId};
use miren_loader::State;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

const SANDBOXES: usize = 3;
const RUNS: u64 = 3_000;

/// One that waits, and the sandboxes that it may use.
struct One<'q> {
    number: usize,
    ticket: Ticket<'q>,
    may_use: [bool; SANDBOXES],
}

/// A queue and the room there is, with what happened.
struct World<'q> {
    random: StdRng,
    queue: &'q Queue,
    waiting: Vec<One<'q>>,
    free: [usize; SANDBOXES],
    came: usize,
    story: Vec<String>,
}

impl World<'_> {
    /// Takes room that it may use, or passes the call on if there is some for others.
    fn look(&mut self, at: usize) {
        let one = &self.waiting[at];
        match (0..SANDBOXES).find(|sandbox| self.free[*sandbox] > 0 && one.may_use[*sandbox]) {
            Some(sandbox) => {
                self.story.push(format!("{} takes {sandbox}", one.number));
                self.free[sandbox] -= 1;
                self.waiting.remove(at);
            }
            None if self.free.iter().any(|room| *room > 0) => self.queue.pass_on(),
            None => {}
        }
    }

    /// Lets one act that was called, if it was; says whether anything happened.
    fn act(&mut self, at: usize) -> bool {
        match self.waiting[at].ticket.called().now_or_never() {
            None => return false,
            Some(Ok(())) => self.look(at),
            Some(Err(_)) => drop(self.waiting.remove(at)),
        }
        true
    }

    fn step(&mut self) {
        let at = (!self.waiting.is_empty()).then(|| self.random.random_range(0..self.waiting.len()));
        match (self.random.random_range(0..10), at) {
            (0..3, _) if self.waiting.len() < 6 => self.join(),
            (3..6, _) => {
                let sandbox = self.random.random_range(0..SANDBOXES);
                self.story.push(format!("{sandbox} has room"));
                self.free[sandbox] += 1;
                self.queue.call(1);
            }
            (6, Some(at)) => {
                self.story.push(format!("{} leaves", self.waiting[at].number));
                drop(self.waiting.remove(at));
            }
            (7, _) if self.random.random_range(0..4) == 0 => {
                self.story.push("all are refused".into());
                self.queue.refuse_all(Reason::BootFailed.into());
            }
            (_, Some(at)) => {
                self.act(at);
            }
            (_, None) => {}
        }
    }

    fn join(&mut self) {
        self.came += 1;
        let may_use = std::array::from_fn(|_| self.random.random_range(0..2) == 0);
        self.story.push(format!("{} comes and may use {may_use:?}", self.came));
        self.waiting.push(One {
            number: self.came,
            ticket: self.queue.join(1).unwrap(),
            may_use,
        });
        self.look(self.waiting.len() - 1);
    }

    /// Once everybody who was called has looked, nobody sleeps beside room that he may use.
    fn check(&mut self) {
        while (0..self.waiting.len()).any(|at| at < self.waiting.len() && self.act(at)) {}
        for one in &self.waiting {
            let beside = (0..SANDBOXES).find(|sandbox| self.free[*sandbox] > 0 && one.may_use[*sandbox]);
            assert_eq!(beside, None, "{} sleeps: {:#?}", one.number, self.story);
        }
    }
}

#[test]
fn f11_nobody_sleeps_beside_room_that_he_may_use_whoever_was_called_for_it() {
    for seed in 0..RUNS {
        let queue = Queue::new(100, 100);
        let mut world = World {
            random: StdRng::seed_from_u64(seed),
            queue: &queue,
            waiting: Vec::new(),
            free: [0; SANDBOXES],
            came: 0,
            story: vec![format!("seed {seed}")],
        };
        for _ in 0..12 {
            for _ in 0..5 {
                world.step();
            }
            world.check();
        }
    }
}

#[tokio::test]
async fn f11_a_call_to_one_that_is_sent_away_is_the_next_ones() {
    let queue = Queue::new(3, 100);
    let first = queue.join(1).unwrap();
    queue.call(1);
    queue.refuse_all(Reason::BootFailed.into());
    let late = queue.join(1).unwrap();
    assert_eq!(first.called().await, Err(Reason::BootFailed.into()));
    drop(first);
    assert_eq!(late.called().now_or_never(), Some(Ok(())), "there is room still");
}

fn target() -> Arc<Target> {
    Arc::new(Target {
        app: AppName::from_text("shop"),
        version: VersionId::from_text("shop-v1"),
        service: "web".into(),
    })
}

/// Leases on two sandboxes for one request each, with a control that is away.
fn two_sandboxes(table: &Table) -> (Leases, [LeaseKey; 2]) {
    let server = Server::Unix("/nonexistent/control.sock".into());
    let limits = WaitLimits {
        requests: 10,
        bytes: 1_000,
        time: Duration::from_secs(60),
    };
    let slots = table.slots_again();
    let (leases, _) = Leases::new(
        slots,
        Control::new(&server).unwrap(),
        limits,
        KeepLimits::new(0, Duration::ZERO),
        Arc::new(Metrics::new().unwrap()),
    );
    let keys = [0, 1].map(|slot| {
        let generation = table.control.begin(slot, "127.0.0.1:1".parse().unwrap()).unwrap();
        table.control.advance(slot, generation, State::Running).unwrap();
        LeaseKey {
            node: NodeId::FIRST,
            slot,
            generation,
        }
    });
    let granted = keys.map(|key| Lease {
        key,
        sandbox: SandboxId::from_text(format!("sb-{}", key.slot)),
        endpoint: "127.0.0.1:1".parse().unwrap(),
        capacity: 1,
    });
    leases.pool(&target()).install(AcquireResponse {
        pool: PoolId::from_text("pool-1"),
        leases: granted.into(),
        ttl_ms: 0,
        answer: 1,
        identity: None,
        hedge: true,
    });
    (leases, keys)
}

#[tokio::test(start_paused = true)]
async fn f11_room_that_the_first_who_waits_may_not_use_goes_to_the_next() {
    let table = table();
    let (leases, [one, other]) = two_sandboxes(&table);
    let pool = leases.pool(&target());
    let permits = [(); 2].map(|()| pool.admit(&Tried::default()).unwrap());
    let [freed, kept] = match permits[0].lease().key == one {
        true => permits,
        false => {
            let [first, second] = permits;
            [second, first]
        }
    };
    assert_eq!((freed.lease().key, kept.lease().key), (one, other));
    // It was sent there in vain, and goes to the other one.
    let tried = Tried {
        any: vec![one],
        refused: vec![one],
        hedge: true,
        ..Tried::default()
    };
    let any = Tried::default();
    let (_routing, changes) = watch::channel(Served::default());
    let deadline = Instant::now() + Duration::from_secs(60);
    let wait = |tried| {
        let (pool, mut changes) = (Arc::clone(&pool), changes.clone());
        async move {
            let bytes = 1;
            let waiter = Waiter { tried, bytes, deadline };
            pool.wait(waiter, &mut changes).await
        }
    };
    let (mut first, mut second) = (Box::pin(wait(&tried)), Box::pin(wait(&any)));
    assert!(first.as_mut().now_or_never().is_none() && second.as_mut().now_or_never().is_none());
    drop(freed);
    let admitted = tokio::select! {
        waited = &mut first => panic!("the first: {waited:?}"),
        waited = &mut second => waited,
    };
    assert!(
        matches!(&admitted, Waited::Admitted(permit) if permit.lease().key == one),
        "{admitted:?}"
    );
    drop(kept);
    assert!(matches!(first.await, Waited::Admitted(permit) if permit.lease().key == other));
}
