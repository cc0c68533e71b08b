//! Decides when a node's drain is looked at, does what is planned, and is the only one that writes how far it is.

use super::admission::Admission;
use super::phase::{Drain, FORCED, Step};
use super::plan::{self, Action, Plan};
use super::seen::{self, Look, Progress};
use crate::app::{Event, World};
use crate::apps::Apps;
use crate::clock::{later, since};
use crate::fatal::outlived;
use crate::record::DrainRecord;
use jiff::Timestamp;
use miren_api::node::{DrainRequest, NodeStatus, parse_timeout};
use miren_api::{ApiError, ErrorCode};
use miren_fault::Point;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};

mod asked;
mod idle;
mod logging;

use logging::Cadence;

/// Requests to the node that wait for their turn; more make their senders wait.
const ASKS: usize = 16;
/// The least time between two looks that news of sandboxes lead to: a node that ends all at once has thousands of them.
const PACE: Duration = Duration::from_millis(20);
/// How long it may take to look what is left of ended sandboxes.
const LOOK: Duration = Duration::from_secs(5);
/// What is said of a look that did not end.
const NOT_LOOKED: &str = "looking what is left of ended sandboxes";
/// Why a sandbox drains.
const REASON: &str = "the node drains";

/// What may be asked of a node.
enum Ask {
    Cordon(bool),
    Drain(DrainRequest),
    Undrain,
    /// The daemon ends, and nothing shall be left running: see [`NodeDrain::stop`].
    Stop {
        limit: Duration,
        is_patient: bool,
    },
}

type Answer = oneshot::Sender<Result<(), ApiError>>;

/// The way to the node's drain, and to how far it is.
pub struct NodeDrain {
    world: Arc<World>,
    apps: Arc<Apps>,
    asks: mpsc::Sender<(Ask, Answer)>,
    inbox: Mutex<Option<mpsc::Receiver<(Ask, Answer)>>>,
    progress: watch::Sender<Arc<Progress>>,
}

/// How a drain for the end of the daemon ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stopped {
    Empty,
    /// What is left after all the time there was.
    Left(Vec<String>),
}

impl NodeDrain {
    /// Goes on with a drain that an earlier daemon of the same boot of the machine had begun. The gates it had closed are
    /// closed from now on.
    pub fn load(world: Arc<World>, apps: Arc<Apps>) -> Self {
        let (asks, inbox) = mpsc::channel(ASKS);
        let record = world.nodes.follow().borrow().drain.clone();
        let drain = record.map(|record| resumed(&record, &world));
        let progress = Progress {
            drain,
            ..Progress::default()
        };
        Self {
            world,
            apps,
            asks,
            inbox: Mutex::new(Some(inbox)),
            progress: watch::Sender::new(Arc::new(progress)),
        }
    }

    /// The node, now. Answers at once, whatever hangs.
    pub fn status(&self) -> NodeStatus {
        let progress = Arc::clone(&self.progress.borrow());
        Look::at(&self.world, &self.apps).status(&self.world, &progress)
    }

    /// Changes with each look at a drain under way.
    pub fn follow(&self) -> watch::Receiver<impl Send + Sync + use<>> {
        self.progress.subscribe()
    }

    /// Takes no new placements from now on, or does so again.
    pub async fn cordon(&self, cordoned: bool) -> Result<NodeStatus, ApiError> {
        self.ask(Ask::Cordon(cordoned)).await
    }

    /// Begins to drain the node, or shortens or forces what has begun; does not wait for its end.
    pub async fn drain(&self, request: DrainRequest) -> Result<NodeStatus, ApiError> {
        self.ask(Ask::Drain(request)).await
    }

    /// Takes work again. What has begun to end ends.
    pub async fn undrain(&self) -> Result<NodeStatus, ApiError> {
        self.ask(Ask::Undrain).await
    }

    async fn ask(&self, ask: Ask) -> Result<NodeStatus, ApiError> {
        let ended = || {
            ApiError::new(
                ErrorCode::Internal,
                "the drain of the node has ended before it answered",
            )
        };
        let (reply, answer) = oneshot::channel();
        self.asks.send((ask, reply)).await.map_err(|_| ended())?;
        match answer.await {
            Ok(done) => done?,
            Err(_) => {
                outlived().await;
                return Err(ended());
            }
        }
        Ok(self.status())
    }

    /// Drains the node because the daemon ends; returns when nothing is left, or the forced phase is over. With `is_patient`,
    /// what was let in is waited for; otherwise the next daemon goes on with it. It is not kept: that one takes work.
    ///
    /// # Errors
    /// When nobody is there any more who would do it.
    pub async fn stop(&self, limit: Duration, is_patient: bool) -> Result<Stopped, ApiError> {
        let mut progress = self.progress.subscribe();
        self.ask(Ask::Stop { limit, is_patient }).await?;
        let clock = &self.world.clock;
        let is_over = |progress: &Arc<Progress>| {
            let drain = progress.drain.as_ref();
            drain.is_some_and(|drain| drain.step == Step::Empty || drain.is_overdue(clock.steady()))
        };
        // The sender is `self`.
        let _ = progress.wait_for(is_over).await;
        let status = self.status();
        match status.overdue {
            false => Ok(Stopped::Empty),
            true => {
                let left = status
                    .blockers
                    .iter()
                    .map(|blocker| format!("{}: {}", blocker.id, blocker.why));
                Ok(Stopped::Left(left.collect()))
            }
        }
    }

    /// The daemon is about to be gone.
    pub fn down(&self) {
        self.progress
            .send_modify(|progress| Arc::make_mut(progress).down = true);
    }

    /// Answers what is asked, and takes a drain to its end. Once, for as long as the daemon lives.
    pub async fn run(&self) {
        let Some(inbox) = self.inbox.lock().take() else {
            return std::future::pending().await;
        };
        let news = self.world.admission.news();
        let mut keeper = Keeper {
            node: self,
            inbox,
            news,
            progress: Progress::clone(&self.progress.borrow()),
            is_kept: true,
            is_stopping: false,
            cadence: Cadence::default(),
            was_drained: false,
        };
        if keeper
            .progress
            .drain
            .as_ref()
            .is_some_and(|drain| drain.step >= Step::Starts)
        {
            self.apps
                .tell_all(|| Event::NodeDrains(self.world.policy.drain.at_most));
        }
        loop {
            let wake = keeper.advance().await;
            keeper.wait(wake).await;
        }
    }
}

/// Closes what an earlier daemon had closed.
fn resumed(record: &DrainRecord, world: &World) -> Drain {
    let now = world.clock.steady();
    let left = record.deadline.map(|until| since(until, world.clock.now()));
    let mut drain = Drain::begin(now, Duration::ZERO, true);
    drain.deadline = left.map(|left| later(now, left));
    world.admission.close_api();
    if record.starts_closed {
        world.admission.close_starts();
        drain.step = Step::Starts;
    }
    tracing::info!(
        node = world.node,
        "goes on with the drain of the node that was asked for before control restarted"
    );
    drain
}

/// The one writer of a node's drain.
struct Keeper<'n> {
    node: &'n NodeDrain,
    inbox: mpsc::Receiver<(Ask, Answer)>,
    news: watch::Receiver<u64>,
    progress: Progress,
    /// Whether what becomes of the drain is kept for the next daemon: nothing once this one ends.
    is_kept: bool,
    /// The daemon ends: there is no way back.
    is_stopping: bool,
    cadence: Cadence,
    /// It was looked again because the last sandbox was gone.
    was_drained: bool,
}

impl Keeper<'_> {
    fn world(&self) -> &World {
        &self.node.world
    }

    fn admission(&self) -> &Admission {
        &self.node.world.admission
    }

    /// Looks, plans and acts until nothing is left to do now; returns when to look again.
    async fn advance(&mut self) -> Option<Timestamp> {
        loop {
            let drain = self.progress.drain.clone()?;
            self.news.mark_unchanged();
            let look = Look::at(&self.node.world, &self.node.apps);
            let left = match drain.step {
                Step::CleanUps => Some(self.look_left(&look).await),
                _ => None,
            };
            let (seen, now) = (look.seen(left), self.world().clock.steady());
            let before = drain.phase();
            let Plan {
                drain,
                actions,
                again,
                wake,
            } = plan::plan(drain, &seen, now);
            if drain.phase() != before {
                miren_fault::pass(Point::DrainEmpty);
                self.note_phase(&drain);
            }
            self.progress.drain = Some(drain);
            for action in actions {
                self.act(action, &look).await;
            }
            self.publish(&look, now);
            if !again {
                return wake;
            }
        }
    }

    /// What is left of ended sandboxes, in numbers; who has failed to look has not found nothing.
    async fn look_left(&mut self, look: &Look) -> usize {
        let drain = self.progress.drain.as_ref();
        // Nobody is given an address any more by a daemon that ends.
        let is_patient = drain.is_none_or(|drain| drain.is_patient);
        let is_forced = drain.is_some_and(|drain| drain.forced.is_some());
        let left = async {
            let _ = miren_fault::at(Point::DrainLook).await;
            self.world().executor.left().await
        };
        let left = match tokio::time::timeout(LOOK, left).await {
            Ok(left) => look.without_living(left.into_iter().filter(|left| is_patient || !left.rests).collect()),
            Err(_) => [miren_sandbox::Left::new(
                "the node",
                format!("{NOT_LOOKED} takes longer than {LOOK:?}"),
            )]
            .into(),
        };
        for left in left.iter().filter(|left| is_forced && !left.rests) {
            self.progress.fail(&left.of, || format!("{}: {}", left.of, left.why));
        }
        self.progress.left = left;
        self.progress.left.len()
    }

    async fn act(&mut self, action: Action, look: &Look) {
        let apps = &self.node.apps;
        match action {
            Action::CloseStarts => {
                miren_fault::pass(Point::DrainStarts);
                let starts = self.admission().close_starts().counts().total();
                let at_most = self.world().policy.drain.at_most;
                apps.tell_all(|| Event::NodeDrains(at_most));
                tracing::info!(starts, "no sandbox is started any more");
                self.keep(Point::DrainStartsKeep).await;
            }
            Action::Drain(ids) => {
                miren_fault::pass(Point::DrainSandboxes);
                ids.into_iter().for_each(|id| apps.drain(id, REASON));
            }
            Action::CallOff => apps.tell_all(|| Event::CalledOff),
            Action::Kill(ids) => {
                miren_fault::pass(Point::DrainForced);
                for sandbox in ids.iter().filter_map(|id| look.sandbox(id)) {
                    self.progress.fail(sandbox.id.as_str(), || seen::killed(sandbox));
                    self.node
                        .world
                        .executor
                        .kill(&sandbox.id, "the drain of the node was forced");
                }
            }
            Action::Hurry => self.world().executor.hurry(),
        }
    }

    /// Tells how far it is, and says it in the log when it is time to.
    fn publish(&mut self, look: &Look, now: Timestamp) {
        let is_overdue = self.progress.drain.as_ref().is_some_and(|drain| drain.is_overdue(now));
        if self.cadence.is_due(self.progress.drain.as_ref(), is_overdue, now) {
            logging::say(&look.status(&self.node.world, &self.progress));
        }
        self.tell();
    }

    fn tell(&self) {
        let down = self.node.progress.borrow().down;
        let progress = Progress {
            down,
            ..self.progress.clone()
        };
        self.node.progress.send_replace(Arc::new(progress));
    }

    fn note_phase(&self, drain: &Drain) {
        let (node, phase) = (&self.world().node, drain.phase().as_str());
        match &drain.forced {
            Some(_) if drain.step != Step::Empty => {
                tracing::warn!(node, phase, "what is left on the node is killed; at most {FORCED:?}");
            }
            _ => tracing::info!(node, phase, "the drain of the node"),
        }
    }

    /// Waits until there is something to look at: an answer to give, news, or a moment.
    async fn wait(&mut self, wake: Option<Timestamp>) {
        let now = self.world().clock.steady();
        let step = self.progress.drain.as_ref().map(|drain| drain.step);
        let is_under_way = step.is_some_and(|step| step != Step::Empty);
        let wake = match is_under_way {
            true => crate::app::pool::earliest(wake, Some(self.cadence.next(now))),
            false => None,
        };
        let node = self.node;
        tokio::select! {
            biased;
            Some((ask, reply)) = self.inbox.recv() => self.answer(ask, reply).await,
            Ok(()) = self.news.changed(), if is_under_way => tokio::time::sleep(PACE).await,
            () = idle::idle(&node.world.admission, step) => {}
            () = node.world.executor.drained(), if step == Some(Step::CleanUps) && !self.was_drained => self.was_drained = true,
            () = until(wake, now) => {}
        }
    }
}

async fn until(at: Option<Timestamp>, now: Timestamp) {
    match at {
        Some(at) => tokio::time::sleep(since(at, now)).await,
        None => std::future::pending().await,
    }
}

fn limit_of(request: &DrainRequest, default: Duration) -> Result<Duration, ApiError> {
    request.timeout.as_deref().map_or(Ok(default), parse_timeout)
}
