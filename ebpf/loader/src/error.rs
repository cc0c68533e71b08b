//! Decides what each failure of the fast path is called and what the operator can do about it.

use std::{io, path::PathBuf};

use miren_abi::Word;

/// Why a table could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// This binary carries no kernel object.
    #[error("kernel programs are not built; run `cargo xtask ebpf`")]
    NotBuilt,
    /// The kernel refuses BPF to this process.
    #[error(
        "{doing}: {source} (needs CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN: run as root, or set fast_path.mode = \"off\")"
    )]
    NotAllowed {
        /// What was being done.
        doing: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// The kernel lacks something the programs need.
    #[error("{doing}: {reason} (needs Linux 6.6 or newer with BTF and cgroup2, or set fast_path.mode = \"off\")")]
    Unsupported {
        /// What was being done.
        doing: String,
        /// What the kernel, or the check, said.
        reason: String,
    },
    /// What the hooks call a process, or a time, is not what this process calls it.
    #[error(
        "the hooks see processes and times as the machine's first {kind} namespace does, and this process is in another one: start miren-control in the first (a container with --pid=host), or set fast_path.mode = \"off\""
    )]
    NestedNamespace {
        /// `pid` or `time`.
        kind: &'static str,
    },
    /// The table is of another layout.
    #[error(
        "{place} was made by another release (table layout {found}, this one writes {wanted}): stop its sandboxes and remove it"
    )]
    OtherLayout {
        /// The pin folder or the file.
        place: PathBuf,
        /// What was found.
        found: String,
        /// What this build makes.
        wanted: String,
    },
    /// The table has another number of slots than the configuration.
    #[error(
        "{place} has {found} slots and fast_path.capacity is {wanted}: set it back, or stop the sandboxes and remove it"
    )]
    OtherCapacity {
        /// The pin folder or the file.
        place: PathBuf,
        /// Slots in the table.
        found: u32,
        /// Slots in the configuration.
        wanted: u32,
    },
    /// The folder for the pins cannot hold pins.
    #[error(
        "{0} is not on a bpffs: choose a folder below /sys/fs/bpf, or mount one there (mount -t bpf -o mode=0700 bpf FOLDER)"
    )]
    NotBpffs(PathBuf),
    /// There is no table yet.
    #[error("no slot table at {0}: start miren-control first")]
    NoTable(PathBuf),
    /// Reading or writing failed.
    #[error("{doing} {place}: {source}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To which file.
        place: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl OpenError {
    /// Whether `auto` may go on without the kernel, where no table is in it yet.
    pub(crate) fn allows_off(&self) -> bool {
        matches!(
            self,
            Self::NotBuilt
                | Self::NotAllowed { .. }
                | Self::Unsupported { .. }
                | Self::NestedNamespace { .. }
                | Self::NotBpffs(_)
        )
    }

    /// A failed `bpf(2)` call or mount: permission, or something the kernel cannot do.
    pub(crate) fn from_kernel(doing: impl Into<String>, source: io::Error) -> Self {
        let doing = doing.into();
        match source.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => Self::NotAllowed { doing, source },
            _ => Self::Unsupported {
                doing,
                reason: source.to_string(),
            },
        }
    }

    pub(crate) fn io(doing: &'static str, place: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let place = place.into();
        move |source| Self::Io { doing, place, source }
    }
}

/// Why a slot was not changed.
#[derive(Debug, thiserror::Error)]
pub enum SlotError {
    /// The slot is not in this table.
    #[error("slot {slot} does not exist: the table has {capacity}")]
    NoSuchSlot {
        /// The slot asked for.
        slot: u32,
        /// Slots in the table.
        capacity: u32,
    },
    /// The word does not allow the change; nothing was changed.
    #[error("the slot is {found}, which does not allow this")]
    Refused {
        /// What the word was.
        found: Word,
    },
    /// The init process ended before it could be watched. The word has been moved to its end.
    #[error("process {tgid} has already exited")]
    AlreadyExited {
        /// The process.
        tgid: u32,
    },
    /// A thread was given where a process is needed.
    #[error("{tgid} is not a process but a thread of one: register the thread group leader")]
    NotAProcess {
        /// What was given.
        tgid: u32,
    },
    /// A map or the process watch failed.
    #[error("{doing}: {source}")]
    Kernel {
        /// What was being done.
        doing: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
}

impl SlotError {
    pub(crate) fn kernel(doing: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Kernel { doing, source }
    }
}

/// Why the packet hook is not on an interface.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// No such interface in this network namespace.
    #[error("interface {0} does not exist in this network namespace")]
    NoInterface(String),
    /// The kernel refused.
    #[error("attaching the packet hook to {interface}: {source} (needs Linux 6.6 or newer and CAP_NET_ADMIN)")]
    Kernel {
        /// The interface.
        interface: String,
        /// What the kernel said.
        source: io::Error,
    },
}

/// Why there is no stream of events.
#[derive(Debug, thiserror::Error)]
pub enum EventError {
    /// There is one reader; it exists already.
    #[error("the events of this table are already being read")]
    AlreadyRead,
    /// The ring buffer could not be opened.
    #[error("opening the ring buffer: {0}")]
    Ring(#[from] io::Error),
}
