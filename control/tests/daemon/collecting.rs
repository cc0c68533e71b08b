//! Two hundred deploys of changing images and folders: what is kept stays bounded, and is what is needed.

use crate::machine::{Machine, control_on};
use crate::memory::Memory;
use crate::node::{folder, web};
use miren_api::app_file::WEB_PORT;
use miren_api::deploy::{Deploy, DeployRequest, DeployStatus};
use miren_api::id::{AppName, VersionId};
use miren_api::{ApiError, ErrorCode};
use miren_control::app::{AppHandle, Command};
use miren_control::clock::Clock;
use miren_control::collector::{UPLOAD_GRACE, collect};
use miren_control::control::Control;
use miren_control::ledger;
use miren_control::policy::{Policy, Retention};
use miren_control::record::{DeployRecord, PoolRecord};
use miren_control::store::Selection;
use miren_image::Digest;
use serde_json::json;
use std::io::Cursor;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

/// Versions of an app that are kept here, with their content.
const KEPT: usize = 5;

struct Shop {
    machine: Machine,
    control: Arc<Control>,
    app: AppHandle,
    _folder: tempfile::TempDir,
}

impl Shop {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let machine = Machine::new(Clock::of_runtime(jiff::Timestamp::from_second(1_000_000).unwrap()));
        let retention = Retention {
            versions: KEPT,
            age: Duration::ZERO,
        };
        let policy = Policy {
            retention,
            ..Policy::default()
        };
        let control = control_on(&machine, Arc::new(Memory::new(1000)), policy, folder.path()).await;
        let app = control.apps.get_or_make(&AppName::from_text("shop")).unwrap();
        Self {
            machine,
            control,
            app,
            _folder: folder,
        }
    }

    async fn ask(&self, request: DeployRequest) -> Result<Deploy, ApiError> {
        let (reply, answer) = oneshot::channel();
        let key = None;
        let deploy = Command::Deploy {
            order: request.into(),
            key,
            reply,
        };
        self.app.commands.send(deploy).await.ok().unwrap();
        answer.await.unwrap()
    }

    /// The deploy as it ended.
    async fn deploy(&self, request: DeployRequest) -> Deploy {
        let asked = self.ask(request).await.unwrap();
        loop {
            let store = &*self.control.world.store;
            let record: Option<DeployRecord> = ledger::find(store, asked.id.as_str()).await.unwrap();
            let deploy = record.unwrap().deploy;
            if deploy.status.is_final() {
                return deploy;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    /// A version with an image of its own.
    async fn image(&self, number: usize) -> (VersionId, Digest) {
        let store = &self.control.world.images.store;
        let image = store.import(Cursor::new(archive(number)), None, &|_| {}).await.unwrap();
        let digest = image.digest;
        let request = DeployRequest {
            image: Some(digest.to_string()),
            ..DeployRequest::default()
        };
        (succeeded(self.deploy(request).await), digest)
    }

    /// A folder with these settings, and the request for it.
    fn send(&self, settings: &str) -> (String, DeployRequest) {
        let stored = self.control.artifacts.store(Cursor::new(folder(settings)));
        let digest = stored.unwrap().digest;
        let request = DeployRequest {
            artifact: Some(digest.clone()),
            ..DeployRequest::default()
        };
        (digest, request)
    }

    /// A version with a folder of its own.
    async fn folder(&self, number: usize) -> (VersionId, String) {
        let (digest, request) = self.send(&web(&format!("./{number}")));
        (succeeded(self.deploy(request).await), digest)
    }

    async fn collect(&self, grace: Duration) {
        self.control.apps.collect();
        tokio::time::sleep(Duration::from_millis(1)).await;
        let world = &self.control.world;
        collect(&*world.store, &world.images, &self.control.artifacts, grace)
            .await
            .unwrap();
    }

    fn version(version: &VersionId) -> DeployRequest {
        DeployRequest {
            version: Some(version.clone()),
            ..DeployRequest::default()
        }
    }
}

#[track_caller]
fn succeeded(deploy: Deploy) -> VersionId {
    assert_eq!(deploy.status, DeployStatus::Succeeded, "{:?}", deploy.error);
    deploy.version.unwrap()
}

/// As `docker save` writes it, with one file that says which it is.
fn archive(number: usize) -> Vec<u8> {
    let entry = |tar: &mut tar::Builder<Vec<u8>>, path: &str, content: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        tar.append_data(&mut header, path, content).unwrap();
    };
    let mut layer = tar::Builder::new(Vec::new());
    entry(&mut layer, "number", number.to_string().as_bytes());
    let layer = layer.into_inner().unwrap();
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let config = json!({
        "os": "linux", "architecture": architecture, "config": { "Cmd": ["/serve"] },
        "rootfs": { "type": "layers", "diff_ids": [Digest::of(&layer)] },
    });
    let manifest = json!([{ "Config": "config.json", "RepoTags": ["shop:1"], "Layers": ["layer.tar"] }]);
    let mut out = tar::Builder::new(Vec::new());
    entry(&mut out, "layer.tar", &layer);
    entry(&mut out, "config.json", config.to_string().as_bytes());
    entry(&mut out, "manifest.json", manifest.to_string().as_bytes());
    out.into_inner().unwrap()
}

#[tokio::test(start_paused = true)]
async fn two_hundred_images_leave_five_and_older_versions_are_gone_with_theirs() {
    let shop = Shop::start().await;
    let mut versions = Vec::new();
    for number in 0..200 {
        versions.push(shop.image(number).await);
        if number % 20 == 19 {
            shop.collect(UPLOAD_GRACE).await;
            let store = &shop.control.world.images.store;
            assert_eq!(store.list().unwrap().len(), KEPT, "after {number}");
        }
    }
    let store = &*shop.control.world.store;
    let pools: Vec<PoolRecord> = ledger::list(store, Selection::All).await.unwrap();
    assert_eq!(pools[0].spec.port, Some(WEB_PORT), "its image exposes none");
    let (recent, digest) = &versions[200 - KEPT];
    assert_eq!(
        succeeded(shop.deploy(Shop::version(recent)).await),
        *recent,
        "it was kept"
    );
    let pools: Vec<PoolRecord> = ledger::list(store, Selection::All).await.unwrap();
    assert!(pools.iter().any(|pool| pool.image == Some(*digest)));
    let refused = shop.ask(Shop::version(&versions[0].0)).await.unwrap_err();
    assert_eq!(
        (refused.code, refused.field.as_deref()),
        (ErrorCode::NotFound, Some("version"))
    );
}

#[tokio::test(start_paused = true)]
async fn folders_go_as_images_do_but_not_the_ones_that_were_just_uploaded() {
    let shop = Shop::start().await;
    let mut folders = Vec::new();
    for number in 0..8 {
        folders.push(shop.folder(number).await);
    }
    let kept = || {
        let there = folders.iter().filter(|(_, digest)| shop.control.artifacts.has(digest));
        there.count()
    };
    shop.collect(UPLOAD_GRACE).await;
    assert_eq!(kept(), 8, "somebody may be about to deploy them");
    shop.collect(Duration::ZERO).await;
    assert_eq!(kept(), KEPT);
    assert!(shop.control.artifacts.has(&folders[7].1), "the one that serves");
    let refused = shop.ask(Shop::version(&folders[0].0)).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::NotFound);
}

#[tokio::test(start_paused = true)]
async fn what_still_runs_keeps_its_folder_however_old_its_version_is() {
    let shop = Shop::start().await;
    let (_, first) = shop.folder(0).await;
    shop.machine.hold("./0");
    for number in 1..=KEPT {
        shop.folder(number).await;
    }
    shop.collect(Duration::ZERO).await;
    assert!(shop.control.artifacts.has(&first), "its sandbox has not ended");
    shop.machine.release("./0");
    let pools = async || -> Vec<PoolRecord> {
        let store = &*shop.control.world.store;
        ledger::list(store, Selection::All).await.unwrap()
    };
    while pools().await.iter().any(|pool| pool.artifact == first) {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    shop.collect(Duration::ZERO).await;
    assert!(!shop.control.artifacts.has(&first), "nothing needs it any more");
}

#[tokio::test(start_paused = true)]
async fn what_serves_keeps_its_folder_while_newer_versions_fail() {
    let shop = Shop::start().await;
    let (first, serving) = shop.folder(0).await;
    for number in 1..=KEPT + 1 {
        let command = format!("./bad-{number}");
        shop.machine.fail(&command, "no such file");
        let failed = shop.deploy(shop.send(&web(&command)).1).await;
        assert_eq!(failed.status, DeployStatus::Failed);
    }
    shop.collect(Duration::ZERO).await;
    assert!(shop.control.artifacts.has(&serving));
    assert_eq!(succeeded(shop.deploy(Shop::version(&first)).await), first);
}

/// Not on a clock that is wound on while somebody waits for the network.
#[tokio::test]
async fn a_deploy_that_waits_for_its_image_keeps_its_folder() {
    let shop = Shop::start().await;
    // Takes connections and answers nothing.
    let registry = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let base = format!("{}/base:1", registry.local_addr().unwrap());
    let (digest, request) = shop.send(&format!("[build]\nbase = {base:?}\n{}", web("./one")));
    let asked = shop.ask(request).await.unwrap();
    assert!(!asked.status.is_final(), "{asked:?}");
    shop.collect(Duration::ZERO).await;
    assert!(shop.control.artifacts.has(&digest));
}
