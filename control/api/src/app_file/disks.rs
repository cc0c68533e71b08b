//! The disks of a service: which names its sandboxes find where, and which combinations can never work.

use super::{Service, limits};
use crate::id::check_label;
use crate::settings::Table;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Most disks of one service.
pub const DISKS_MAX: usize = 16;
/// Largest disk: what ext4 takes with blocks of 4 KiB.
pub const DISK_GB_MAX: u32 = 16_384;
/// Folders a sandbox cannot do without, each made for it.
const RESERVED: [&str; 3] = ["/proc", "/sys", "/dev"];

/// A disk as the sandboxes of a service see it. Its name means a disk of the app, whatever the service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskMount {
    pub name: String,
    /// Absolute, without `.` or `..`.
    pub mount_path: PathBuf,
    pub read_only: bool,
    /// How long a sandbox waits for one that still has the disk.
    pub lease_timeout: Duration,
    #[serde(flatten)]
    pub kept: DiskKept,
}

/// How a disk is to be kept; it is made so when there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "provider", rename_all = "lowercase")]
pub enum DiskKept {
    /// An image with a file system of its own. Without a size it has to exist; any file system will do unless one is named.
    Loop {
        size_gb: Option<u32>,
        filesystem: Option<Filesystem>,
    },
    /// A plain folder of the node.
    Directory,
}

/// File systems an image can have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Filesystem {
    #[default]
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

    fn parse(text: &str) -> Result<Self, String> {
        let all = [Self::Ext4, Self::Xfs, Self::Btrfs];
        let found = all.into_iter().find(|one| one.as_str() == text);
        found.ok_or_else(|| format!("{text:?} is not one of \"ext4\", \"xfs\", \"btrfs\""))
    }
}

impl fmt::Display for Filesystem {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.as_str())
    }
}

/// Reads `[[services.<name>.disks]]`. One that is not whole is reported and left out.
pub(super) fn declare(table: &mut Table<'_, '_, '_>) -> Vec<DiskMount> {
    let mut seen: Vec<DiskMount> = Vec::new();
    table.tables("disks", DISKS_MAX, |entry| {
        let Some(disk) = declare_one(entry) else { return };
        if seen.iter().any(|other| other.name == disk.name) {
            entry.refuse("name", format!("disk {:?} is named a second time", disk.name));
        } else if seen.iter().any(|other| other.mount_path == disk.mount_path) {
            let path = disk.mount_path.display();
            entry.refuse("mount_path", format!("another disk is mounted at {path}"));
        } else {
            seen.push(disk);
        }
    });
    seen
}

fn declare_one(entry: &mut Table<'_, '_, '_>) -> Option<DiskMount> {
    let name = entry.optional(
        "name",
        "Name of the disk, a DNS label. It belongs to the app.",
        |text| {
            check_label(text)
                .map(|()| text.to_owned())
                .map_err(|why| format!("{text:?} {why}"))
        },
    );
    let doc = "Where sandboxes find it: an absolute path outside /proc, /sys and /dev.";
    let mount_path = entry.optional("mount_path", doc, mount_path);
    let doc = "`loop`: an image with a file system of its own. `directory`: a folder of the node, without a size.";
    let is_folder = entry.choice("provider", "loop", doc, &[("loop", false), ("directory", true)]);
    let doc = "Size in GiB. Makes the disk when there is none; without it the disk has to exist.";
    let size_gb = entry.optional_integer("size_gb", 1..=i64::from(DISK_GB_MAX), doc);
    let doc = "`ext4` (for a new one), `xfs` or `btrfs`.";
    let filesystem = entry.optional("filesystem", doc, Filesystem::parse);
    let doc = "Nothing can be written; several sandboxes may have it at once.";
    let read_only = entry.boolean("read_only", false, doc);
    let doc = "How long a sandbox waits for the one that still has the disk.";
    let lease_timeout = entry.parsed("lease_timeout", "5m", doc, limits::bounded);
    for key in ["name", "mount_path"] {
        entry.require(key);
    }
    for key in ["size_gb", "filesystem"] {
        if is_folder && entry.has(key) {
            entry.refuse(key, "does not go with provider = \"directory\"");
        }
    }
    let kept = match is_folder {
        true => DiskKept::Directory,
        false => DiskKept::Loop {
            size_gb: size_gb.and_then(|size| u32::try_from(size).ok()),
            filesystem,
        },
    };
    Some(DiskMount {
        name: name?,
        mount_path: mount_path?,
        read_only,
        lease_timeout,
        kept,
    })
}

/// A path that a disk can be mounted at, without a slash at its end.
fn mount_path(text: &str) -> Result<PathBuf, String> {
    let path = limits::path(text)?;
    if !path.starts_with('/') {
        return Err(format!("{text:?} is not absolute"));
    }
    let names: Vec<&str> = path.split('/').filter(|name| !name.is_empty()).collect();
    if let Some(name) = names.iter().find(|name| matches!(**name, "." | "..")) {
        return Err(format!("{text:?} has {name:?} in it"));
    }
    if names.is_empty() {
        return Err("is the root of the sandbox; choose a folder below it".to_owned());
    }
    let path = Path::new("/").join(names.join("/"));
    match RESERVED.iter().find(|reserved| path.starts_with(reserved)) {
        Some(reserved) => Err(format!("{text:?} lies in {reserved}, which the system makes")),
        None => Ok(path),
    }
}

/// A disk that is written has one sandbox at a time, so only one service can have it.
pub(super) fn refuse_shared(root: &mut Table<'_, '_, '_>, services: &BTreeMap<String, Service>) {
    let mut users: BTreeMap<&str, Vec<(&str, bool)>> = BTreeMap::new();
    for (service, settings) in services {
        for disk in &settings.disks {
            users.entry(&disk.name).or_default().push((service, disk.read_only));
        }
    }
    for (disk, users) in users {
        let writer = users.iter().find(|(_, read_only)| !read_only);
        let other = users.iter().find(|user| Some(*user) != writer);
        if let (Some((writer, _)), Some((other, _))) = (writer, other) {
            let message = format!(
                "disk {disk:?} is written by {writer:?}, so {other:?} cannot have it too; set read_only = true in both"
            );
            root.refuse("services", message);
        }
    }
}

#[cfg(test)]
mod tests;
