//! The disks of a simulated machine: a table of which is there and who has it.

use async_trait::async_trait;
use miren_api::app_file::{DiskKept, DiskMount};
use miren_api::id::{AppName, SandboxId};
use miren_api::resource::{Disk, DiskState};
use miren_api::{ApiError, ErrorCode};
use miren_control::executor::Disks;
use miren_sandbox::StartOrder;
use std::collections::BTreeMap;
use std::sync::Mutex;

type Key = (AppName, String);

#[derive(Default)]
pub struct Kept {
    disks: Mutex<BTreeMap<Key, Vec<SandboxId>>>,
    /// Deletions fail.
    pub stuck: Mutex<bool>,
    /// Deletions do not end.
    pub hangs: Mutex<bool>,
    /// Times that two sandboxes had a disk which one of them writes, or that one was deleted under a sandbox.
    pub collisions: Mutex<Vec<String>>,
}

impl Kept {
    pub fn take(&self, order: &StartOrder) {
        let mut disks = self.disks.lock().unwrap();
        for mount in &order.service.disks {
            let holders = disks.entry((order.app.clone(), mount.name.clone())).or_default();
            if !mount.read_only && !holders.is_empty() {
                let seen = format!("{} and {holders:?} have {}", order.id, mount.name);
                self.collisions.lock().unwrap().push(seen);
            }
            holders.push(order.id.clone());
        }
    }

    pub fn give_back(&self, sandbox: &SandboxId) {
        for holders in self.disks.lock().unwrap().values_mut() {
            holders.retain(|holder| holder != sandbox);
        }
    }

    /// Sandboxes that nobody knows any more have nothing.
    pub fn keep_holders(&self, alive: &[SandboxId]) {
        for holders in self.disks.lock().unwrap().values_mut() {
            holders.retain(|holder| alive.contains(holder));
        }
    }

    pub fn names(&self, app: &str) -> Vec<String> {
        let disks = self.disks.lock().unwrap();
        let of_app = disks.keys().filter(|(owner, _)| owner.as_str() == app);
        of_app.map(|(_, name)| name.clone()).collect()
    }
}

fn described((app, name): &Key, leased_by: &[SandboxId]) -> Disk {
    Disk {
        name: name.clone(),
        app: app.clone(),
        provider: Some("loop".into()),
        size_gb: Some(1),
        filesystem: Some("ext4".into()),
        used_bytes: None,
        state: match leased_by.is_empty() {
            true => DiskState::Detached,
            false => DiskState::Attached,
        },
        reason: None,
        leased_by: leased_by.to_vec(),
        created_at: None,
    }
}

fn missing(name: &str) -> ApiError {
    ApiError::new(ErrorCode::NotFound, format!("disk {name:?} does not exist"))
}

#[async_trait]
impl Disks for Kept {
    async fn check(&self, app: &AppName, mounts: Vec<DiskMount>) -> Result<(), ApiError> {
        let disks = self.disks.lock().unwrap();
        for mount in mounts {
            let is_there = disks.contains_key(&(app.clone(), mount.name.clone()));
            if !is_there && matches!(mount.kept, DiskKept::Loop { size_gb: None, .. }) {
                return Err(ApiError::new(
                    ErrorCode::InvalidConfig,
                    format!("no disk {}", mount.name),
                ));
            }
        }
        Ok(())
    }

    async fn list(&self) -> Result<Vec<Disk>, ApiError> {
        let disks = self.disks.lock().unwrap();
        Ok(disks.iter().map(|(key, holders)| described(key, holders)).collect())
    }

    async fn get(&self, app: &AppName, name: &str) -> Result<Disk, ApiError> {
        let key = (app.clone(), name.to_owned());
        let disks = self.disks.lock().unwrap();
        let found = disks.get(&key).map(|holders| described(&key, holders));
        found.ok_or_else(|| missing(name))
    }

    async fn delete(&self, app: &AppName, name: &str) -> Result<(), ApiError> {
        let removed = self.disks.lock().unwrap().remove(&(app.clone(), name.to_owned()));
        removed.map(drop).ok_or_else(|| missing(name))
    }

    async fn delete_all(&self, app: &AppName) -> Result<(), ApiError> {
        if *self.hangs.lock().unwrap() {
            std::future::pending::<()>().await;
        }
        if *self.stuck.lock().unwrap() {
            return Err(ApiError::new(ErrorCode::Internal, "it cannot be deleted now"));
        }
        let mut disks = self.disks.lock().unwrap();
        for ((_, name), holders) in disks.extract_if(.., |(owner, _), _| owner == app) {
            if !holders.is_empty() {
                let seen = format!("{name} was deleted under {holders:?}");
                self.collisions.lock().unwrap().push(seen);
            }
        }
        Ok(())
    }

    async fn grow(&self, app: &AppName, name: &str, _: u32) -> Result<Disk, ApiError> {
        self.get(app, name).await
    }

    async fn snapshot(&self, app: &AppName, name: &str, to: &str) -> Result<Disk, ApiError> {
        self.get(app, name).await?;
        let key = (app.clone(), to.to_owned());
        self.disks.lock().unwrap().insert(key.clone(), Vec::new());
        Ok(described(&key, &[]))
    }
}
