//! Decides which apps there are: one task for each name at a time, fed with the news of its sandboxes.

use crate::app::keys::Keys;
use crate::app::state::AppState;
use crate::app::{AppHandle, AppView, Command, Event, Task, Unserved, World, spec};
use crate::executor::Known;
use crate::fatal::outlived;
use crate::ledger::{Ledger, LoadError};
use crate::record::{AppRecord, DeployRecord, PoolRecord, RunRecord, SandboxRecord, VersionRecord};
use crate::store::Selection;
use miren_api::id::{AppName, SandboxId, VersionId};
use miren_api::{ApiError, ErrorCode};
use miren_sandbox::SandboxChange;
use parking_lot::RwLock;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long tasks get to finish their step when the daemon stops.
pub const CLOSING: Duration = Duration::from_secs(10);
/// Most apps of a node.
const APPS_MAX: usize = 10_000;

type Handles = BTreeMap<AppName, AppHandle>;

/// Every app's task.
pub struct Apps {
    world: Arc<World>,
    handles: RwLock<Handles>,
    tasks: TaskTracker,
    /// No task is made any more.
    closing: CancellationToken,
    /// No more news are passed on.
    closed: CancellationToken,
}

impl Apps {
    /// Rebuilds every app from the store; returns it with the sandboxes that should be running. Nothing is planned
    /// before [`Apps::adopted`].
    pub async fn load(world: Arc<World>) -> Result<(Arc<Self>, Vec<Known>), LoadError> {
        let apps = Arc::new(Self {
            world,
            handles: RwLock::default(),
            tasks: TaskTracker::new(),
            closing: CancellationToken::new(),
            closed: CancellationToken::new(),
        });
        let mut known = Vec::new();
        for (state, ledger) in read_all(&apps.world).await? {
            known.extend(known_sandboxes(&apps.world, &state));
            apps.spawn(&mut apps.handles.write(), state, ledger, true);
        }
        Ok((apps, known))
    }

    /// Tells every task what was adopted, which lets it begin; from now on news go to the tasks. Returns when each has taken it
    /// over: whoever asks about a lease from then on is asked about a sandbox that is known.
    pub async fn adopted(
        self: &Arc<Self>,
        changes: Vec<SandboxChange>,
        mut news: mpsc::UnboundedReceiver<SandboxChange>,
    ) {
        let mut by_app: HashMap<AppName, Vec<SandboxChange>> = HashMap::new();
        for change in changes {
            if let Some(app) = self.owner(&change.id) {
                by_app.entry(app).or_default().push(change);
            }
        }
        let (waits, mut all) = mpsc::channel(1);
        for (app, handle) in self.handles.read().iter() {
            let changes = by_app.remove(app).unwrap_or_default();
            let _ = handle.events.send(Event::Adopted(changes, Some(waits.clone())));
        }
        drop(waits);
        let apps = Arc::clone(self);
        miren_log::spawn("the news of sandboxes", async move {
            while let Some(Some(change)) = apps.closed.run_until_cancelled(news.recv()).await {
                apps.forward(change);
            }
        });
        // Nothing is sent: it ends when the last of them has been dropped, by a task that died too.
        let _: Option<()> = all.recv().await;
    }

    fn owner(&self, sandbox: &SandboxId) -> Option<AppName> {
        self.world.owners.lock().get(sandbox).cloned()
    }

    fn forward(&self, change: SandboxChange) {
        let handle = self.owner(&change.id).and_then(|app| self.find(&app));
        match handle {
            // A closed task belongs to a deleted app, whose sandboxes have all ended.
            Some(handle) => drop(handle.events.send(Event::Sandbox(change))),
            None => tracing::debug!(sandbox = %change.id, state = change.state.as_str(), "news of nobody's sandbox"),
        }
    }

    fn spawn(self: &Arc<Self>, handles: &mut Handles, state: AppState, ledger: Ledger, exists: bool) -> AppHandle {
        let name = state.app.name.clone();
        let (task, inbox, handle) = Task::new(&self.world, state, ledger, exists);
        handles.insert(name.clone(), handle.clone());
        let apps = Arc::clone(self);
        let label = format!("app {name}");
        let work = async move {
            let unserved = task.run(inbox).await;
            apps.pass_on(name, unserved).await;
        };
        self.tasks.spawn(miren_log::supervised(label, work));
        handle
    }

    /// A task has ended. Its name is free before its queue is closed: whoever finds the queue closed finds no task, or the next
    /// one. What came too late for this one is for the next one, in order.
    async fn pass_on(self: &Arc<Self>, name: AppName, unserved: Unserved) {
        // While control stops its last picture stays: reads and renewals are answered by it until the end.
        if !self.closing.is_cancelled() {
            self.handles.write().remove(&name);
        }
        for command in unserved.commands().await {
            if !command.is_awaited() {
                continue;
            }
            self.deliver(&name, command).await;
        }
    }

    fn find(&self, name: &AppName) -> Option<AppHandle> {
        self.handles.read().get(name).cloned()
    }

    /// An app that exists.
    pub fn get(&self, name: &str) -> Result<AppHandle, ApiError> {
        let found = self
            .find(&AppName::from_text(name))
            .filter(|handle| handle.view.borrow().exists);
        found.ok_or_else(|| no_such_app(name))
    }

    /// An app, whether it exists or is about to be deployed for the first time. Whoever asks, and however many at once: they all
    /// get the same task.
    pub fn get_or_make(self: &Arc<Self>, name: &AppName) -> Result<AppHandle, ApiError> {
        let mut handles = self.handles.write();
        if let Some(handle) = handles.get(name) {
            return Ok(handle.clone());
        }
        if self.closing.is_cancelled() {
            return Err(self.unanswered(name));
        }
        if handles.len() >= APPS_MAX {
            return Err(
                ApiError::new(ErrorCode::Conflict, format!("there are {APPS_MAX} apps already"))
                    .remedy("delete some with `miren app delete`"),
            );
        }
        let (state, ledger) = Task::fresh(&self.world, name.clone());
        let handle = self.spawn(&mut handles, state, ledger, false);
        let _ = handle.events.send(Event::Adopted(Vec::new(), None));
        Ok(handle)
    }

    /// Asks an app's task for something and waits for its answer. One that is ending is waited for: what makes an app is done
    /// by the next task of that name.
    pub async fn ask<T>(
        self: &Arc<Self>,
        name: &AppName,
        command: impl FnOnce(oneshot::Sender<Result<T, ApiError>>) -> Command,
    ) -> Result<T, ApiError> {
        let (reply, answer) = oneshot::channel();
        let command = command(reply);
        if !command.makes_app() {
            self.get(name.as_str())?;
        }
        self.deliver(name, command).await;
        match answer.await {
            Ok(outcome) => outcome,
            Err(_) => {
                if self.stopping().is_none() {
                    outlived().await;
                }
                Err(self.unanswered(name))
            }
        }
    }

    async fn deliver(self: &Arc<Self>, name: &AppName, mut command: Command) {
        loop {
            let task = match command.makes_app() {
                true => self.get_or_make(name),
                false => self.find(name).ok_or_else(|| match self.closing.is_cancelled() {
                    true => self.unanswered(name),
                    false => no_such_app(name.as_str()),
                }),
            };
            let task = match task {
                Ok(task) => task,
                Err(error) => return command.refuse(error),
            };
            match task.commands.send(command).await {
                Ok(()) => return,
                Err(mpsc::error::SendError(back)) => command = back,
            }
            let is_same = |other: AppHandle| other.commands.same_channel(&task.commands);
            if self.find(name).is_some_and(is_same) {
                // It has died, which is no end: it is not looked for for ever.
                return command.refuse(self.unanswered(name));
            }
        }
    }

    /// Why nothing is begun any more, once that is so.
    pub fn stopping(&self) -> Option<ApiError> {
        let why = || ApiError::new(ErrorCode::Draining, "control is stopping").retry_after(1);
        self.closing.is_cancelled().then(why)
    }

    fn unanswered(&self, name: &AppName) -> ApiError {
        let message = format!("the task of app {name} ended before it answered");
        let error = self.stopping();
        let error = error.unwrap_or_else(|| ApiError::new(ErrorCode::Internal, message));
        error.remedy("try again in a moment")
    }

    /// Pictures of every app that exists, by name.
    pub fn views(&self) -> Vec<Arc<AppView>> {
        let handles = self.handles.read();
        let views = handles.values().map(|handle| Arc::clone(&handle.view.borrow()));
        views.filter(|view| view.exists).collect()
    }

    /// Lets every app look what is over, and remove what it need not keep.
    pub fn collect(&self) {
        for handle in self.handles.read().values() {
            // One whose queue is full looks at its previews anyway; its old versions have time.
            let _ = handle.commands.try_send(Command::Collect);
        }
    }

    /// The app a version belongs to: its id begins with the app's name, and its own part has no '-'.
    pub fn of_version(&self, version: &VersionId) -> Option<AppHandle> {
        let (app, _) = version.as_str().rsplit_once("-v")?;
        self.find(&AppName::from_text(app))
    }

    /// Tells the task of every app. One that is busy hears of it later; nobody waits for it.
    pub fn tell_all(&self, event: impl Fn() -> Event) {
        for handle in self.handles.read().values() {
            // A task that has ended has nothing to do with it.
            let _ = handle.events.send(event());
        }
    }

    /// Lets the app of a sandbox drain it; one that has ended is nobody's.
    pub fn drain(&self, sandbox: SandboxId, reason: &'static str) {
        if let Some(handle) = self.owner(&sandbox).and_then(|app| self.find(&app)) {
            let _ = handle.events.send(Event::Drain(sandbox, reason));
        }
    }

    /// Lets every task finish its step and end.
    pub async fn close(&self) {
        self.closing.cancel();
        let handles: Vec<AppHandle> = self.handles.read().values().cloned().collect();
        self.tasks.close();
        let all = async {
            for handle in handles {
                // A task that is gone needs no word.
                let _ = handle.commands.send(Command::Close).await;
            }
            self.tasks.wait().await;
        };
        if tokio::time::timeout(CLOSING, all).await.is_err() {
            tracing::error!("some apps were still busy after {CLOSING:?}; what they had not saved is done again");
        }
        self.closed.cancel();
    }
}

fn no_such_app(name: &str) -> ApiError {
    ApiError::new(ErrorCode::NotFound, format!("there is no app {name:?}"))
        .remedy("list the apps with `miren app list`, or deploy it")
}

/// Every app's records, grouped.
async fn read_all(world: &World) -> Result<Vec<(AppState, Ledger)>, LoadError> {
    let mut apps: BTreeMap<AppName, (AppState, Ledger)> = BTreeMap::new();
    for record in world.store.list(crate::store::Kind::App, Selection::All).await? {
        let mut ledger = Ledger::new(Arc::clone(&world.store));
        let app: AppRecord = ledger.adopt(&record)?;
        apps.insert(app.name.clone(), (AppState::new(app), ledger));
    }
    for (state, ledger) in apps.values_mut() {
        let of_app = || Selection::Index(crate::record::BY_APP, state.app.name.to_string());
        let (pools, sandboxes, versions, deploys, runs) = (of_app(), of_app(), of_app(), of_app(), of_app());
        for pool in ledger.load::<PoolRecord>(pools).await? {
            state.pools.insert(pool.id.clone(), pool);
        }
        for sandbox in ledger.load::<SandboxRecord>(sandboxes).await? {
            state.insert(sandbox);
        }
        for run in ledger.load::<RunRecord>(runs).await? {
            state.runs.insert(run.id.clone(), run);
        }
        for version in ledger.load::<VersionRecord>(versions).await? {
            if version.preview.is_some() {
                state.previews.insert(version.id.clone(), version);
            }
        }
        let deploys = ledger.load::<DeployRecord>(deploys).await?;
        state.keys = Keys::in_records(&deploys);
        for deploy in deploys {
            if !deploy.deploy.status.is_final() {
                state.deploys.insert(deploy.deploy.seq, deploy);
            }
        }
        state.clamp(world.clock.now());
    }
    Ok(apps.into_values().collect())
}

/// What should be running, for the runtime to take over.
fn known_sandboxes(world: &World, state: &AppState) -> Vec<Known> {
    let living = state.sandboxes().filter(|sandbox| !sandbox.state.is_terminal());
    living
        .filter_map(|sandbox| {
            let order = spec::order_of(state, sandbox)?;
            world.owners.lock().insert(sandbox.id.clone(), sandbox.app.clone());
            Some(Known {
                order,
                state: sandbox.state,
                facts: sandbox.facts.clone(),
            })
        })
        .collect()
}
