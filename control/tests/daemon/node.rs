//! One control over a simulated machine: the real API on a real socket in a folder of its own.

use crate::machine::{Machine, images};
use miren_api::deploy::{Artifact, Deploy, DeployRequest, DeployStatus};
use miren_api::id::SandboxId;
use miren_api::resource::{Pool, Route, RouteRequest, Sandbox, SandboxState};
use miren_api::settings::Bytes;
use miren_api::{ApiError, Client, ClientError, Server as Address};
use miren_control::artifact::Artifacts;
use miren_control::clock::Clock;
use miren_control::config::ProxyUser;
use miren_control::control::{Control, Parts};
use miren_control::policy::Policy;
use miren_control::server::{Door, Peers, Server};
use miren_control::store::Sqlite;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;

/// Longest anything is waited for.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// What a restart leaves: the folder and the machine.
pub struct Place {
    pub folder: tempfile::TempDir,
    pub machine: Machine,
}

pub struct Node {
    pub place: Arc<Place>,
    pub control: Arc<Control>,
    pub client: Client,
    tasks: Vec<JoinHandle<()>>,
}

impl Place {
    pub fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            machine: Machine::new(Clock::system()),
        }
    }
}

impl Node {
    pub async fn start() -> Self {
        Self::on(Arc::new(Place::new())).await
    }

    /// A control on what an earlier one left.
    pub async fn on(place: Arc<Place>) -> Self {
        Self::with(place, Policy::default()).await
    }

    /// The same, by these settings.
    pub async fn with(place: Arc<Place>, policy: Policy) -> Self {
        let folder = place.folder.path();
        let store = Sqlite::open(&folder.join("control.db")).await.unwrap();
        let parts = Parts {
            store: Arc::new(store),
            executor: Arc::new(place.machine.clone()),
            artifacts: Artifacts::open(&folder.join("artifacts"), 1 << 20).unwrap(),
            images: images(folder),
            clock: Clock::system(),
            node: "test".into(),
            policy,
        };
        let news = place.machine.attach();
        let (control, known) = Control::load(parts).await.unwrap();
        let socket = folder.join("control.sock");
        let door = Door::open(&socket, control.ending.clone()).unwrap();
        let api = Server::new(
            Arc::clone(&control),
            Peers::new(&ProxyUser::Uid(12_345)),
            Bytes(64 << 10),
        );
        let background = Arc::clone(&control).background();
        let tasks = vec![
            tokio::spawn(async move { api.serve(door).await.unwrap() }),
            tokio::spawn(background),
        ];
        control.activate(known, news).await;
        let client = Client::new(&Address::Unix(socket)).unwrap();
        Self {
            place,
            control,
            client,
            tasks,
        }
    }

    pub fn machine(&self) -> &Machine {
        &self.place.machine
    }

    /// Stops this control as `kill -9` would: nothing is drained or saved.
    pub fn kill(self) -> Arc<Place> {
        self.place.machine.attach();
        self.control.ending.cancel();
        for task in &self.tasks {
            task.abort();
        }
        Arc::clone(&self.place)
    }

    /// Uploads a folder with this `app.toml`.
    pub async fn upload(&self, app_toml: &str) -> Artifact {
        let tar = folder(app_toml);
        self.client.upload(tar.into()).await.unwrap()
    }

    /// Asks for a deploy of a folder with this `app.toml`.
    pub async fn ask(&self, app: &str, app_toml: &str) -> Deploy {
        let request = DeployRequest {
            artifact: Some(self.upload(app_toml).await.digest),
            ..DeployRequest::default()
        };
        let key = format!("{:016x}", rand::random::<u64>());
        self.client.deploy(app, &request, &key).await.unwrap()
    }

    /// Deploys and waits for the end of it.
    pub async fn deploy(&self, app: &str, app_toml: &str) -> Deploy {
        let deploy = self.ask(app, app_toml).await;
        self.ended(&deploy).await
    }

    pub async fn ended(&self, deploy: &Deploy) -> Deploy {
        let path = format!("/v1/deploys/{}", deploy.id);
        eventually("the deploy ends", async || {
            let deploy: Deploy = self.client.get(&path).await.unwrap();
            if deploy.status.is_final() {
                Ok(deploy)
            } else {
                Err(format!("{deploy:?}"))
            }
        })
        .await
    }

    pub async fn succeed(&self, app: &str, app_toml: &str) -> Deploy {
        let deploy = self.deploy(app, app_toml).await;
        assert_eq!(deploy.status, DeployStatus::Succeeded, "{deploy:?}");
        deploy
    }

    pub async fn route(&self, host: &str, app: &str) -> Route {
        let request = RouteRequest {
            app: app.into(),
            service: None,
        };
        self.client.put(&format!("/v1/routes/{host}"), &request).await.unwrap()
    }

    pub async fn sandboxes(&self, app: &str, state: SandboxState) -> Vec<Sandbox> {
        let path = format!("/v1/sandboxes?app={app}&state={}", state.as_str());
        self.client.list(&path).await.unwrap()
    }

    /// The ids of RUNNING sandboxes, once there are `count`.
    pub async fn running(&self, app: &str, count: usize) -> Vec<SandboxId> {
        eventually("sandboxes are RUNNING", async || {
            let found = self.sandboxes(app, SandboxState::Running).await;
            let ids: Vec<SandboxId> = found.into_iter().map(|sandbox| sandbox.id).collect();
            if ids.len() == count {
                Ok(ids)
            } else {
                Err(format!("{ids:?}"))
            }
        })
        .await
    }

    pub async fn pools(&self, app: &str) -> Vec<Pool> {
        self.client.list(&format!("/v1/pools?app={app}")).await.unwrap()
    }
}

/// Waits for a condition; says what it saw when that takes too long.
pub async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Result<T, String>) -> T {
    let until = tokio::time::Instant::now() + PATIENCE;
    loop {
        let seen = match look().await {
            Ok(found) => return found,
            Err(seen) => seen,
        };
        assert!(tokio::time::Instant::now() < until, "still not: {what}; seen: {seen}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The refusal in an answer.
#[track_caller]
pub fn refusal<T: std::fmt::Debug>(answer: Result<T, ClientError>) -> ApiError {
    match answer {
        Err(ClientError::Refused(error)) => error,
        other => panic!("not refused: {other:?}"),
    }
}

/// A tar of a folder with this `app.toml`.
pub fn folder(app_toml: &str) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(app_toml.len() as u64);
    header.set_mode(0o644);
    tar.append_data(&mut header, ".miren/app.toml", app_toml.as_bytes())
        .unwrap();
    tar.into_inner().unwrap()
}

pub fn web(command: &str) -> String {
    format!("[services.web]\ncommand = \"{command}\"\n")
}

pub fn fixed(command: &str, count: u32) -> String {
    let concurrency = format!("[services.web.concurrency]\nmode = \"fixed\"\nnum_instances = {count}\n");
    format!("{}{concurrency}", web(command))
}
