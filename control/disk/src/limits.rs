//! How long things may take.

use std::time::Duration;

/// Longest waits of a call.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Making or growing a file system.
    pub program: Duration,
    /// Checking a file system before it is mounted.
    pub check: Duration,
    /// Copying an image while its file system is frozen.
    pub frozen: Duration,
    /// Unmounting, while something still uses the disk.
    pub unmount: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            program: Duration::from_secs(120),
            check: Duration::from_secs(600),
            frozen: Duration::from_secs(20),
            unmount: Duration::from_secs(5),
        }
    }
}
