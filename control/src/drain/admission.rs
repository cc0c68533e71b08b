//! Decides what a node lets in: work by the gate of the API, starts by the gate of sandboxes, which is closed after it.
//!
//! What was let in holds a permit until it is over and is never asked again: a deploy whose sandbox has still to be started finds the
//! second gate open, because that is closed only when the last of its kind is over.

use crate::record::NodeRecord;
use miren_api::node::NodeGate;
use miren_api::{ApiError, ErrorCode};
use miren_gate::{Closed, Counts, Gate, Permit};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

#[cfg(test)]
mod tests;

/// When whoever was refused may ask again, in seconds.
const ASK_AGAIN: u64 = 5;
/// How long a request counts after its proxy was told of the sandbox that was woken for it: a thousand times what it needs to be sent.
const ON_ITS_WAY: Duration = Duration::from_secs(1);

/// What the gate of the API lets in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// From its number to its end.
    Deploy,
    Preview,
    /// Of a run, until it is saved.
    Run,
    /// Of a folder or an image, for one of the two.
    Upload,
    /// A request that waits for a sandbox to be woken for it, until it is on its way there.
    Activation,
    /// Any other request that begins something.
    Change,
}

impl miren_gate::Class for Work {
    const ALL: &'static [Self] = &[
        Self::Deploy,
        Self::Preview,
        Self::Run,
        Self::Upload,
        Self::Activation,
        Self::Change,
    ];

    fn index(self) -> usize {
        self as usize
    }
}

impl Work {
    /// Whether it leads to something that has no place on a node yet.
    fn is_placement(self) -> bool {
        matches!(self, Self::Deploy | Self::Preview | Self::Run | Self::Upload)
    }
}

/// What the gate of sandboxes lets in: each from the decision to start one until it is RUNNING or has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    Sandbox,
}

impl miren_gate::Class for Start {
    const ALL: &'static [Self] = &[Self::Sandbox];

    fn index(self) -> usize {
        self as usize
    }
}

/// The two gates of one generation: neither is ever opened again.
#[derive(Clone, Debug)]
struct Gates {
    generation: u64,
    api: Gate<Work>,
    starts: Gate<Start>,
}

impl Gates {
    fn new(generation: u64) -> Self {
        Self {
            generation,
            api: Gate::new(generation),
            starts: Gate::new(generation),
        }
    }
}

/// What the gates are and have let in.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    pub gate: NodeGate,
    pub generation: u64,
    pub admitted: Counts<Work>,
    pub starts: u64,
}

/// Where it is asked whether something may begin. Cheap to clone.
#[derive(Clone)]
pub struct Admission {
    gates: Arc<watch::Sender<Gates>>,
    /// Counts changes of the pictures of apps.
    news: Arc<watch::Sender<u64>>,
    node: watch::Receiver<NodeRecord>,
    epoch: u64,
}

impl Admission {
    /// Both gates are open. `epoch` is that of the daemon.
    pub fn new(epoch: u64, node: watch::Receiver<NodeRecord>) -> Self {
        Self {
            gates: Arc::new(watch::Sender::new(Gates::new(0))),
            news: Arc::new(watch::Sender::new(0)),
            node,
            epoch,
        }
    }

    /// Lets work in.
    ///
    /// # Errors
    /// `draining` once the gate of the API is closed; `cordoned` for what would need a place on the node.
    pub fn admit(&self, work: Work) -> Result<Permit<Work>, ApiError> {
        let api = self.gates.borrow().api.clone();
        // In this order: who drains a node is told of nothing else.
        let permit = api.enter(work).map_err(|_| self.draining())?;
        if work.is_placement() && self.node.borrow().cordoned {
            return Err(self.cordoned());
        }
        Ok(permit)
    }

    /// Counts in what an earlier daemon let in.
    pub fn resume(&self, work: Work) -> Option<Permit<Work>> {
        let api = self.gates.borrow().api.clone();
        api.enter(work).ok()
    }

    /// Lets the start of a sandbox in; none once that gate is closed.
    pub fn start(&self) -> Option<Permit<Start>> {
        let starts = self.gates.borrow().starts.clone();
        starts.enter(Start::Sandbox).ok()
    }

    /// Whether pools may grow for requests: until the last one that was let in has what it waits for.
    pub fn grows(&self) -> bool {
        let gates = self.gates.borrow();
        !gates.api.is_closed() || gates.api.count(Work::Activation) > 0
    }

    /// A sandbox was woken for a request that is told of it now: it counts until it must have got there.
    pub fn hand_over(&self, permit: Permit<Work>) {
        miren_log::spawn("a request on its way", async move {
            tokio::time::sleep(ON_ITS_WAY).await;
            drop(permit);
        });
    }

    /// Whether a request may be what a sandbox is started for.
    pub fn takes_activations(&self) -> bool {
        !self.gates.borrow().api.is_closed()
    }

    /// Lets no work in from now on. Those who follow are told after that.
    pub fn close_api(&self) -> Closed<Work> {
        let api = self.gates.borrow().api.clone();
        let closed = api.close();
        self.tell();
        closed
    }

    /// Lets no start in from now on.
    pub fn close_starts(&self) -> Closed<Start> {
        let starts = self.gates.borrow().starts.clone();
        let closed = starts.close();
        self.tell();
        closed
    }

    /// Lets everything in again: by new gates, as those that were closed stay so.
    pub fn open(&self) {
        self.gates
            .send_modify(|gates| *gates = Gates::new(gates.generation + 1));
    }

    fn tell(&self) {
        self.gates.send_modify(|_| {});
    }

    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// What they are now. Takes no lock of theirs.
    pub fn seen(&self) -> Seen {
        let gates = self.gates.borrow().clone();
        Seen {
            gate: match (gates.api.is_closed(), gates.starts.is_closed()) {
                (_, true) => NodeGate::Closed,
                (true, false) => NodeGate::ApiClosed,
                (false, false) => NodeGate::Open,
            },
            generation: gates.generation,
            admitted: gates.api.counts(),
            starts: gates.starts.count(Start::Sandbox),
        }
    }

    /// Tells when a gate is closed, or both are opened anew.
    pub fn changes(&self) -> Changes {
        Changes(self.gates.subscribe())
    }

    /// The picture of an app has changed: a sandbox has reached another state, or a deploy has.
    pub fn app_changed(&self) {
        self.news.send_modify(|count| *count += 1);
    }

    /// Changes with every picture of an app.
    pub fn news(&self) -> watch::Receiver<u64> {
        self.news.subscribe()
    }

    /// Why nothing new is let in while the node drains.
    pub fn draining(&self) -> ApiError {
        let (node, epoch) = (self.node.borrow().name.clone(), self.epoch);
        let message = format!("node {node} drains (epoch {epoch}): it takes nothing new");
        let error = ApiError::new(ErrorCode::Draining, message).retry_after(ASK_AGAIN);
        error.remedy("`miren node status` says how far it is, `miren node undrain` lets it take work again")
    }

    fn cordoned(&self) -> ApiError {
        let node = self.node.borrow().name.clone();
        let message =
            format!("node {node} is cordoned: it takes no new deploys, previews and runs; what it runs goes on");
        let error = ApiError::new(ErrorCode::Cordoned, message).retry_after(ASK_AGAIN);
        error.remedy("miren node uncordon")
    }
}

/// What [`Admission::changes`] returns.
pub struct Changes(watch::Receiver<Gates>);

impl Changes {
    /// Resolves at the next change.
    pub async fn next(&mut self) {
        if self.0.changed().await.is_err() {
            // The gates live as long as control: nothing changes any more.
            std::future::pending::<()>().await;
        }
    }
}
