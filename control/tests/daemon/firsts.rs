//! Firsts at once: whoever comes, and however many, there is one task for a name, and it works.

use crate::machine::{Machine, control_on};
use crate::memory::Memory;
use crate::node::{folder, web};
use jiff::Timestamp;
use miren_api::deploy::{Deploy, DeployRequest, DeployStatus};
use miren_api::ephemeral::{EphemeralDeployed, EphemeralRequest};
use miren_api::id::{AppName, Label};
use miren_api::{ApiError, ErrorCode};
use miren_control::app::{Command, PreviewOrder};
use miren_control::clock::Clock;
use miren_control::control::Control;
use miren_control::ledger;
use miren_control::policy::Policy;
use miren_control::record::{AppRecord, DeployRecord};
use miren_control::store::Selection;
use std::io::Cursor;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::runtime::Handle;

/// What one of those who come first is told.
#[derive(Debug)]
enum Told {
    Deploy(Result<Deploy, ApiError>),
    Preview(Result<EphemeralDeployed, ApiError>),
    Variables(Result<Deploy, ApiError>),
}

pub struct Shops {
    pub control: Arc<Control>,
    pub machine: Machine,
    pub records: Arc<Memory>,
    _folder: tempfile::TempDir,
}

impl Shops {
    pub async fn open() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let machine = Machine::new(Clock::of_runtime(Timestamp::from_second(1_000_000).unwrap()));
        let records = Arc::new(Memory::new(1000));
        let store = Arc::clone(&records);
        let control = control_on(&machine, store, Policy::default(), folder.path()).await;
        Self {
            control,
            machine,
            records,
            _folder: folder,
        }
    }

    pub fn artifact(&self, command: &str) -> String {
        let stored = self.control.artifacts.store(Cursor::new(folder(&web(command))));
        stored.unwrap().digest
    }

    pub async fn deploy(&self, name: &AppName, artifact: &str) -> Result<Deploy, ApiError> {
        let request = DeployRequest {
            artifact: Some(artifact.to_owned()),
            ..DeployRequest::default()
        };
        let key = None;
        let deploy = |reply| Command::Deploy {
            order: request.into(),
            key,
            reply,
        };
        self.control.apps.ask(name, deploy).await
    }

    pub async fn set_variable(&self, name: &AppName) -> Result<Deploy, ApiError> {
        let request = DeployRequest {
            env: [("COLOUR".to_owned(), Some("red".to_owned()))].into(),
            ..DeployRequest::default()
        };
        let key = None;
        let deploy = |reply| Command::Deploy {
            order: request.into(),
            key,
            reply,
        };
        self.control.apps.ask(name, deploy).await
    }

    pub async fn preview(&self, name: &AppName, label: &str, artifact: &str) -> Result<EphemeralDeployed, ApiError> {
        let order = Box::new(PreviewOrder {
            label: Label::parse(label).unwrap(),
            ttl: Duration::from_secs(3600),
            request: EphemeralRequest {
                label: label.to_owned(),
                artifact: Some(artifact.to_owned()),
                ..EphemeralRequest::default()
            },
            key: None,
            read: None,
        });
        let preview = |reply| Command::Preview { order, reply };
        self.control.apps.ask(name, preview).await
    }

    pub async fn delete(&self, name: &AppName) -> Result<(), ApiError> {
        let delete = |reply| Command::Delete {
            keep_disks: false,
            reply,
        };
        self.control.apps.ask(name, delete).await.map(drop)
    }

    /// The deploy as it ended.
    pub async fn ended(&self, deploy: &Deploy) -> Deploy {
        let handle = self.control.apps.get(deploy.app.as_str()).unwrap();
        let mut view = handle.view.clone();
        loop {
            view.mark_unchanged();
            let record: Option<DeployRecord> = ledger::find(&*self.records, deploy.id.as_str()).await.unwrap();
            let deploy = record.unwrap().deploy;
            if deploy.status.is_final() {
                return deploy;
            }
            let changed = tokio::time::timeout(crate::node::PATIENCE, view.changed()).await;
            changed.expect("nothing happens to a deploy").expect("its app is gone");
        }
    }

    async fn come(&self, name: &AppName, who: usize, artifact: &str) -> Told {
        match who {
            0 | 1 => Told::Deploy(self.deploy(name, artifact).await),
            2 | 3 => Told::Preview(self.preview(name, &format!("p{who}"), artifact).await),
            _ => Told::Variables(self.set_variable(name).await),
        }
    }
}

async fn check(shops: &Shops, name: &AppName, told: Vec<Told>, artifact: &str) {
    let mut numbers = Vec::new();
    for told in told {
        match told {
            Told::Deploy(Ok(deploy)) => {
                let ended = shops.ended(&deploy).await;
                let is_well = matches!(ended.status, DeployStatus::Succeeded | DeployStatus::Superseded);
                assert!(is_well, "{name}: {ended:?}");
                numbers.push(deploy.seq);
            }
            Told::Preview(Ok(made)) => assert_eq!(made.ephemeral.app, *name),
            // There was nothing yet whose variables could change.
            Told::Variables(Err(error)) if error.code == ErrorCode::NotFound => {}
            Told::Variables(Ok(deploy)) => numbers.push(deploy.seq),
            other => panic!("{name}: {other:?}"),
        }
    }
    numbers.sort_unstable();
    let expected: Vec<u64> = (1..=numbers.len() as u64).collect();
    assert_eq!(numbers, expected, "{name}: each deploy has a number of its own");
    let later = shops.deploy(name, artifact).await.unwrap();
    assert_eq!(later.seq, expected.len() as u64 + 1, "{name}");
    assert_eq!(shops.ended(&later).await.status, DeployStatus::Succeeded, "{name}");
    let routed = shops.control.world.routing.now();
    assert_eq!(routed.installed(name), later.seq, "{name}");
    let view = shops.control.apps.get(name.as_str()).unwrap().view.borrow().clone();
    let active = routed.active(name).unwrap();
    assert!(
        view.pool_of(active, "web").is_some(),
        "{name}: what is routed is known to its task"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn f6_of_six_firsts_at_once_all_get_the_same_task_a_thousand_times() {
    let shops = Arc::new(Shops::open().await);
    let artifact: Arc<str> = shops.artifact("./one").into();
    for round in 0..1000 {
        let name = AppName::from_text(format!("shop-{round}"));
        let ready = Arc::new(AtomicUsize::new(0));
        let firsts = (0..6).map(|who| {
            let (shops, name, here) = (Arc::clone(&shops), name.clone(), Handle::current());
            let (ready, artifact) = (Arc::clone(&ready), Arc::clone(&artifact));
            // On threads of their own, which go on at the same instant: tasks are woken one after the other.
            tokio::task::spawn_blocking(move || {
                ready.fetch_add(1, Ordering::SeqCst);
                while ready.load(Ordering::SeqCst) < 6 {
                    std::thread::yield_now();
                }
                here.block_on(shops.come(&name, who, &artifact))
            })
        });
        let told = futures_util::future::join_all(firsts).await;
        let told = told.into_iter().map(Result::unwrap).collect();
        check(&shops, &name, told, &artifact).await;
        // What a thousand apps run is no matter here.
        shops.delete(&name).await.unwrap();
    }
    let records: Vec<AppRecord> = ledger::list(&*shops.records, Selection::All).await.unwrap();
    assert!(records.iter().all(|app| app.deleting), "{records:?}");
}
