//! Decides when a sandbox has its disks: taken together, mounted on the host once, given back when its processes are gone.

mod fit;
mod holders;
mod upkeep;

use crate::blame::Why;
use crate::bundle::SandboxDir;
use crate::files;
use fit::Todo;
use holders::{Holders, Leaving, Wanted};
use miren_api::app_file::DiskMount;
use miren_api::id::AppName;
use miren_disk::{AttachOptions, DiskError, DiskId, DiskSpec, Disks, Limits};
use miren_fault::Point;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

/// The disks of this node, and who has them. Cheap to clone.
#[derive(Clone)]
pub struct Volumes(Arc<Shared>);

struct Shared {
    disks: Disks,
    /// Where they are mounted, each under its id.
    places: PathBuf,
    holders: watch::Sender<Holders>,
}

/// A disk on its way into a sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct VolumeMount {
    pub(crate) host: PathBuf,
    pub(crate) inside: PathBuf,
    pub(crate) read_only: bool,
}

impl Volumes {
    /// Takes the folder of the disks, and puts in order what a crash left in it.
    pub(crate) fn open(disks: &Path, places: PathBuf) -> Result<Self, DiskError> {
        Ok(Self(Arc::new(Shared {
            disks: Disks::open(disks, Limits::default())?,
            places,
            holders: watch::Sender::new(Holders::default()),
        })))
    }

    /// Waits until a sandbox can have all its disks, for each at most for its `lease_timeout`.
    ///
    /// # Errors
    /// Which disk it waited for in vain, and who has it.
    pub(crate) async fn take(&self, sandbox: &str, app: &AppName, mounts: &[DiskMount]) -> Result<(), String> {
        let wanted = wanted(app, mounts)?;
        let begun = Instant::now();
        let mut changes = self.0.holders.subscribe();
        loop {
            changes.mark_unchanged();
            let mut refused = None;
            self.0.holders.send_if_modified(|holders| {
                refused = holders.take(sandbox, &wanted).err();
                refused.is_none()
            });
            let Some(refused) = refused else { return Ok(()) };
            let waits_for = mounts.iter().find(|mount| mount.name == refused.disk.name());
            let limit = waits_for.map(|mount| mount.lease_timeout).unwrap_or_default();
            if timeout_at(begun + limit, changes.changed()).await.is_err() {
                let (name, by) = (refused.disk.name(), refused.by.join(", "));
                return Err(format!("disk {name:?} was still held by {by} after {limit:?}"));
            }
        }
    }

    /// Makes what is missing and mounts the disks that a sandbox has taken. What it has is written down first, for the
    /// next daemon.
    pub(crate) async fn attach(&self, dir: SandboxDir, app: &AppName, mounts: &[DiskMount]) -> Result<(), Why> {
        let (volumes, app, mounts) = (self.clone(), app.clone(), mounts.to_vec());
        let attaching = move || {
            let noted = fs::create_dir_all(dir.path())
                .and_then(|()| files::write_json(&dir.disks(), &wanted(&app, &mounts).unwrap_or_default()));
            noted.map_err(|error| Why {
                text: format!("writing down its disks: {error}"),
                ..Why::of(&error)
            })?;
            mounts.iter().try_for_each(|mount| volumes.attach_one(&app, mount))
        };
        blocking(attaching).await
    }

    fn attach_one(&self, app: &AppName, mount: &DiskMount) -> Result<(), Why> {
        let id = id(app, &mount.name)?;
        let disks = &self.0.disks;
        if let Todo::Make(kept) = fit::for_boot(mount, self.find(&id)?.as_ref())? {
            let spec = DiskSpec { id: id.clone(), kept };
            let made = disks.create(&spec).map_err(|error| Why::of(&error))?;
            tracing::info!(disk = %made.id, "made a disk");
        }
        let options = AttachOptions {
            read_only: mount.read_only,
        };
        let attached = disks.attach(&id, &self.place(&id), options);
        attached.map(drop).map_err(|error| Why::of(&error))
    }

    /// A disk, or that there is none; any other error is one.
    fn find(&self, id: &DiskId) -> Result<Option<miren_disk::Disk>, Why> {
        match self.0.disks.get(id) {
            Ok(disk) => Ok(Some(disk)),
            Err(DiskError::NotFound { .. }) => Ok(None),
            Err(error) => Err(Why::of(&error)),
        }
    }

    fn place(&self, id: &DiskId) -> PathBuf {
        self.0.places.join(id.to_string())
    }

    /// Where a sandbox's disks are and where they belong, outer folders first.
    pub(crate) fn mounts(&self, app: &AppName, mounts: &[DiskMount]) -> Vec<VolumeMount> {
        let mount = |mount: &DiskMount| {
            Some(VolumeMount {
                host: self.place(&id(app, &mount.name).ok()?),
                inside: mount.mount_path.clone(),
                read_only: mount.read_only,
            })
        };
        let mut found: Vec<VolumeMount> = mounts.iter().filter_map(mount).collect();
        found.sort_by(|a, b| a.inside.cmp(&b.inside));
        found
    }

    /// Notes what a sandbox of an earlier daemon has: what it wrote down, else what its order says.
    pub(crate) fn adopt(&self, sandbox: &str, dir: &SandboxDir, order: Option<(&AppName, &[DiskMount])>) {
        let noted: Vec<Wanted> = match files::read_json(&dir.disks()) {
            Ok(noted) => noted.unwrap_or_default(),
            Err(error) => {
                tracing::error!(sandbox, %error, "which disks it has cannot be read; those of its order are taken for it");
                let ordered = order.and_then(|(app, mounts)| wanted(app, mounts).ok());
                ordered.unwrap_or_default()
            }
        };
        if !noted.is_empty() {
            self.0.holders.send_modify(|holders| holders.seize(sandbox, &noted));
        }
    }

    /// Gives back what a sandbox has: a disk is unmounted when its last holder leaves, then whoever waits goes on. For
    /// when its processes are gone.
    ///
    /// # Errors
    /// Which disk cannot be unmounted, and what uses it; the sandbox keeps it.
    pub(crate) async fn release(&self, sandbox: &str, dir: SandboxDir) -> Result<(), String> {
        miren_fault::at(Point::CleanVolumes)
            .await
            .map_err(|fault| fault.to_string())?;
        let held = self.0.holders.borrow().of(sandbox);
        if held.is_empty() {
            return Ok(());
        }
        let (volumes, sandbox) = (self.clone(), sandbox.to_owned());
        let releasing = move || {
            held.iter().try_for_each(|id| volumes.release_one(id, &sandbox))?;
            files::remove_file_if_there(&dir.disks()).map_err(|error| format!("forgetting its disks: {error}"))
        };
        blocking(releasing).await
    }

    fn release_one(&self, id: &DiskId, sandbox: &str) -> Result<(), String> {
        let holders = &self.0.holders;
        let mut leaving = Leaving::Others;
        holders.send_modify(|holders| leaving = holders.close(id, sandbox));
        match leaving {
            Leaving::Others => {}
            // A second attempt could end after somebody else has got the disk.
            Leaving::UnderWay => return Err(format!("disk {id} is still being unmounted")),
            Leaving::Last => {
                let unmounted = self.unmount(id);
                unmounted.inspect_err(|_| holders.send_modify(|holders| holders.reopen(id)))?;
            }
        }
        self.0.holders.send_modify(|holders| holders.give_back(id, sandbox));
        Ok(())
    }

    fn unmount(&self, id: &DiskId) -> Result<(), String> {
        match self.0.disks.detach(id) {
            Ok(()) | Err(DiskError::NotFound { .. }) => {}
            Err(error) => return Err(error.to_string()),
        }
        let place = self.place(id);
        files::remove_dir_if_there(&place).map_err(|error| format!("removing {}: {error}", place.display()))
    }

    /// Unmounts what nobody has. For after the adoption.
    pub(crate) async fn unmount_unheld(&self) {
        let volumes = self.clone();
        let unmounting = move || {
            let attached = volumes.0.disks.attached().map_err(|error| error.to_string())?;
            for mounted in attached {
                if volumes.0.holders.borrow().by(&mounted.id).is_empty() {
                    tracing::info!(disk = %mounted.id, "unmounting a disk that no sandbox has");
                    volumes.unmount(&mounted.id)?;
                }
            }
            Ok::<_, String>(())
        };
        if let Err(error) = blocking(unmounting).await {
            tracing::error!(error, "a disk that no sandbox has cannot be unmounted");
        }
    }

    /// Removes the folder of the places, which has none left.
    pub(crate) fn remove_places(&self) -> std::io::Result<()> {
        files::remove_dir_if_there(&self.0.places)
    }
}

fn id(app: &AppName, name: &str) -> Result<DiskId, String> {
    DiskId::new(app, name).map_err(|why| format!("disk {name:?} of app {app}: a name {why}"))
}

fn wanted(app: &AppName, mounts: &[DiskMount]) -> Result<Vec<Wanted>, String> {
    let wanted = |mount: &DiskMount| {
        Ok(Wanted {
            disk: id(app, &mount.name)?,
            read_only: mount.read_only,
        })
    };
    mounts.iter().map(wanted).collect()
}

/// Disks are read and mounted by calls that block.
async fn blocking<T, E>(call: impl FnOnce() -> Result<T, E> + Send + 'static) -> Result<T, E>
where
    T: Send + 'static,
    E: From<String> + Send + 'static,
{
    let called = tokio::task::spawn_blocking(call).await;
    called.unwrap_or_else(|error| Err(error.to_string().into()))
}
