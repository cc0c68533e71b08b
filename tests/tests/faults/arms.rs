//! Which points are armed: a file for each, in a folder that every user of the machine's may write to.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use miren_fault::{Kind, Point};
use tempfile::TempDir;

/// The folder of one node.
pub struct Arms(TempDir);

impl Arms {
    pub fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("miren-faults-").tempdir();
        let folder = folder.expect("making a folder");
        // The proxy has no privileges when it comes to its points.
        fs::set_permissions(folder.path(), Permissions::from_mode(0o777)).expect("opening the folder to the proxy");
        Self(folder)
    }

    pub fn folder(&self) -> &Path {
        self.0.path()
    }

    /// The next one to come to `point` meets it.
    pub fn arm(&self, point: Point, kind: Kind) {
        let new = self.0.path().join("new");
        fs::write(&new, kind.name()).expect("arming a point");
        fs::set_permissions(&new, Permissions::from_mode(0o666)).expect("arming a point");
        fs::rename(new, self.0.path().join(point.name())).expect("arming a point");
    }

    /// Whether somebody has met it.
    pub fn was_hit(&self, point: Point) -> bool {
        self.hit(point).exists()
    }

    /// What hangs goes on, and what has not happened does not happen any more. Whether somebody had met it.
    pub fn disarm(&self, point: Point) -> bool {
        // Each is there or not.
        let _ = fs::remove_file(self.0.path().join(point.name()));
        fs::remove_file(self.hit(point)).is_ok()
    }

    fn hit(&self, point: Point) -> PathBuf {
        self.0.path().join(format!("{}.hit", point.name()))
    }
}
