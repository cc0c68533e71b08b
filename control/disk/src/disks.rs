//! What may be asked of the disks of this machine: each call on a disk is alone, and finds it whole or says why not.

use crate::directory;
use crate::disk::{AttachOptions, Disk, DiskId, DiskSpec, Mounted, Provider, Usage};
use crate::error::DiskError;
use crate::folder::{self, Folder};
use crate::image::{self, Context, Image};
use crate::limits::Limits;
use crate::mounts;
use crate::uuid::Uuid;
use jiff::Timestamp;
use miren_api::settings::Bytes;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The disks in one folder. They are mounted in the mount namespace of the calling thread.
pub struct Disks {
    folder: Folder,
    context: Context,
    busy: Mutex<HashMap<DiskId, Arc<Mutex<()>>>>,
}

impl Disks {
    /// Takes the folder, which no other process may have, and puts in order what a crash left: disks that were never
    /// finished or were being deleted are removed, file systems that were frozen are thawed. What is attached stays so.
    pub fn open(folder: &Path, limits: Limits) -> Result<Self, DiskError> {
        let context = Context {
            limits,
            ..Context::default()
        };
        Self::open_with(folder, context)
    }

    pub(crate) fn open_with(folder: &Path, context: Context) -> Result<Self, DiskError> {
        let disks = Self {
            folder: Folder::open(folder)?,
            context,
            busy: Mutex::default(),
        };
        disks.folder.clean()?;
        for mounted in disks.attached()?.iter().filter(|mounted| mounted.device.is_some()) {
            image::thaw_if_frozen(&mounted.at);
        }
        Ok(disks)
    }

    /// Makes a disk. One that is there, kept in the same way, is returned as it is, whatever its
    /// size; one that cannot be read is an error, and stays as it is.
    pub fn create(&self, spec: &DiskSpec) -> Result<Disk, DiskError> {
        self.alone(&[&spec.id], || {
            if self.folder.has(&spec.id)? {
                return self.existing(spec);
            }
            let disk = planned(spec)?;
            self.appear(&disk, |dir| match disk.kept {
                Provider::Loop { size, filesystem } => image::make(dir, &disk, (size, filesystem), &self.context),
                Provider::Directory => directory::make(dir),
            })?;
            Ok(disk)
        })
    }

    fn existing(&self, spec: &DiskSpec) -> Result<Disk, DiskError> {
        let disk = self.read(&spec.id)?;
        match (how(disk.kept), how(spec.kept)) {
            (is, wanted) if is == wanted => Ok(disk),
            (is, wanted) => Err(DiskError::Exists {
                id: disk.id,
                what: format!("as {is}, not as {wanted}"),
            }),
        }
    }

    /// A disk, after looking that it is what its record says.
    pub fn get(&self, id: &DiskId) -> Result<Disk, DiskError> {
        self.alone(&[id], || self.read(id))
    }

    /// Names of all disks, also of those that cannot be read.
    pub fn ids(&self) -> Result<Vec<DiskId>, DiskError> {
        self.folder.ids()
    }

    /// Mounts a disk at a folder, which is made if need be. A disk that is there already, with the same options, is left
    /// so; one that is elsewhere is [`DiskError::Busy`].
    pub fn attach(&self, id: &DiskId, at: &Path, options: AttachOptions) -> Result<Mounted, DiskError> {
        self.alone(&[id], || {
            let (dir, disk) = (self.folder.disk(id), self.read(id)?);
            let at = mounts::prepare_place(at)?;
            match open_image(&dir, &disk)? {
                Some(image) => image::attach(&image, &at, options, &self.context),
                None => directory::attach(&dir, id, &at, options),
            }
        })
    }

    /// Unmounts a disk, if it is mounted. When it is used for longer than the limit, it stays and the error says by whom.
    pub fn detach(&self, id: &DiskId) -> Result<(), DiskError> {
        self.alone(&[id], || {
            let dir = self.present(id)?;
            image::detach(&dir, id, &self.context.limits)?;
            directory::detach(&dir, id, self.context.limits.unmount)
        })
    }

    /// All disks that are mounted. One of which that cannot be told is logged and left out: it hides no other.
    pub fn attached(&self) -> Result<Vec<Mounted>, DiskError> {
        let ids = self.folder.ids()?;
        let mounted = ids.iter().filter_map(|id| {
            let mounted = self.mounted(id);
            mounted.unwrap_or_else(|error| {
                tracing::warn!(%error, disk = %id, "whether it is attached cannot be told");
                None
            })
        });
        Ok(mounted.collect())
    }

    /// Makes a disk larger, and finishes a grow that was interrupted. One that is mounted for writing grows at once; for
    /// ext4 that takes CAP_SYS_RESOURCE, without it it is `Unsupported`. Any other has its new size from the next attach
    /// for writing on. A folder has no size: `Unsupported`.
    pub fn grow(&self, id: &DiskId, size: Bytes) -> Result<Disk, DiskError> {
        self.alone(&[id], || {
            let (dir, disk) = (self.folder.disk(id), self.read(id)?);
            let image = open_image(&dir, &disk)?.ok_or_else(|| unsupported(id, "has no size"))?;
            image::grow(&dir, &image, size, &self.context)
        })
    }

    /// Makes a disk `to`, of the same app, with what `id` has on it at one moment. Its writers wait meanwhile: for a
    /// moment where the machine's file system can share blocks, else while the bytes are copied, at most for
    /// [`Limits::frozen`]; then the snapshot fails and leaves nothing. A folder has none: `Unsupported`.
    pub fn snapshot(&self, id: &DiskId, to: &DiskId) -> Result<Disk, DiskError> {
        self.alone(&[id, to], || {
            if id.app() != to.app() {
                return Err(DiskError::Invalid {
                    what: format!("disk {to} would be of another app than {id}"),
                });
            }
            let (dir, disk) = (self.folder.disk(id), self.read(id)?);
            let image = open_image(&dir, &disk)?.ok_or_else(|| unsupported(id, "has no snapshots"))?;
            if self.folder.has(to)? {
                return Err(DiskError::Exists {
                    id: to.clone(),
                    what: "a snapshot is a new disk".to_owned(),
                });
            }
            let copy = Disk {
                id: to.clone(),
                created_at: Timestamp::now(),
                ..disk.clone()
            };
            self.appear(&copy, |dir| image::snapshot(&image, dir, &self.context))?;
            Ok(copy)
        })
    }

    /// Deletes a disk that is not attached, also one that is damaged.
    pub fn delete(&self, id: &DiskId) -> Result<(), DiskError> {
        self.alone(&[id], || {
            let dir = self.present(id)?;
            image::must_be_detached(&dir, id)?;
            if let Some(mounted) = directory::mounted(&dir, id)? {
                return Err(DiskError::busy(format!(
                    "disk {id} is attached at {}",
                    mounted.at.display()
                )));
            }
            folder::must_be_free_of_mounts(&dir)?;
            let buried = self.folder.bury(id)?;
            self.context.steps.reached("renamed");
            self.folder.sync()?;
            self.context.steps.reached("rename synced");
            folder::remove(&buried)?;
            self.context.steps.reached("removed");
            Ok(())
        })
    }

    /// How full a disk is; None when it is not attached. A folder has no size: `Unsupported`.
    pub fn usage(&self, id: &DiskId) -> Result<Option<Usage>, DiskError> {
        self.alone(&[id], || match self.read(id)?.kept {
            Provider::Directory => Err(unsupported(id, "has no size")),
            Provider::Loop { .. } => {
                let mounted = image::mounted(&self.folder.disk(id), id)?;
                mounted.map(|mounted| image::usage(&mounted.at)).transpose()
            }
        })
    }

    fn mounted(&self, id: &DiskId) -> Result<Option<Mounted>, DiskError> {
        let dir = self.folder.disk(id);
        match image::mounted(&dir, id)? {
            Some(mounted) => Ok(Some(mounted)),
            None => directory::mounted(&dir, id),
        }
    }

    fn present(&self, id: &DiskId) -> Result<PathBuf, DiskError> {
        match self.folder.has(id)? {
            true => Ok(self.folder.disk(id)),
            false => Err(DiskError::NotFound { id: id.clone() }),
        }
    }

    /// Record and content of a disk, checked. Its size is that of the image, which a grow changes first.
    fn read(&self, id: &DiskId) -> Result<Disk, DiskError> {
        let dir = self.present(id)?;
        let mut disk = folder::read_record(&dir, id)?;
        let recorded = disk.clone();
        match (&mut disk.kept, open_image(&dir, &recorded)?) {
            (Provider::Loop { size, .. }, Some(image)) => *size = Bytes(image.length),
            _ => directory::inspect(&dir)?,
        }
        Ok(disk)
    }

    /// Makes a disk under a name that is none, then gives it its own. What fails leaves nothing.
    fn appear(&self, disk: &Disk, fill: impl FnOnce(&Path) -> Result<(), DiskError>) -> Result<(), DiskError> {
        let dir = self.folder.unfinished(&disk.id)?;
        self.context.steps.reached("folder made");
        let finished = fill(&dir).and_then(|()| {
            folder::write_record(&dir, disk)?;
            self.context.steps.reached("record written");
            self.folder.finish(&dir, &disk.id)
        });
        if let Err(error) = finished {
            // The error that is reported is the first one; what is left now goes at the next try or start.
            let _ = folder::remove(&dir);
            return Err(error);
        }
        self.context.steps.reached("named");
        self.folder.sync()?;
        self.context.steps.reached("name synced");
        Ok(())
    }

    /// Runs something while no other call has these disks.
    fn alone<T>(&self, ids: &[&DiskId], act: impl FnOnce() -> Result<T, DiskError>) -> Result<T, DiskError> {
        let mut ids = ids.to_vec();
        // Always in one order, and each once: two calls never wait for each other.
        ids.sort();
        ids.dedup();
        let locks: Vec<Arc<Mutex<()>>> = {
            let mut busy = self.busy.lock();
            busy.retain(|_, lock| Arc::strong_count(lock) > 1);
            ids.into_iter()
                .map(|id| Arc::clone(busy.entry(id.clone()).or_default()))
                .collect()
        };
        let _held: Vec<_> = locks.iter().map(|lock| lock.lock()).collect();
        act()
    }
}

/// The disk a spec asks for, if there can be one.
fn planned(spec: &DiskSpec) -> Result<Disk, DiskError> {
    let kept = match spec.kept {
        Provider::Loop { size, filesystem } => {
            let size = image::whole(size, filesystem)?;
            filesystem.maker().find()?;
            Provider::Loop { size, filesystem }
        }
        Provider::Directory => Provider::Directory,
    };
    Ok(Disk {
        id: spec.id.clone(),
        uuid: Uuid::random(),
        created_at: Timestamp::now(),
        kept,
    })
}

fn open_image<'a>(dir: &Path, disk: &'a Disk) -> Result<Option<Image<'a>>, DiskError> {
    match disk.kept {
        Provider::Loop { size, filesystem } => image::inspect(dir, disk, (size, filesystem)).map(Some),
        Provider::Directory => Ok(None),
    }
}

fn how(kept: Provider) -> &'static str {
    match kept {
        Provider::Loop { filesystem, .. } => filesystem.as_str(),
        Provider::Directory => "a folder",
    }
}

fn unsupported(id: &DiskId, what: &str) -> DiskError {
    DiskError::Unsupported {
        what: format!("disk {id} is a folder: it {what}"),
    }
}
