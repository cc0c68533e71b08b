//! Decides where a slot table lives and which mode it is opened in.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// What the operator asks for (`fast_path.mode`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// The kernel if it can, else a file, with the reason logged and in the status.
    #[default]
    Auto,
    /// The kernel, or fail.
    Kernel,
    /// A file; no privileges, no hooks.
    Off,
}

/// What is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ActiveMode {
    /// Pinned maps and hooks.
    Kernel,
    /// A file, and a thread of control that watches processes.
    Off,
}

impl std::fmt::Display for ActiveMode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Kernel => "kernel",
            Self::Off => "off",
        })
    }
}

/// How control opens the table.
#[derive(Clone, Debug)]
pub struct FastPathConfig {
    /// What the operator asks for.
    pub mode: Mode,
    /// Folder of the pins; on a bpffs. Only used with the kernel.
    pub pin_dir: PathBuf,
    /// The table when the kernel is not used.
    pub table_file: PathBuf,
    /// Number of slots. Changing it needs a table that nothing uses.
    pub capacity: u32,
    /// The cgroup whose processes the connect hook covers; `None` is the root of the cgroup2 mount, so all of them.
    pub cgroup: Option<PathBuf>,
}

impl FastPathConfig {
    /// Slots when nothing else is said: 256 KiB of kernel memory.
    pub const DEFAULT_CAPACITY: u32 = 4096;
}

impl Default for FastPathConfig {
    fn default() -> Self {
        Self {
            mode: Mode::Auto,
            pin_dir: "/sys/fs/bpf/miren".into(),
            table_file: "/run/miren/slots".into(),
            capacity: Self::DEFAULT_CAPACITY,
            cgroup: None,
        }
    }
}

/// Where a proxy finds the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SlotSource {
    /// The pin folder of a table in the kernel.
    Pinned(PathBuf),
    /// The file of a table without the kernel.
    File(PathBuf),
}
