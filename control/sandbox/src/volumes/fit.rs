//! Decides whether a disk is what a service asks for, and what is to be made when there is none.

use miren_api::app_file::{self, DiskKept, DiskMount};
use miren_api::settings::Bytes;
use miren_disk::{Disk, Filesystem, Provider};

/// What a service's wish comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Todo {
    /// It is there.
    Nothing,
    Make(Provider),
}

/// Whether a sandbox can start with what there is. Its size is not looked at: a disk may have grown since the deploy.
pub(super) fn for_boot(mount: &DiskMount, found: Option<&Disk>) -> Result<Todo, String> {
    let Some(found) = found else {
        return missing(mount).map(Todo::Make);
    };
    same_kind(mount, found)?;
    Ok(Todo::Nothing)
}

/// Whether a deploy may begin. Sizes have to be the same: nothing grows, and nothing can shrink, without being told to.
pub(super) fn for_deploy(mount: &DiskMount, found: Option<&Disk>) -> Result<(), String> {
    for_boot(mount, found)?;
    let Some(found) = found else { return Ok(()) };
    let (
        DiskKept::Loop {
            size_gb: Some(wanted), ..
        },
        Provider::Loop { size, .. },
    ) = (mount.kept, found.kept)
    else {
        return Ok(());
    };
    let (name, app, wanted) = (&mount.name, found.id.app(), gib(wanted));
    match wanted.cmp(&size) {
        std::cmp::Ordering::Equal => Ok(()),
        std::cmp::Ordering::Less => Err(format!("disk {name:?} has {size}, and no disk shrinks to {wanted}")),
        std::cmp::Ordering::Greater => Err(format!(
            "disk {name:?} has {size}, not {wanted}; grow it first: miren disk grow {name} --size-gb {} -a {app}",
            wanted.0 >> 30
        )),
    }
}

fn missing(mount: &DiskMount) -> Result<Provider, String> {
    match mount.kept {
        DiskKept::Directory => Ok(Provider::Directory),
        DiskKept::Loop { size_gb: None, .. } => Err(format!(
            "disk {:?} does not exist; set size_gb to create it",
            mount.name
        )),
        DiskKept::Loop {
            size_gb: Some(size),
            filesystem,
        } => Ok(Provider::Loop {
            size: gib(size),
            filesystem: of(filesystem.unwrap_or_default()),
        }),
    }
}

fn same_kind(mount: &DiskMount, found: &Disk) -> Result<(), String> {
    let name = &mount.name;
    match (mount.kept, found.kept) {
        (DiskKept::Directory, Provider::Directory) => Ok(()),
        (DiskKept::Loop { filesystem: None, .. }, Provider::Loop { .. }) => Ok(()),
        (
            DiskKept::Loop {
                filesystem: Some(wanted),
                ..
            },
            Provider::Loop { filesystem, .. },
        ) => match of(wanted) == filesystem {
            true => Ok(()),
            false => Err(format!("disk {name:?} exists as {filesystem}, not as {wanted}")),
        },
        (DiskKept::Directory, Provider::Loop { .. }) => Err(format!(
            "disk {name:?} exists with provider = \"loop\", not \"directory\""
        )),
        (DiskKept::Loop { .. }, Provider::Directory) => Err(format!(
            "disk {name:?} exists with provider = \"directory\", not \"loop\""
        )),
    }
}

pub(super) fn gib(count: u32) -> Bytes {
    Bytes(u64::from(count) << 30)
}

fn of(filesystem: app_file::Filesystem) -> Filesystem {
    match filesystem {
        app_file::Filesystem::Ext4 => Filesystem::Ext4,
        app_file::Filesystem::Xfs => Filesystem::Xfs,
        app_file::Filesystem::Btrfs => Filesystem::Btrfs,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn mount(kept: DiskKept) -> DiskMount {
        DiskMount {
            name: "data".into(),
            mount_path: "/data".into(),
            read_only: false,
            lease_timeout: Duration::ZERO,
            kept,
        }
    }

    fn image(size_gb: Option<u32>, filesystem: Option<app_file::Filesystem>) -> DiskMount {
        mount(DiskKept::Loop { size_gb, filesystem })
    }

    fn disk(kept: &str) -> Disk {
        let text = format!(
            r#"{{"app":"shop","name":"data","uuid":"0b0e1c2d-0000-4000-8000-000000000001",
            "created_at":"2026-01-02T03:04:05Z","kept":{kept}}}"#
        );
        serde_json::from_str(&text).expect("a record")
    }

    const TWO_GIB: &str = r#"{"provider":"loop","size_bytes":2147483648,"filesystem":"ext4"}"#;

    #[test]
    fn b5_a_disk_without_a_size_has_to_exist() {
        let told = for_deploy(&image(None, None), None).expect_err("there is none");
        assert_eq!(told, "disk \"data\" does not exist; set size_gb to create it");
        assert_eq!(for_boot(&image(None, None), None), Err(told));
        for_deploy(&image(None, None), Some(&disk(TWO_GIB))).expect("it is there");
        let made = for_boot(&image(Some(2), None), None).expect("it can be made");
        let provider = Provider::Loop {
            size: Bytes(2 << 30),
            filesystem: Filesystem::Ext4,
        };
        assert_eq!(made, Todo::Make(provider));
        assert_eq!(
            for_boot(&mount(DiskKept::Directory), None),
            Ok(Todo::Make(Provider::Directory))
        );
    }

    #[test]
    fn b5_a_disk_that_is_not_what_is_asked_for_is_refused_by_name() {
        let (found, folder) = (disk(TWO_GIB), disk(r#"{"provider":"directory"}"#));
        for_deploy(&image(Some(2), Some(app_file::Filesystem::Ext4)), Some(&found)).expect("it is the same");
        let told = |mount: DiskMount, found: &Disk| for_deploy(&mount, Some(found)).expect_err("it differs");
        assert_eq!(
            told(image(Some(1), None), &found),
            "disk \"data\" has 2GiB, and no disk shrinks to 1GiB"
        );
        assert!(told(image(Some(3), None), &found).contains("miren disk grow data --size-gb 3 -a shop"));
        let xfs = image(Some(2), Some(app_file::Filesystem::Xfs));
        assert_eq!(told(xfs, &found), "disk \"data\" exists as ext4, not as xfs");
        assert!(told(mount(DiskKept::Directory), &found).contains("with provider = \"loop\""));
        assert!(told(image(Some(2), None), &folder).contains("with provider = \"directory\""));
        // Grown since: what ran goes on.
        assert_eq!(for_boot(&image(Some(1), None), Some(&found)), Ok(Todo::Nothing));
    }
}
