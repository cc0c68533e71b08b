//! Carries out what the phases say: hears what happens to the proxy, and opens, shuts and cuts what there is.

use crate::lease::Leases;
use crate::life::gate::{Class, Gate};
use crate::life::phase::{Event, Left, Life, Phase, Step};
use crate::life::upgrade::{Offer, Offers};
use crate::life::{Ended, Stop};
use crate::listen::{Door, House};
use crate::metrics::Metrics;
use crate::request::Parts;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

/// Tells others that requests can be served.
pub type Announce = Box<dyn FnOnce() + Send>;

/// What is stopped.
#[derive(Debug)]
pub struct Works {
    pub gate: Arc<Gate>,
    pub house: Arc<House>,
    pub metrics: Arc<Metrics>,
    pub door: watch::Sender<Door>,
    pub phase: watch::Sender<Phase>,
    pub leases: Leases,
}

/// From whom it is heard that the proxy is to stop.
pub struct Voices {
    pub orders: watch::Receiver<Stop>,
    /// Routing is there; this is called once that is so for everybody else.
    pub ready: oneshot::Receiver<Announce>,
    pub offers: Offers,
    /// Ends when nothing new can come in.
    pub listeners: JoinHandle<()>,
}

impl Works {
    pub fn new(parts: &Parts, house: Arc<House>) -> Self {
        Self {
            gate: Arc::clone(&parts.gate),
            house,
            metrics: Arc::clone(&parts.metrics),
            door: watch::Sender::new(Door::NotYet),
            phase: watch::Sender::new(Phase::Boot),
            leases: parts.leases.clone(),
        }
    }

    /// Connections are taken from now on.
    pub fn open(&self) {
        self.door.send_replace(Door::Open);
    }

    /// Goes through the phases to the last one.
    pub async fn run(&self, mut life: Life, voices: Voices) -> Ended {
        let Voices {
            mut orders,
            ready,
            mut offers,
            listeners,
        } = voices;
        let mut heard = *orders.borrow();
        let (mut ready, mut lost, mut told, mut other) = (Some(ready), false, None, None);
        let mut idle = std::pin::pin!(self.idle(listeners));
        if heard > Stop::No {
            told = Some(event_of(heard));
        }
        while life.phase() != Phase::Exit {
            let wakes_at = life.wakes_at();
            let (mut successor, mut announce) = (None, None);
            let event = match told.take() {
                Some(event) => event,
                None => tokio::select! {
                    // A sender that is gone can give no order any more.
                    Ok(order) = next_order(&mut orders, heard) => {
                        heard = order;
                        event_of(order)
                    }
                    now = has_come(&mut ready) => {
                        announce = Some(now);
                        Event::Ready
                    }
                    offer = offers.next() => {
                        successor = Some(offer);
                        Event::HandedOver
                    }
                    controls = self.leases.binding().ended(), if !lost => {
                        lost = true;
                        other = self.let_go(controls, life.phase());
                        Event::TableLost
                    }
                    () = &mut idle, if life.phase() >= Phase::Draining => Event::Idle,
                    () = until(wakes_at) => Event::Time,
                },
            };
            self.step(&mut life, event, successor.as_ref(), &mut offers);
            if let Some(offer) = successor {
                offer.take();
            }
            if let Some(announce) = announce.filter(|_| life.phase() == Phase::Serving) {
                announce();
            }
        }
        let own = self.leases.binding().own().to_string();
        match other {
            Some(controls) => Ended::OtherTable { own, controls },
            None if life.has_cut() => Ended::Cut,
            None => Ended::Finished,
        }
    }

    /// The rest is not done by words that nobody writes. Whose words they are, where that ends what would have gone on.
    fn let_go(&self, controls: String, phase: Phase) -> Option<String> {
        let own = self.leases.binding().own();
        tracing::error!(%own, controls, "control writes another slot table: taking no more requests");
        self.leases.let_go();
        (phase < Phase::LameDuck).then_some(controls)
    }

    fn step(&self, life: &mut Life, event: Event, successor: Option<&Offer>, offers: &mut Offers) {
        let (before, left) = (life.phase(), self.left());
        let steps = life.on(event, left, Instant::now());
        if life.phase() != before {
            self.metrics.end.is_in(life.phase());
            let (Left { requests, tunnels }, phase) = (left, life.phase().name());
            tracing::info!(phase, ?event, requests, tunnels, "another phase");
        }
        if life.phase() > Phase::LameDuck {
            // Before the door: what it holds of the sockets keeps them open.
            offers.close();
        }
        for step in steps {
            self.take(step, left, successor);
        }
        // Last: who is told of a phase finds it begun.
        self.phase.send_replace(life.phase());
    }

    fn take(&self, step: Step, left: Left, successor: Option<&Offer>) {
        match step {
            Step::KeepNone => self.gate.close(),
            Step::ShutDoor => drop(self.door.send_replace(Door::Shut)),
            Step::LeaveDoor => {
                let taken = successor.map(|offer| offer.addresses.clone()).unwrap_or_default();
                self.door.send_replace(Door::Left(taken));
            }
            Step::CutRequests => {
                self.metrics.end.cut_requests.inc_by(left.requests as u64);
                self.house.cut_requests();
            }
            Step::CutTunnels => {
                self.metrics.end.cut_tunnels.inc_by(left.tunnels as u64);
                self.gate.say_goodbye();
            }
        }
    }

    /// A tunnel is a request that goes on: it is counted as both.
    fn left(&self) -> Left {
        let (requests, tunnels) = (self.gate.count(Class::Request), self.gate.count(Class::Tunnel));
        Left {
            requests: requests.saturating_sub(tunnels),
            tunnels,
        }
    }

    /// Returns when no connection is left and none can come.
    async fn idle(&self, listeners: JoinHandle<()>) {
        if let Err(error) = listeners.await {
            tracing::error!(%error, "the listeners failed");
        }
        self.gate.empty(Class::Connection).await;
    }
}

fn event_of(order: Stop) -> Event {
    match order {
        Stop::No | Stop::Finish => Event::Told,
        Stop::Now => Event::Insisted,
    }
}

/// An order that goes further than the last one.
async fn next_order(orders: &mut watch::Receiver<Stop>, heard: Stop) -> Result<Stop, watch::error::RecvError> {
    orders.wait_for(|order| *order > heard).await.map(|order| *order)
}

/// Waits for it once; for ever when it was heard, or cannot come any more.
async fn has_come(ready: &mut Option<oneshot::Receiver<Announce>>) -> Announce {
    if let Some(waiting) = ready {
        let outcome = waiting.await;
        *ready = None;
        if let Ok(announce) = outcome {
            return announce;
        }
    }
    std::future::pending().await
}

async fn until(instant: Option<Instant>) {
    match instant {
        Some(instant) => tokio::time::sleep_until(instant.into()).await,
        None => std::future::pending().await,
    }
}
