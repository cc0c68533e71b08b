//! An app with previews on a clock of the runtime's own, over a store that can fail.

use crate::faulty::Faulty;
use crate::machine::{Machine, control_on};
use crate::memory::Memory;
use crate::node::{folder, web};
use jiff::Timestamp;
use miren_api::ApiError;
use miren_api::deploy::{Deploy, DeployRequest, DeployStatus};
use miren_api::ephemeral::{Ephemeral, EphemeralDeployed, EphemeralRequest};
use miren_api::id::{AppName, Label, SandboxId, VersionId};
use miren_api::lease::{AcquireRequest, AcquireResponse, Demand};
use miren_api::resource::Pool;
use miren_api::routing::EphemeralRoute;
use miren_control::app::{AppHandle, Command, PreviewOrder};
use miren_control::clock::Clock;
use miren_control::control::Control;
use miren_control::ledger;
use miren_control::policy::Policy;
use miren_control::record::{BY_APP, DeployRecord, VersionRecord};
use miren_control::store::{Kind, Selection, Store};
use std::io::Cursor;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

/// The app `shop`, and what outlives its control.
pub struct Stage {
    pub machine: Machine,
    pub records: Arc<Memory>,
    folder: Arc<tempfile::TempDir>,
    policy: Policy,
    pub faults: Arc<Faulty>,
    pub control: Arc<Control>,
    pub app: AppHandle,
}

impl Stage {
    pub async fn start() -> Self {
        Self::with(Policy::default()).await
    }

    pub async fn with(policy: Policy) -> Self {
        let machine = Machine::new(Clock::of_runtime(Timestamp::from_second(1_000_000).unwrap()));
        Self::on(
            machine,
            Arc::new(Memory::new(1000)),
            Arc::new(tempfile::tempdir().unwrap()),
            policy,
        )
        .await
    }

    async fn on(machine: Machine, records: Arc<Memory>, folder: Arc<tempfile::TempDir>, policy: Policy) -> Self {
        let faults = Faulty::over(Arc::clone(&records));
        let control = control_on(
            &machine,
            Arc::clone(&faults) as Arc<dyn Store>,
            policy.clone(),
            folder.path(),
        )
        .await;
        let app = control.apps.get_or_make(&AppName::from_text("shop")).unwrap();
        Self {
            machine,
            records,
            folder,
            policy,
            faults,
            control,
            app,
        }
    }

    /// `kill -9`, and another control on what is left.
    pub async fn killed(self) -> Self {
        let policy = self.policy.clone();
        self.killed_and(policy).await
    }

    /// The same, with other settings.
    pub async fn killed_and(self, policy: Policy) -> Self {
        self.faults.kill();
        Self::on(self.machine, self.records, self.folder, policy).await
    }

    pub fn artifact(&self, app_toml: &str) -> String {
        let stored = self.control.artifacts.store(Cursor::new(folder(app_toml)));
        stored.unwrap().digest
    }

    /// Deploys a version that runs `command`, and returns it once it serves.
    pub async fn deploy(&self, command: &str) -> VersionId {
        let request = DeployRequest {
            artifact: Some(self.artifact(&web(command))),
            ..DeployRequest::default()
        };
        self.deployed(request).await
    }

    /// A deploy that was accepted, and goes on.
    pub async fn accepted(&self, request: DeployRequest) -> Deploy {
        let (reply, answer) = oneshot::channel();
        let key = None;
        let deploy = Command::Deploy {
            order: request.into(),
            key,
            reply,
        };
        self.app.commands.send(deploy).await.ok().unwrap();
        answer.await.unwrap().unwrap()
    }

    pub async fn deployed(&self, request: DeployRequest) -> VersionId {
        let asked = self.accepted(request).await;
        loop {
            let record: Option<DeployRecord> = ledger::find(&*self.records, asked.id.as_str()).await.unwrap();
            let deploy = record.unwrap().deploy;
            if deploy.status.is_final() {
                assert_eq!(deploy.status, DeployStatus::Succeeded, "{deploy:?}");
                return deploy.version.unwrap();
            }
            pass(1).await;
        }
    }

    /// What asks for a preview of a folder with this `app.toml`.
    pub fn request(&self, app_toml: &str) -> EphemeralRequest {
        EphemeralRequest {
            artifact: Some(self.artifact(app_toml)),
            ..EphemeralRequest::default()
        }
    }

    /// Asks for a preview, without waiting for the answer.
    pub async fn order(&self, label: &str, ttl: u64, request: EphemeralRequest) -> Answer {
        self.order_with(None, label, ttl, request).await
    }

    /// The same, under a key.
    pub async fn order_with(&self, key: Option<&str>, label: &str, ttl: u64, request: EphemeralRequest) -> Answer {
        let (reply, answer) = oneshot::channel();
        let order = Box::new(PreviewOrder {
            label: Label::parse(label).unwrap(),
            ttl: Duration::from_secs(ttl),
            request,
            key: key.map(str::to_owned),
            read: None,
        });
        self.app
            .commands
            .send(Command::Preview { order, reply })
            .await
            .ok()
            .unwrap();
        answer
    }

    pub async fn try_preview(&self, label: &str, ttl: u64, app_toml: &str) -> Result<EphemeralDeployed, ApiError> {
        self.order(label, ttl, self.request(app_toml)).await.await.unwrap()
    }

    /// A preview that runs `command`, once it can be reached.
    pub async fn preview(&self, label: &str, ttl: u64, command: &str) -> Ephemeral {
        self.try_preview(label, ttl, &web(command)).await.unwrap().ephemeral
    }

    /// The same, once a request has started it.
    pub async fn served(&self, label: &str, ttl: u64, command: &str) -> Ephemeral {
        let preview = self.preview(label, ttl, command).await;
        self.acquire(&preview.version).await.unwrap();
        preview
    }

    /// What a proxy asks for when a request has come.
    pub async fn acquire(&self, version: &VersionId) -> Result<AcquireResponse, ApiError> {
        acquire(&self.control, "p1", version).await
    }

    /// Asks until nothing more happens, and says which command answers.
    pub async fn served_by(&self, version: &VersionId) -> String {
        let lease = self.acquire(version).await.unwrap().leases.remove(0);
        self.machine.command(&lease.sandbox)
    }

    /// What a label leads to, unless its time is over.
    pub fn label(&self, label: &str) -> Option<EphemeralRoute> {
        let now = self.control.world.clock.now();
        self.remembered(label).filter(|route| now < route.expires_at)
    }

    /// What is told of a label, whether its time is over or not.
    pub fn remembered(&self, label: &str) -> Option<EphemeralRoute> {
        let routed = self.control.world.routing.now();
        routed.table.label_of(&AppName::from_text("shop"), label).cloned()
    }

    /// Pools that belong to previews.
    pub fn preview_pools(&self) -> Vec<Pool> {
        let view = self.app.view.borrow().clone();
        let of_previews = |pool: &&Pool| pool.versions.iter().any(|version| view.previews.contains_key(version));
        let pools = view.pools.values().map(|view| &view.pool);
        pools.filter(of_previews).cloned().collect()
    }

    /// What runs, by what it was told to run; in order.
    pub fn running(&self) -> Vec<String> {
        let alive: Vec<SandboxId> = self.machine.alive();
        let mut commands: Vec<String> = alive.iter().map(|id| self.machine.command(id)).collect();
        commands.sort();
        commands
    }

    pub async fn versions(&self) -> Vec<VersionRecord> {
        let of_app = Selection::Index(BY_APP, "shop".into());
        ledger::list(&*self.records, of_app).await.unwrap()
    }

    /// Every record of these kinds as it is kept.
    pub async fn bodies(&self, kinds: &[Kind]) -> Vec<String> {
        let mut bodies = Vec::new();
        for kind in kinds {
            let records = self.records.list(*kind, Selection::All).await.unwrap();
            bodies.extend(records.into_iter().map(|record| record.body));
        }
        bodies
    }
}

pub type Answer = oneshot::Receiver<Result<EphemeralDeployed, ApiError>>;

/// Waits at most ten seconds of the runtime's clock for leases.
pub async fn acquire(control: &Control, proxy: &str, version: &VersionId) -> Result<AcquireResponse, ApiError> {
    let request = AcquireRequest {
        proxy: proxy.into(),
        version: version.clone(),
        service: "web".into(),
        demand: Demand {
            in_flight: 0,
            queued: 1,
        },
        wait_ms: 10_000,
        dropped: Vec::new(),
    };
    control.leasing().acquire(request).await
}

/// Lets so many seconds pass, with everything that happens in them.
pub async fn pass(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}
