//! Decides what is under a sandbox that has an image or nothing: read-only layers, and above them what it writes.

use super::overlay::plain;
use super::{Etc, Inside, SandboxDir};
use crate::blame::Why;
use nix::mount::{MsFlags, mount};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, fsconfig_create, fsconfig_set_string, fsmount, fsopen,
    move_mount,
};
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Longest options of `mount(2)`: a page and its last zero.
const OPTIONS_MAX: usize = 4095;

/// Mounts the place for everything a sandbox writes: memory of its own, so that nobody else runs out of room.
pub(crate) fn prepare_scratch(dir: &SandboxDir, bytes: u64) -> io::Result<()> {
    let place = dir.scratch();
    fs::create_dir(&place)?;
    let options = format!("size={bytes},mode=0700");
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    Ok(mount(
        Some("tmpfs"),
        &place,
        Some("tmpfs"),
        flags,
        Some(options.as_str()),
    )?)
}

/// Where one overlay keeps what is written to it.
#[derive(Debug)]
pub(crate) struct Upper {
    pub(super) upper: PathBuf,
    pub(super) work: PathBuf,
}

impl Upper {
    /// In the scratch place, which is mounted.
    pub(crate) fn make(dir: &SandboxDir, name: &str) -> io::Result<Self> {
        let place = dir.scratch().join(name);
        let made = Self {
            upper: place.join("upper"),
            work: place.join("work"),
        };
        for part in [&made.upper, &made.work] {
            fs::create_dir_all(part)?;
        }
        // It is the one of the folder that is seen.
        fs::set_permissions(&made.upper, Permissions::from_mode(0o755))?;
        Ok(made)
    }
}

/// Folders of `/app` that are mounted on, for one that is read-only. None: there are none.
pub(crate) fn make_points<'p>(
    dir: &SandboxDir,
    mounted: impl Iterator<Item = &'p Path>,
) -> io::Result<Option<PathBuf>> {
    let place = dir.scratch().join("points");
    let mut any = false;
    for inside in mounted.filter_map(|path| path.strip_prefix("/app").ok()) {
        fs::create_dir_all(&place)?;
        Inside::open(&place)?.folder(inside)?;
        any = true;
    }
    Ok(any.then_some(place))
}

/// Mounts the root of a sandbox: layers, topmost first, and an empty one where there are none.
pub(crate) fn prepare(dir: &SandboxDir, layers: &[PathBuf]) -> io::Result<Inside> {
    fs::create_dir(dir.rootfs())?;
    let upper = Upper::make(dir, "root")?;
    let empty = dir.scratch().join("empty");
    fs::create_dir(&empty)?;
    let none = [empty];
    mount_overlay(&dir.rootfs(), if layers.is_empty() { &none } else { layers }, &upper)?;
    Inside::open(&dir.rootfs())
}

/// Puts into it what every sandbox has; `own` are folders that something of ours is mounted on.
pub(crate) fn furnish(inside: &Inside, made: Etc<'_>, own: &[&str]) -> Result<(), Why> {
    let places = inside.keep_places_of_kernel();
    let places = places.and_then(|()| own.iter().try_for_each(|name| inside.own_folder(name)));
    places.map_err(|error| Why::of(&error))?;
    made.write_inside(inside)
}

fn mount_overlay(at: &Path, layers: &[PathBuf], upper: &Upper) -> io::Result<()> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    match options(layers, upper) {
        Some(options) => Ok(mount(
            Some("overlay"),
            at,
            Some("overlay"),
            flags,
            Some(options.as_str()),
        )?),
        None => mount_piecewise(at, layers, upper).map_err(|error| {
            let why = format!("{} layers need Linux 6.5 or newer: {error}", layers.len());
            io::Error::new(error.kind(), why)
        }),
    }
}

/// All in one text, if it fits and nothing in it means something else.
fn options(layers: &[PathBuf], upper: &Upper) -> Option<String> {
    let lower: Option<Vec<&str>> = layers.iter().map(|layer| plain(layer)).collect();
    let lower = lower?.join(":");
    let options = format!(
        "lowerdir={lower},upperdir={},workdir={}",
        plain(&upper.upper)?,
        plain(&upper.work)?
    );
    (options.len() <= OPTIONS_MAX).then_some(options)
}

/// One option at a time.
fn mount_piecewise(at: &Path, layers: &[PathBuf], upper: &Upper) -> io::Result<()> {
    let overlay = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    for layer in layers {
        fsconfig_set_string(&overlay, "lowerdir+", layer)?;
    }
    fsconfig_set_string(&overlay, "upperdir", &upper.upper)?;
    fsconfig_set_string(&overlay, "workdir", &upper.work)?;
    fsconfig_create(&overlay)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    let mounted = fsmount(&overlay, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
    let whole = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    Ok(move_mount(&mounted, "", rustix::fs::CWD, at, whole)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_one_text_unless_they_are_too_long_or_would_mean_something_else() {
        let upper = Upper {
            upper: "/s/upper".into(),
            work: "/s/work".into(),
        };
        let layers = ["/l/b", "/l/a"].map(PathBuf::from);
        let expected = "lowerdir=/l/b:/l/a,upperdir=/s/upper,workdir=/s/work";
        assert_eq!(options(&layers, &upper).as_deref(), Some(expected));
        let many: Vec<PathBuf> = (0..100).map(|number| format!("/layers/{number:0>64}").into()).collect();
        assert_eq!(options(&many, &upper), None);
        assert_eq!(options(&["/a:b".into()], &upper), None);
    }
}
