//! What a disk is called, what it is made from, and what is known of it.

use crate::uuid::Uuid;
use jiff::Timestamp;
use miren_api::AppName;
use miren_api::id::{LabelError, check_label};
use miren_api::settings::Bytes;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::PathBuf;

/// A disk: the app that owns it, and its name there. Two apps may each have a disk of one name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "Unchecked", into = "Unchecked")]
pub struct DiskId {
    app: AppName,
    name: String,
}

#[derive(Serialize, Deserialize)]
struct Unchecked {
    app: AppName,
    name: String,
}

impl DiskId {
    /// Both are DNS labels, and so parts of a file name that leads nowhere else.
    pub fn new(app: &AppName, name: &str) -> Result<Self, LabelError> {
        check_label(app.as_str())?;
        check_label(name)?;
        Ok(Self {
            app: app.clone(),
            name: name.to_owned(),
        })
    }

    /// The app that owns the disk.
    pub fn app(&self) -> &AppName {
        &self.app
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Reads what [`DiskId`] is shown as. No label has a dot.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (app, name) = text.split_once('.')?;
        Self::new(&AppName::from_text(app), name).ok()
    }
}

/// `shop.data`, which is also the name of its folder.
impl fmt::Display for DiskId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}.{}", self.app, self.name)
    }
}

impl TryFrom<Unchecked> for DiskId {
    type Error = String;

    fn try_from(id: Unchecked) -> Result<Self, String> {
        Self::new(&id.app, &id.name).map_err(|error| format!("the name of a disk or of its app {error}"))
    }
}

impl From<DiskId> for Unchecked {
    fn from(DiskId { app, name }: DiskId) -> Self {
        Self { app, name }
    }
}

/// File systems an image can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Filesystem {
    Ext4,
    Xfs,
    Btrfs,
}

impl Filesystem {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
            Self::Btrfs => "btrfs",
        }
    }
}

impl fmt::Display for Filesystem {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.as_str())
    }
}

/// How a disk is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "provider", rename_all = "lowercase")]
pub enum Provider {
    /// An image file, all of it reserved, mounted through a loop device. The size is rounded up to whole MiB.
    Loop {
        #[serde(rename = "size_bytes", with = "size_bytes")]
        size: Bytes,
        filesystem: Filesystem,
    },
    /// A plain folder, bind-mounted: no size, no quota, no snapshot.
    Directory,
}

mod size_bytes {
    use miren_api::settings::Bytes;
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(size: &Bytes, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u64(size.0)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Bytes, D::Error> {
        u64::deserialize(from).map(Bytes)
    }
}

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskSpec {
    pub id: DiskId,
    pub kept: Provider,
}

/// What is kept beside a disk, and with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disk {
    #[serde(flatten)]
    pub id: DiskId,
    /// Made at random; also the UUID of the file system. A snapshot has that of the disk it was taken from.
    pub uuid: Uuid,
    pub created_at: Timestamp,
    pub kept: Provider,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AttachOptions {
    pub read_only: bool,
}

/// A disk that is mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mounted {
    pub id: DiskId,
    pub at: PathBuf,
    /// The loop device; a folder has none.
    pub device: Option<PathBuf>,
    pub read_only: bool,
}

/// How full a mounted disk is. The file system takes a part of the disk's size for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    pub used: Bytes,
    pub size: Bytes,
}
