//! Decides in which order an app's affairs are settled: one thing is taken in, then everything is planned, saved and done.

use super::pool::earliest;
use super::retention;
use super::stamps::Stamps;
use super::state::AppState;
use super::view::AppView;
use super::{AppHandle, Command, Event, World};
use crate::clock::{later, since};
use crate::ledger::{Ledger, somebody_else_wrote};
use crate::record::{AppRecord, Stored};
use crate::store::StoreError;
use deleting::Waiting;
use fetching::Fetches;
use jiff::{SignedDuration, Timestamp};
use leaving::Held;
use miren_api::ApiError;
use miren_api::id::{AppName, SandboxId};
use miren_api::resource::App;
use miren_sandbox::Budgets;
use previewing::Making;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};

mod deleting;
mod deploying;
mod fetching;
mod leaving;
mod observing;
mod pooling;
mod previewing;
mod retaining;

pub use previewing::PreviewOrder;

/// Commands waiting for a task; more make their senders wait.
const QUEUE: usize = 64;
/// How long a record of an ended sandbox is kept.
const KEEP_ENDED: Duration = Duration::from_secs(3600);
/// How many of them are kept for that long: of one pool, and of the app.
const MOST_ENDED: (usize, usize) = (50, 500);
/// How soon a failed write is tried again.
const WRITE_AGAIN: Duration = Duration::from_secs(1);

/// One app: the only writer of its records, and the only one that starts or drains its sandboxes.
pub struct Task {
    world: Arc<World>,
    state: AppState,
    ledger: Ledger,
    view: watch::Sender<Arc<AppView>>,
    /// To itself, for what it waits for outside.
    events: mpsc::UnboundedSender<Event>,
    /// Whether the store has it.
    exists: bool,
    /// Deploys whose snapshot every live proxy serves.
    acknowledged: BTreeSet<u64>,
    /// Sandboxes that have been told to drain.
    draining: BTreeSet<SandboxId>,
    /// The node drains, and nothing is planned: no drain takes longer than this.
    stopping: Option<Budgets>,
    held: Held,
    deletions: Vec<oneshot::Sender<Result<App, ApiError>>>,
    /// What the next app of this name is asked for.
    waiting: Waiting,
    fetches: Fetches,
    making: Making,
    /// How far it believes the wall clock to be ahead: what all times in its records are told by.
    offset: SignedDuration,
}

/// What a task receives.
pub struct Inbox {
    commands: mpsc::Receiver<Command>,
    events: mpsc::UnboundedReceiver<Event>,
}

/// What a task that has ended was asked for too late.
pub struct Unserved {
    waiting: Waiting,
    inbox: Inbox,
}

impl Unserved {
    /// All of it, in the order in which it came. Nothing can be sent to the task any more.
    pub async fn commands(mut self) -> Vec<Command> {
        self.inbox.commands.close();
        let mut commands = self.waiting.into_commands();
        while let Some(command) = self.inbox.commands.recv().await {
            commands.push(command);
        }
        commands
    }
}

impl Task {
    /// A task for an app with the records it was found with. `exists` says whether the store has it.
    pub fn new(world: Arc<World>, state: AppState, ledger: Ledger, exists: bool) -> (Self, Inbox, AppHandle) {
        let (commands, command_inbox) = mpsc::channel(QUEUE);
        let (events, event_inbox) = mpsc::unbounded_channel();
        let offset = world.clock.reading().offset;
        let first = AppView::of(&state, exists, &world, world.clock.told(offset));
        let (view, seen) = watch::channel(Arc::new(first));
        let handle = AppHandle {
            commands,
            events: events.clone(),
            view: seen,
        };
        let inbox = Inbox {
            commands: command_inbox,
            events: event_inbox,
        };
        let held = Held::resume(&world.admission, &state);
        let task = Self {
            world,
            state,
            ledger,
            view,
            events,
            exists,
            acknowledged: BTreeSet::new(),
            draining: BTreeSet::new(),
            stopping: None,
            held,
            deletions: Vec::new(),
            waiting: Waiting::default(),
            fetches: Fetches::default(),
            making: Making::default(),
            offset,
        };
        (task, inbox, handle)
    }

    /// The state and ledger of an app that nobody has deployed yet.
    pub fn fresh(world: &World, name: AppName) -> (AppState, Ledger) {
        let app = AppRecord {
            name,
            created_at: world.clock.now(),
            next_seq: 1,
            deleting: false,
            keep_disks: false,
        };
        (AppState::new(app), Ledger::new(Arc::clone(&world.store)))
    }

    /// Runs until the app is deleted or [`Command::Close`] comes. Plans nothing before it has been told what was adopted.
    pub async fn run(mut self, mut inbox: Inbox) -> Unserved {
        self.until_ended(&mut inbox).await;
        Unserved {
            waiting: self.waiting,
            inbox,
        }
    }

    async fn until_ended(&mut self, inbox: &mut Inbox) {
        match inbox.events.recv().await {
            Some(Event::Adopted(changes, waits)) => {
                self.take_over(changes);
                drop(waits);
                self.recover().await;
            }
            Some(_) | None => {
                tracing::error!(app = %self.state.app.name, "the task was told something before what was adopted");
                return;
            }
        }
        let mut readings = self.world.clock.readings();
        self.tell_times_by(readings.borrow_and_update().offset);
        loop {
            let mut wake = self.step().await;
            self.publish();
            self.answer_deletions();
            if self.is_gone() {
                if self.remove().await {
                    self.publish();
                    return;
                }
                wake = earliest(wake, Some(later(self.now(), WRITE_AGAIN)));
            }
            wake = earliest(wake, self.give_up_waiting());
            tokio::select! {
                biased;
                Some(event) = inbox.events.recv() => {
                    self.take_in(event);
                    // Whatever else is there already belongs to the same picture.
                    while let Ok(event) = inbox.events.try_recv() {
                        self.take_in(event);
                    }
                }
                command = inbox.commands.recv() => match command {
                    None | Some(Command::Close) => {
                        self.commit().await;
                        return;
                    }
                    Some(command) => self.obey(command).await,
                },
                () = self.sleep_until(wake) => {}
                // Set, or the machine slept: then what was waited for may be over.
                Ok(()) = readings.changed() => self.tell_times_by(readings.borrow_and_update().offset),
            }
        }
    }

    /// What all times in its records are told by: no step of the wall clock comes between two of them.
    fn now(&self) -> Timestamp {
        self.world.clock.told(self.offset)
    }

    /// Sleeps until `at`; for ever when there is no such moment.
    async fn sleep_until(&self, at: Option<Timestamp>) {
        match at {
            Some(at) => tokio::time::sleep(since(at, self.now())).await,
            None => std::future::pending().await,
        }
    }

    /// The wall clock was set: what was measured goes on from where it is.
    fn tell_times_by(&mut self, offset: SignedDuration) {
        let by = offset - self.offset;
        self.offset = offset;
        self.state.shift(by);
        self.making.shift(by);
    }

    fn take_in(&mut self, event: Event) {
        match event {
            Event::Sandbox(change) => self.observe(change, true),
            Event::Acknowledged(seq) => {
                self.acknowledged.insert(seq);
            }
            Event::Unrouted(version) => self.unrouted(version),
            Event::Fetched { seq, result } => self.fetched(seq, result),
            Event::NodeDrains(at_most) => {
                self.stopping = Some(at_most);
                self.hurry();
            }
            Event::NodeOpens => self.stopping = None,
            Event::CalledOff => self.call_off(),
            Event::Drain(id, reason) => self.drain(&id, reason),
            Event::Adopted(changes, _) => changes.into_iter().for_each(|change| self.observe(change, false)),
        }
    }

    async fn obey(&mut self, command: Command) {
        match command {
            Command::Deploy { .. } | Command::Preview { .. } if self.state.app.deleting => self.wait_for_end(command),
            Command::Deploy { request, key, reply } => {
                let _ = reply.send(self.accept(request, key).await);
            }
            Command::Earlier { asked, reply } => {
                let _ = reply.send(self.earlier(&asked).await);
            }
            Command::Cancel { id, reply } => {
                let _ = reply.send(self.cancel(&id).await);
            }
            Command::StopSandbox { id, reply } => {
                let _ = reply.send(self.stop_sandbox(&id));
            }
            Command::Preview { order, reply } => self.preview(*order, reply).await,
            Command::Extend { label, ttl, reply } => {
                let _ = reply.send(self.extend(&label, ttl).await);
            }
            Command::Unlabel { label, reply } => {
                let _ = reply.send(self.unlabel(&label).await);
            }
            Command::Open {
                version,
                service,
                reply,
            } => {
                let _ = reply.send(self.open(&version, &service).await);
            }
            Command::Collect => self.collect().await,
            Command::Delete { keep_disks, reply } => self.delete(keep_disks, reply).await,
            Command::Replan | Command::Close => {}
        }
    }

    /// Plans and executes until nothing is left to do now; returns when to look again.
    async fn step(&mut self) -> Option<Timestamp> {
        let now = self.now();
        let mut wake = None;
        if self.stopping.is_none() {
            let seqs: Vec<u64> = self.state.deploys.keys().copied().collect();
            for seq in seqs {
                wake = earliest(wake, self.advance(seq).await);
            }
            for seq in self.making.seqs() {
                wake = earliest(wake, self.advance_preview(seq).await);
            }
        }
        let pools: Vec<_> = self.state.pools.keys().cloned().collect();
        for pool in pools {
            wake = earliest(wake, self.settle(&pool).await);
        }
        wake = earliest(wake, self.forget_ended(now));
        if self.stopping.is_none() && !self.state.app.deleting {
            wake = earliest(wake, self.keep_previews().await);
        }
        match self.commit().await {
            true => wake,
            false => earliest(wake, Some(later(now, WRITE_AGAIN))),
        }
    }

    /// Saves everything noted. False: it failed, was reported, and is kept for the next time.
    async fn commit(&mut self) -> bool {
        match self.save().await {
            Ok(()) => true,
            Err(error) => {
                self.world.metrics.store_errors.inc();
                tracing::error!(app = %self.state.app.name, %error, "saving records failed; trying again");
                false
            }
        }
    }

    /// Saves everything noted. A record of the app that somebody else has written ends the process: what its task knows is not
    /// what is stored.
    async fn save(&mut self) -> Result<(), StoreError> {
        let saved = self.ledger.flush().await;
        if let Err(StoreError::Conflict { key }) = &saved {
            self.world.fatal.end(somebody_else_wrote(key));
        }
        saved
    }

    /// Forgets sandboxes that ended long ago or before many others, and retired pools that have none left.
    fn forget_ended(&mut self, now: Timestamp) -> Option<Timestamp> {
        let mut wake = None;
        let ended = self
            .state
            .sandboxes()
            .filter_map(|sandbox| Some((sandbox, sandbox.ended_at?)));
        let ended = ended.map(|(sandbox, at)| (&sandbox.pool, at, &sandbox.id));
        let mut old: Vec<SandboxId> = retention::surplus(ended, MOST_ENDED).into_iter().cloned().collect();
        for sandbox in self.state.sandboxes() {
            match sandbox.ended_at {
                Some(ended) if since(now, ended) >= KEEP_ENDED => old.push(sandbox.id.clone()),
                Some(ended) => wake = earliest(wake, Some(later(ended, KEEP_ENDED))),
                None => {}
            }
        }
        for id in old {
            if let Some(sandbox) = self.state.remove(&id) {
                self.ledger.delete(sandbox.key());
            }
        }
        let retired = self.state.pools.values().filter(|pool| pool.is_retiring());
        let empty: Vec<_> = retired
            .filter(|pool| {
                self.state
                    .members(&pool.id)
                    .iter()
                    .all(|sandbox| sandbox.state.is_terminal())
            })
            .map(|pool| pool.id.clone())
            .collect();
        for id in empty {
            self.world.node_faults.clear(&id);
            if let Some(pool) = self.state.pools.remove(&id) {
                self.ledger.delete(pool.key());
            }
        }
        wake
    }

    fn publish(&self) {
        let next = AppView::of(&self.state, self.exists, &self.world, self.now());
        let is_new = self.view.send_if_modified(|view| {
            let is_other = **view != next;
            if is_other {
                *view = Arc::new(next);
            }
            is_other
        });
        if is_new {
            // After it can be seen.
            self.world.admission.app_changed();
        }
    }
}
