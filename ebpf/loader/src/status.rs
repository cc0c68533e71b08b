//! Decides what the fast path tells an operator about itself.

use std::path::PathBuf;

use serde::Serialize;

use crate::config::ActiveMode;

/// One snapshot, as `miren fastpath status` prints it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Status {
    /// What is in use.
    pub mode: ActiveMode,
    /// Why it is not the kernel although the kernel was tried.
    pub reason: Option<String>,
    /// Folder of the pins; `None` without the kernel.
    pub pin_dir: Option<PathBuf>,
    /// Version of the table's records.
    pub abi: u32,
    /// The attached programs.
    pub programs: Vec<ProgramStatus>,
    /// How full the table is.
    pub slots: SlotCounts,
    /// Changes of words: the kernel's since the table was made, control's since this process started.
    pub transitions: TransitionCounts,
    /// Connections the connect hook refused.
    pub refused_connects: u64,
    /// TCP segments the packet hook answered with RST.
    pub reset_packets: u64,
    /// Events that did not fit into a ring buffer or a channel.
    pub dropped_events: u64,
}

/// One attached program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ProgramStatus {
    /// Its name in the kernel.
    pub name: String,
    /// Its id in the kernel.
    pub id: u32,
    /// The kernel's tag of its instructions, in hexadecimal.
    pub tag: String,
    /// The tracepoint, cgroup or interface.
    pub attached_to: String,
}

/// How full the table is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct SlotCounts {
    /// Slots that are not FREE.
    pub used: u32,
    /// All slots.
    pub capacity: u32,
}

/// Who changed words how often.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct TransitionCounts {
    /// The exit hook.
    pub by_kernel: u64,
    /// Control.
    pub by_control: u64,
}
