//! Decides what an operator may do with disks: look at any, change those that no sandbox has, grow and copy all.

use super::holders::Wanted;
use super::{Volumes, blocking, fit, id};
use miren_api::app_file::DiskMount;
use miren_api::id::{AppName, SandboxId};
use miren_api::resource::{Disk, DiskState};
use miren_disk::{DiskError, DiskId, Provider, Usage};

/// Who has a disk while it is being deleted.
const DELETION: &str = "its deletion";

impl Volumes {
    /// Whether a deploy may begin with what there is. Nothing is made.
    ///
    /// # Errors
    /// What is wrong with the first disk that does not fit.
    pub async fn check(&self, app: &AppName, mounts: Vec<DiskMount>) -> Result<(), String> {
        let (volumes, app) = (self.clone(), app.clone());
        let checking = move || {
            let check = |mount: &DiskMount| fit::for_deploy(mount, volumes.find(&id(&app, &mount.name)?)?.as_ref());
            mounts.iter().try_for_each(check)
        };
        blocking(checking).await
    }

    /// Every disk of the node, also those that cannot be read.
    pub async fn list(&self) -> Result<Vec<Disk>, DiskError> {
        self.asking(|volumes| {
            let ids = volumes.0.disks.ids()?;
            Ok(ids.iter().map(|id| volumes.look(id)).collect())
        })
        .await
    }

    pub async fn get(&self, id: DiskId) -> Result<Disk, DiskError> {
        self.asking(move |volumes| match volumes.0.disks.get(&id) {
            Err(DiskError::NotFound { id }) => Err(DiskError::NotFound { id }),
            _ => Ok(volumes.look(&id)),
        })
        .await
    }

    /// Deletes a disk that no sandbox has.
    pub async fn delete(&self, id: DiskId) -> Result<(), DiskError> {
        self.asking(move |volumes| {
            volumes.take_for_deletion(&id)?;
            let deleted = volumes.0.disks.delete(&id);
            volumes
                .0
                .holders
                .send_modify(|holders| holders.give_back(&id, DELETION));
            deleted
        })
        .await
    }

    fn take_for_deletion(&self, id: &DiskId) -> Result<(), DiskError> {
        let wanted = Wanted {
            disk: id.clone(),
            read_only: false,
        };
        let mut refused = None;
        self.0.holders.send_if_modified(|holders| {
            refused = holders.take(DELETION, &[wanted]).err();
            refused.is_none()
        });
        match refused {
            None => Ok(()),
            Some(refused) => Err(DiskError::Busy {
                what: format!("disk {:?} is attached", id.name()),
                holders: refused.by,
            }),
        }
    }

    /// Deletes every disk of an app whose sandboxes are gone, once the last of them has given back what it had.
    pub async fn delete_all(&self, app: &AppName) -> Result<(), DiskError> {
        let mut changes = self.0.holders.subscribe();
        let app = app.clone();
        // The sender is `self`: it is there as long as this waits.
        let _ = changes.wait_for(|holders| !holders.has_of(&app)).await;
        for disk in self.of(&app).await? {
            tracing::info!(%disk, "deleting a disk of a deleted app");
            self.delete(disk).await?;
        }
        Ok(())
    }

    async fn of(&self, app: &AppName) -> Result<Vec<DiskId>, DiskError> {
        let app = app.clone();
        self.asking(move |volumes| {
            let mut ids = volumes.0.disks.ids()?;
            ids.retain(|id| *id.app() == app);
            Ok(ids)
        })
        .await
    }

    /// Makes a disk larger, also while a sandbox has it.
    pub async fn grow(&self, id: DiskId, size_gb: u32) -> Result<Disk, DiskError> {
        self.asking(move |volumes| {
            volumes.0.disks.grow(&id, fit::gib(size_gb))?;
            Ok(volumes.look(&id))
        })
        .await
    }

    /// Makes the disk `to` with what `id` has on it at one moment, also while a sandbox has it.
    pub async fn snapshot(&self, id: DiskId, to: DiskId) -> Result<Disk, DiskError> {
        self.asking(move |volumes| {
            volumes.0.disks.snapshot(&id, &to)?;
            Ok(volumes.look(&to))
        })
        .await
    }

    fn look(&self, id: &DiskId) -> Disk {
        let by = self.0.holders.borrow().by(id);
        let found = self.0.disks.get(id);
        let usage = self.0.disks.usage(id).ok().flatten();
        let mut volume = Disk {
            name: id.name().to_owned(),
            app: id.app().clone(),
            provider: None,
            size_gb: None,
            filesystem: None,
            used_bytes: usage.map(|Usage { used, .. }| used.0),
            state: if by.is_empty() {
                DiskState::Detached
            } else {
                DiskState::Attached
            },
            reason: None,
            leased_by: by.into_iter().map(SandboxId::from_text).collect(),
            created_at: None,
        };
        match found {
            Ok(disk) => describe(&mut volume, &disk),
            Err(error) => {
                volume.state = DiskState::Damaged;
                volume.reason = Some(error.to_string());
            }
        }
        volume
    }

    async fn asking<T: Send + 'static>(
        &self,
        call: impl FnOnce(&Self) -> Result<T, DiskError> + Send + 'static,
    ) -> Result<T, DiskError> {
        let volumes = self.clone();
        let told = blocking(move || Ok::<_, String>(call(&volumes))).await;
        told.unwrap_or_else(|why| {
            Err(DiskError::Failed {
                doing: "looking after disks".to_owned(),
                detail: why,
            })
        })
    }
}

fn describe(volume: &mut Disk, disk: &miren_disk::Disk) {
    volume.created_at = Some(disk.created_at);
    match disk.kept {
        Provider::Directory => volume.provider = Some("directory".to_owned()),
        Provider::Loop { size, filesystem } => {
            volume.provider = Some("loop".to_owned());
            volume.size_gb = Some(size.0 >> 30);
            volume.filesystem = Some(filesystem.to_string());
        }
    }
}
