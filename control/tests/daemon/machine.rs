//! A simulated machine: runs sandboxes as entries of a table, outlives the control that uses it, and does as it is told.

use crate::kept::Kept;
use async_trait::async_trait;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use jiff::Timestamp;
use miren_api::id::{AppName, SandboxId};
use miren_api::lease::LeaseKey;
use miren_api::resource::{FastPathStatus, LogLine, LogStream, NodeFault, SandboxState, SlotUse, TransitionCounts};
use miren_control::clock::Clock;
use miren_control::executor::{Disks, Executor, Known, Order};
use miren_loader::Transition;
use miren_sandbox::logs::LogQuery;
use miren_sandbox::{Attach, Budgets, Exec, ExecError, Facts, Left, Outlet, SandboxChange, Streams};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{broadcast, mpsc, oneshot, watch};

mod control;
mod ended;
mod unclean;

pub use control::{control_of_runtime, control_on, images};

#[derive(Clone)]
struct Running {
    order: Order,
    state: SandboxState,
    facts: Facts,
}

#[derive(Default)]
struct Tables {
    running: BTreeMap<SandboxId, Running>,
    next_slot: u32,
    /// Commands whose sandboxes fail to boot, with the reason.
    failing: BTreeMap<String, String>,
    /// Why no sandbox can be started at all.
    fault: Option<(NodeFault, &'static str)>,
    /// Commands whose sandboxes stay PENDING.
    held: BTreeSet<String>,
    started: Vec<SandboxId>,
    /// Commands whose sandboxes leave something behind that is not cleaned up.
    littering: BTreeSet<String>,
    unclean: BTreeSet<SandboxId>,
    /// How often clean-ups were to be tried again.
    hurried: usize,
    /// How often each sandbox was killed.
    kills: BTreeMap<SandboxId, usize>,
}

/// What lasts, whoever controls it.
#[derive(Clone)]
pub struct Machine {
    tables: Arc<Mutex<Tables>>,
    news: Arc<Mutex<Option<mpsc::UnboundedSender<SandboxChange>>>>,
    changed: watch::Sender<u64>,
    transitions: broadcast::Sender<Transition>,
    clock: Clock,
    pub disks: Arc<Kept>,
    /// How long it takes a control to take over what runs.
    pub adopts_in: Arc<Mutex<Duration>>,
    /// Reading a log does not end.
    pub logs_hang: Arc<Mutex<bool>>,
}

impl Machine {
    pub fn new(clock: Clock) -> Self {
        Self {
            tables: Arc::default(),
            news: Arc::default(),
            changed: watch::Sender::new(0),
            transitions: broadcast::channel(64).0,
            clock,
            disks: Arc::default(),
            adopts_in: Arc::default(),
            logs_hang: Arc::default(),
        }
    }

    /// A new control reads the news from now on.
    pub fn attach(&self) -> mpsc::UnboundedReceiver<SandboxChange> {
        let (sender, receiver) = mpsc::unbounded_channel();
        *self.news.lock().unwrap() = Some(sender);
        receiver
    }

    /// Sandboxes whose command is `command` fail to boot.
    pub fn fail(&self, command: &str, reason: &str) {
        self.tables
            .lock()
            .unwrap()
            .failing
            .insert(command.into(), reason.into());
    }

    pub fn heal(&self, command: &str) {
        self.tables.lock().unwrap().failing.remove(command);
    }

    /// The machine can start nothing from now on, or everything again.
    pub fn break_down(&self, fault: impl Into<Option<(NodeFault, &'static str)>>) {
        self.tables.lock().unwrap().fault = fault.into();
    }

    /// Sandboxes whose command is `command` stay PENDING, or DRAINING, until [`Machine::release`].
    pub fn hold(&self, command: &str) {
        self.tables.lock().unwrap().held.insert(command.into());
    }

    pub fn release(&self, command: &str) {
        self.tables.lock().unwrap().held.remove(command);
        self.changed.send_modify(|count| *count += 1);
        for id in self.ids(|running| running.order.service.command == command && running.state == SandboxState::Pending)
        {
            self.reach(&id, SandboxState::Running, None);
        }
    }

    /// Ids of what runs, whatever its state.
    pub fn alive(&self) -> Vec<SandboxId> {
        self.ids(|_| true)
    }

    /// Waits until so many are RUNNING.
    pub async fn settles(&self, count: usize) {
        let mut changed = self.changed.subscribe();
        while self.ids(|running| running.state == SandboxState::Running).len() < count {
            let _ = changed.changed().await;
        }
    }

    pub fn of_app(&self, app: &str, state: SandboxState) -> Vec<SandboxId> {
        let app = AppName::from_text(app);
        self.ids(|running| running.order.app == app && running.state == state)
    }

    /// Every sandbox ever started, in order.
    pub fn started(&self) -> Vec<SandboxId> {
        self.tables.lock().unwrap().started.clone()
    }

    /// What a living sandbox runs.
    pub fn command(&self, id: &SandboxId) -> String {
        self.tables.lock().unwrap().running[id].order.service.command.clone()
    }

    pub fn environment(&self, id: &SandboxId) -> BTreeMap<String, String> {
        self.tables.lock().unwrap().running[id].order.env.clone()
    }

    /// What a new control is told of a sandbox it knows.
    fn found(&self, known: Known) -> SandboxChange {
        let running = self.tables.lock().unwrap().running.get(&known.order.id).cloned();
        let gone = (
            SandboxState::Dead,
            Some("it ended while control was away".into()),
            known.facts,
        );
        let (state, reason, facts) = running.map_or(gone, |running| (running.state, None, running.facts));
        SandboxChange {
            id: known.order.id,
            state,
            reason,
            node_fault: None,
            facts,
        }
    }

    fn ids(&self, which: impl Fn(&Running) -> bool) -> Vec<SandboxId> {
        let tables = self.tables.lock().unwrap();
        let chosen = tables.running.iter().filter(|(_, running)| which(running));
        chosen.map(|(id, _)| id.clone()).collect()
    }

    /// A held sandbox does not stop either.
    async fn not_held(&self, id: &SandboxId) {
        let mut changed = self.changed.subscribe();
        let is_held = || {
            let tables = self.tables.lock().unwrap();
            let command = tables.running.get(id).map(|running| &running.order.service.command);
            command.is_some_and(|command| tables.held.contains(command))
        };
        while is_held() {
            let _ = changed.changed().await;
        }
    }

    fn reach(&self, id: &SandboxId, state: SandboxState, reason: Option<String>) {
        let (facts, node_fault) = {
            let mut tables = self.tables.lock().unwrap();
            let fault = tables.fault.map(|(fault, _)| fault);
            let Some(running) = tables.running.get_mut(id) else {
                return;
            };
            if state < running.state {
                return;
            }
            let was_booting = std::mem::replace(&mut running.state, state) == SandboxState::Pending;
            let (facts, command) = (running.facts.clone(), running.order.service.command.clone());
            if state.is_terminal() {
                self.disks.give_back(id);
                if tables.littering.contains(&command) {
                    tables.unclean.insert(id.clone());
                }
                tables.running.remove(id);
            }
            (facts, fault.filter(|_| was_booting && state == SandboxState::Dead))
        };
        let change = SandboxChange {
            id: id.clone(),
            state,
            reason,
            node_fault,
            facts,
        };
        if let Some(news) = &*self.news.lock().unwrap() {
            let _ = news.send(change);
        }
        self.changed.send_modify(|count| *count += 1);
    }

    fn make(&self, order: Order) -> SandboxId {
        self.disks.take(&order);
        let mut tables = self.tables.lock().unwrap();
        tables.next_slot += 1;
        let slot = tables.next_slot;
        let id = order.id.clone();
        let facts = Facts {
            slot: Some(slot),
            generation: Some(1),
            ip: Some(std::net::Ipv4Addr::from(0x0a58_0000 + slot).into()),
            port: order.service.port,
            pid: Some(1000 + slot),
            exit_code: None,
            ended_by: None,
        };
        tables.started.push(id.clone());
        tables.running.insert(
            id.clone(),
            Running {
                order,
                state: SandboxState::Pending,
                facts,
            },
        );
        id
    }
}

#[async_trait]
impl Executor for Machine {
    async fn adopt(&self, known: Vec<Known>) -> Vec<SandboxChange> {
        let wait = *self.adopts_in.lock().unwrap();
        tokio::time::sleep(wait).await;
        let expected: BTreeSet<SandboxId> = known.iter().map(|known| known.order.id.clone()).collect();
        self.tables
            .lock()
            .unwrap()
            .running
            .retain(|id, _| expected.contains(id));
        self.disks.keep_holders(&self.alive());
        known.into_iter().map(|known| self.found(known)).collect()
    }

    fn start(&self, order: Order) {
        let command = order.service.command.clone();
        let id = self.make(order);
        self.reach(&id, SandboxState::Pending, None);
        let (failure, held) = {
            let tables = self.tables.lock().unwrap();
            let fault = tables.fault.map(|(_, why)| why.to_owned());
            (
                fault.or(tables.failing.get(&command).cloned()),
                tables.held.contains(&command),
            )
        };
        match failure {
            Some(reason) => self.reach(&id, SandboxState::Dead, Some(reason)),
            None if held => {}
            None => self.reach(&id, SandboxState::Running, None),
        }
    }

    fn drain(&self, id: &SandboxId, reason: &str, budgets: Budgets, idle: BoxFuture<'static, ()>) {
        let (machine, id, reason) = (self.clone(), id.clone(), reason.to_owned());
        tokio::spawn(async move {
            machine.reach(&id, SandboxState::Draining, Some(reason.clone()));
            let drains = budgets.total().saturating_sub(budgets.grace);
            let _ = tokio::time::timeout(drains, idle).await;
            machine.not_held(&id).await;
            machine.reach(&id, SandboxState::Stopping, None);
            machine.reach(&id, SandboxState::Stopped, Some(reason));
        });
    }

    fn kill(&self, id: &SandboxId, reason: &str) {
        *self.tables.lock().unwrap().kills.entry(id.clone()).or_default() += 1;
        self.reach(id, SandboxState::Dead, Some(reason.to_owned()));
    }

    fn is_running(&self, key: LeaseKey) -> bool {
        let of_key = |running: &Running| {
            running.facts.slot == Some(key.slot)
                && running.facts.generation == Some(key.generation)
                && running.state == SandboxState::Running
        };
        !self.ids(of_key).is_empty()
    }

    fn slot_table(&self) -> String {
        "simulated".into()
    }

    fn transitions(&self) -> broadcast::Receiver<Transition> {
        self.transitions.subscribe()
    }

    fn slots(&self) -> Vec<Transition> {
        Vec::new()
    }

    fn fast_path(&self) -> FastPathStatus {
        let used = u32::try_from(self.alive().len()).unwrap();
        FastPathStatus {
            mode: "off".into(),
            reason: None,
            pin_dir: String::new(),
            abi: 1,
            programs: Vec::new(),
            slots: SlotUse { used, capacity: 4096 },
            transitions: TransitionCounts {
                by_kernel: 0,
                by_control: 0,
            },
            refused_connects: 0,
            reset_packets: 0,
            dropped_events: 0,
        }
    }

    fn attach(&self, _: &SandboxId) -> oneshot::Receiver<Streams> {
        oneshot::channel().1
    }

    async fn exec(&self, id: &SandboxId, _: Vec<String>, _: Attach) -> Result<Exec, ExecError> {
        Err(ExecError::NotThere(id.clone()))
    }

    fn logs(&self, query: LogQuery) -> BoxStream<'static, std::io::Result<LogLine>> {
        if *self.logs_hang.lock().unwrap() {
            return futures_util::stream::pending().boxed();
        }
        let line = query.sandbox.map(|sandbox| LogLine {
            at: Timestamp::UNIX_EPOCH,
            stream: LogStream::Stderr,
            service: "web".into(),
            sandbox,
            line: "what it wrote last".into(),
            part: None,
        });
        futures_util::stream::iter(line.map(Ok)).boxed()
    }

    async fn outlet(&self) -> Result<Option<Outlet>, String> {
        Ok(None)
    }

    fn disks(&self) -> &dyn Disks {
        &*self.disks
    }

    async fn drained(&self) {
        let mut changed = self.changed.subscribe();
        while !self.alive().is_empty() {
            let _ = changed.changed().await;
        }
    }

    async fn left(&self) -> Vec<Left> {
        let tables = self.tables.lock().unwrap();
        let living = tables.running.keys().map(|id| Left::new(id.as_str(), "it is there"));
        let unclean = tables
            .unclean
            .iter()
            .map(|id| Left::new(id.as_str(), "its clean-up hangs"));
        living.chain(unclean).collect()
    }

    fn hurry(&self) {
        self.tables.lock().unwrap().hurried += 1;
    }
}
