//! Decides in which order an app's affairs are settled: one thing is taken in, then everything is planned, saved and done.

use super::pool::earliest;
use super::state::AppState;
use super::{AppHandle, Command, Event, World};
use crate::clock::{later, since};
use crate::ledger::Ledger;
use crate::policy::{PreviewPolicy, Retention};
use crate::record::AppRecord;
use book::Book;
use deleting::{Deletion, Leaving, Next, Waiting};
use deploying::Deploys;
use jiff::Timestamp;
use miren_api::id::AppName;
use pooling::{Pools, Runner};
use previewing::{Making, Previews};
use publishing::Publishing;
use running::{Running, Runs};
use std::sync::Arc;
use std::time::Duration;
use supply::Supply;
use tokio::sync::mpsc;

mod book;
mod deleting;
mod deploying;
mod ending;
mod fetching;
mod forgetting;
mod held;
mod last_words;
mod observing;
mod pooling;
mod previewing;
mod publishing;
mod released;
mod retaining;
mod running;
mod supply;
mod wanting;

pub use previewing::PreviewOrder;
pub use running::CLIENT_GONE;

/// Commands waiting for a task; more make their senders wait.
const QUEUE: usize = 64;
/// How soon a failed write is tried again.
const WRITE_AGAIN: Duration = Duration::from_secs(1);

/// One app: the only writer of its records, and the only one that starts or drains its sandboxes. It waits for nothing but its
/// store: whatever takes longer goes on beside it, and tells it by an event.
pub struct Task {
    book: Book,
    supply: Supply,
    publishing: Publishing,
    runner: Runner,
    running: Running,
    making: Making,
    leaving: Leaving,
    previews: PreviewPolicy,
    retention: Retention,
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
    pub fn new(world: &World, state: AppState, ledger: Ledger, exists: bool) -> (Self, Inbox, AppHandle) {
        let (commands, command_inbox) = mpsc::channel(QUEUE);
        let (events, event_inbox) = mpsc::unbounded_channel();
        let (book, seen) = Book::new(world, state, ledger, exists);
        let handle = AppHandle {
            commands,
            events: events.clone(),
            view: seen,
        };
        let inbox = Inbox {
            commands: command_inbox,
            events: event_inbox,
        };
        let task = Self {
            book,
            supply: Supply::new(world, events.clone()),
            publishing: Publishing::new(world, events),
            runner: Runner::new(world),
            running: Running::new(world),
            making: Making::default(),
            leaving: Leaving::default(),
            previews: world.policy.previews.clone(),
            retention: world.policy.retention.clone(),
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

    fn deploys(&mut self) -> Deploys<'_> {
        Deploys {
            book: &mut self.book,
            supply: &mut self.supply,
            publishing: &mut self.publishing,
            making: &self.making,
            desk: &self.runner.desk,
            node: self.runner.node,
        }
    }

    fn previews(&mut self) -> Previews<'_> {
        Previews {
            book: &mut self.book,
            supply: &mut self.supply,
            publishing: &mut self.publishing,
            making: &mut self.making,
            per_app: self.previews.per_app,
        }
    }

    fn pools(&mut self) -> Pools<'_> {
        Pools {
            book: &mut self.book,
            runner: &mut self.runner,
            making: &self.making,
        }
    }

    fn runs(&mut self) -> Runs<'_> {
        Runs {
            book: &mut self.book,
            runner: &mut self.runner,
            running: &mut self.running,
            publishing: &self.publishing,
        }
    }

    fn deletion(&mut self) -> Deletion<'_> {
        Deletion {
            book: &mut self.book,
            supply: &self.supply,
            publishing: &self.publishing,
            leaving: &mut self.leaving,
        }
    }

    /// Runs until the app is deleted or [`Command::Close`] comes. Plans nothing before it has been told what was adopted.
    pub async fn run(mut self, mut inbox: Inbox) -> Unserved {
        self.until_ended(&mut inbox).await;
        Unserved {
            waiting: self.leaving.waiting,
            inbox,
        }
    }

    async fn until_ended(&mut self, inbox: &mut Inbox) {
        match inbox.events.recv().await {
            Some(Event::Adopted(changes, waits)) => {
                self.pools().take_over(changes);
                drop(waits);
                self.pools().recover();
                self.runs().recover();
                self.deploys().recover();
                self.previews().recover();
            }
            Some(_) | None => {
                tracing::error!(app = %self.book.name(), "the task was told something before what was adopted");
                return;
            }
        }
        let mut readings = self.book.clock.readings();
        let reading = *readings.borrow_and_update();
        self.tell_times_by(reading.offset);
        loop {
            let wake = match self.step().await {
                Next::Wait(until) => earliest(until, self.deletion().give_up_waiting()),
                Next::Gone => return self.book.publish(),
            };
            self.book.publish();
            self.deletion().answer_deletions();
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
                        self.book.commit().await;
                        return;
                    }
                    Some(command) => self.obey(command).await,
                },
                () = self.sleep_until(wake) => {}
                // Set, or the machine slept: then what was waited for may be over.
                Ok(()) = readings.changed() => {
                    let reading = *readings.borrow_and_update();
                    self.tell_times_by(reading.offset);
                }
            }
        }
    }

    /// Sleeps until `at`; for ever when there is no such moment.
    async fn sleep_until(&self, at: Option<Timestamp>) {
        match at {
            Some(at) => tokio::time::sleep(since(at, self.book.now())).await,
            None => std::future::pending().await,
        }
    }

    fn tell_times_by(&mut self, offset: jiff::SignedDuration) {
        let by = self.book.tell_times_by(offset);
        self.making.shift(by);
        if !by.is_zero() {
            self.pools().keep_deadlines();
            self.runs().keep_deadlines();
        }
    }

    fn take_in(&mut self, event: Event) {
        match event {
            Event::Sandbox(change) => {
                let id = change.id.clone();
                self.pools().observe(change, true);
                self.runs().note_end(&id);
            }
            Event::Acknowledged(seq) => self.publishing.acknowledged(seq),
            Event::Unrouted(version) => self.previews().unrouted(version),
            Event::Fetched { seq, result } if self.book.state.deploys.contains_key(&seq) => {
                self.deploys().fetched(seq, result);
            }
            Event::Fetched { seq, result } if self.making.source(seq).is_some() => {
                self.previews().fetched(seq, result);
            }
            // It has ended meanwhile.
            Event::Fetched { .. } => {}
            Event::LastWords { seq, lines } => self.supply.last_words.set(seq, lines),
            Event::Told(run) => self.supply.released.told(&run),
            Event::Withdrawn => self.leaving.withdrawn(),
            Event::Cleared => self.leaving.cleared(),
            Event::NodeDrains(at_most) => {
                self.book.stopping = Some(at_most);
                self.pools().hurry();
            }
            Event::NodeOpens => self.book.stopping = None,
            Event::CalledOff => self.call_off(),
            Event::Drain(id, reason) => self.pools().drain(&id, reason),
            Event::Adopted(changes, _) => {
                let mut pools = self.pools();
                changes.into_iter().for_each(|change| pools.observe(change, false));
            }
        }
    }

    async fn obey(&mut self, command: Command) {
        match command {
            Command::Deploy { .. } | Command::Preview { .. } if self.book.state.app.deleting => {
                self.deletion().wait_for_end(command);
            }
            Command::Deploy { order, key, reply } => {
                let _ = reply.send(self.deploys().accept(order, key).await);
            }
            Command::Restart { key, reply } => {
                let _ = reply.send(self.deploys().restart(key).await);
            }
            Command::Earlier { asked, reply } => {
                let _ = reply.send(self.deploys().earlier(&asked).await);
            }
            Command::Cancel { id, reply } => {
                let _ = reply.send(self.deploys().cancel(&id).await);
            }
            Command::StopSandbox { id, reply } => {
                let _ = reply.send(self.pools().stop_sandbox(&id));
            }
            Command::Preview { order, reply } => self.previews().order(*order, reply).await,
            Command::Extend { label, ttl, reply } => {
                let _ = reply.send(self.previews().extend(&label, ttl).await);
            }
            Command::Unlabel { label, reply } => {
                let _ = reply.send(self.previews().unlabel(&label).await);
            }
            Command::Open {
                version,
                service,
                reply,
            } => {
                let _ = reply.send(self.previews().open(&version, &service).await);
            }
            Command::Run { request, reply } => {
                let begun = self.runs().begin(request).await;
                if let Err(Ok(unheard)) = reply.send(begun) {
                    self.runs().forsake(&unheard);
                }
            }
            Command::EndRun { id, why } => self.runs().end(&id, why),
            Command::Collect => self.collect().await,
            Command::Delete { keep_disks, reply } => self.delete(keep_disks, reply).await,
            Command::Replan | Command::Close => {}
        }
    }

    /// Plans and executes until nothing is left to do now; what comes next of the app.
    async fn step(&mut self) -> Next {
        let now = self.book.now();
        let mut wake = None;
        if self.book.state.app.deleting {
            // That it goes is saved first: then a restart goes on with it.
            if !self.book.commit().await {
                return Next::Wait(Some(later(now, WRITE_AGAIN)));
            }
            match self.deletion().advance().await {
                Next::Wait(until) => wake = until,
                Next::Gone => return Next::Gone,
            }
        }
        self.deploys().pass_on();
        if self.book.stopping.is_none() {
            let seqs: Vec<u64> = self.book.state.deploys.keys().copied().collect();
            for seq in seqs {
                wake = earliest(wake, self.deploys().advance(seq).await);
            }
            for seq in self.making.seqs() {
                wake = earliest(wake, self.previews().advance(seq).await);
            }
        }
        let (overdue, until) = self.runs().settle().await;
        wake = earliest(wake, until);
        for (run, why) in overdue {
            self.pools().drain(&run, &why);
        }
        let pools: Vec<_> = self.book.state.pools.keys().cloned().collect();
        for pool in pools {
            wake = earliest(wake, self.pools().settle(&pool).await);
        }
        wake = earliest(wake, self.pools().forget_ended(now));
        if self.book.stopping.is_none() && !self.book.state.app.deleting {
            wake = earliest(wake, self.previews().keep().await);
        }
        match self.book.commit().await {
            true => Next::Wait(wake),
            false => Next::Wait(earliest(wake, Some(later(now, WRITE_AGAIN)))),
        }
    }
}
