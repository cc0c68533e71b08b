//! Decides what is loaded: the embedded object, the constants put into it, and the pins its maps come from.

use std::{
    error::Error,
    io,
    os::fd::{AsFd, OwnedFd},
    path::Path,
};

use aya::{
    Ebpf, EbpfLoader,
    programs::{CgroupSockAddr, Program, RawTracePoint, SchedClassifier},
};
use miren_abi::maps;

use super::btf::Btf;
use crate::error::OpenError;

#[cfg(miren_programs)]
static OBJECT: Option<&[u8]> = Some(aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/miren-programs")));
#[cfg(not(miren_programs))]
static OBJECT: Option<&[u8]> = None;

/// The object `cargo xtask ebpf` built.
pub(super) fn bytes() -> Result<&'static [u8], OpenError> {
    OBJECT.ok_or(OpenError::NotBuilt)
}

/// What the loader tells the programs, through constants and map sizes.
#[derive(Debug)]
pub(super) struct Settings {
    capacity: u32,
    /// The constants of the object that are offsets, each with its value here.
    offsets: [(&'static str, u32); 5],
    /// Cookie of the node's network namespace.
    node_netns: u64,
}

/// Where the exit hook reads: the constant of the object that has the offset, the structure and its member.
const READ: [(&str, &str, &str); 5] = [
    ("TASK_SIGNAL", "task_struct", "signal"),
    ("TASK_EXIT_CODE", "task_struct", "exit_code"),
    ("SIGNAL_LIVE", "signal_struct", "live"),
    ("SIGNAL_FLAGS", "signal_struct", "flags"),
    ("SIGNAL_GROUP_EXIT_CODE", "signal_struct", "group_exit_code"),
];

impl Settings {
    /// Finds where this kernel keeps what the exit hook reads. `node_netns` is for the connect hook.
    pub(super) fn find(capacity: u32, node_netns: u64) -> Result<Self, OpenError> {
        const PATH: &str = "/sys/kernel/btf/vmlinux";
        let unsupported = |reason: String| OpenError::Unsupported {
            doing: format!("reading {PATH}"),
            reason,
        };
        let bytes = std::fs::read(PATH).map_err(|error| unsupported(error.to_string()))?;
        let btf = Btf::parse(&bytes).map_err(|error| unsupported(error.to_string()))?;
        let mut offsets = READ.map(|(constant, _, _)| (constant, 0));
        for ((_, offset), (_, structure, member)) in offsets.iter_mut().zip(READ) {
            let found = btf.member_offset(structure, member);
            *offset = found.map_err(|error| unsupported(error.to_string()))?;
        }
        Ok(Self {
            capacity,
            offsets,
            node_netns,
        })
    }

    /// FNV-1a of the object and the settings: what the program tag leaves out is in it.
    pub(super) fn hash(&self, object: &[u8]) -> u64 {
        let settings = [self.capacity]
            .into_iter()
            .chain(self.offsets.map(|(_, offset)| offset));
        let settings = settings.flat_map(u32::to_le_bytes).chain(self.node_netns.to_le_bytes());
        let bytes = object.iter().copied().chain(settings);
        bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        })
    }
}

/// The loaded programs, not attached yet.
pub(super) struct Programs {
    pub(super) exit: OwnedFd,
    pub(super) connect4: OwnedFd,
    pub(super) connect6: OwnedFd,
    pub(super) packet: OwnedFd,
}

/// Creates the maps that are not pinned yet, pins them, and loads the programs over them.
pub(super) fn load(object: &[u8], settings: &Settings, pin_dir: &Path) -> Result<Programs, OpenError> {
    let mut loader = EbpfLoader::new();
    for (constant, offset) in &settings.offsets {
        loader.override_global(constant, offset, true);
    }
    loader.override_global("NODE_NETNS", &settings.node_netns, true);
    for name in [maps::SLOTS, maps::BY_ADDR, maps::BY_PID, maps::BY_NETNS] {
        loader.map_max_entries(name, settings.capacity);
    }
    for name in [
        maps::SLOTS,
        maps::BY_ADDR,
        maps::BY_PID,
        maps::BY_NETNS,
        maps::EVENTS,
        maps::EVENTS_PROXY,
        maps::STATS,
    ] {
        loader.map_pin_path(name, pin_dir.join(name));
    }
    let mut ebpf = loader
        .load(object)
        .map_err(|error| failed("loading the kernel programs", error))?;
    Ok(Programs {
        exit: load_one(&mut ebpf, "exit_hook")?,
        connect4: load_one(&mut ebpf, "connect_hook4")?,
        connect6: load_one(&mut ebpf, "connect_hook6")?,
        packet: load_one(&mut ebpf, "packet_hook")?,
    })
}

fn load_one(ebpf: &mut Ebpf, name: &'static str) -> Result<OwnedFd, OpenError> {
    let doing = || format!("loading {name}");
    let missing = || OpenError::Unsupported {
        doing: doing(),
        reason: "it is not in the object".into(),
    };
    let program = ebpf.program_mut(name).ok_or_else(missing)?;
    let loaded = match program {
        Program::RawTracePoint(program) => RawTracePoint::load(program),
        Program::CgroupSockAddr(program) => CgroupSockAddr::load(program),
        Program::SchedClassifier(program) => SchedClassifier::load(program),
        _ => return Err(missing()),
    };
    loaded.map_err(|error| failed(&doing(), error))?;
    let fd = program.fd().map_err(|error| failed(&doing(), error))?;
    fd.as_fd()
        .try_clone_to_owned()
        .map_err(|error| OpenError::from_kernel(doing(), error))
}

/// Says whether the kernel forbade it (EPERM) or cannot do it (anything else; the verifier's words are in the message).
fn failed(doing: &str, error: impl Error + 'static) -> OpenError {
    let mut cause: Option<&(dyn Error + 'static)> = Some(&error);
    let mut reason = String::new();
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<io::Error>()
            && error.raw_os_error() == Some(libc::EPERM)
        {
            return OpenError::from_kernel(doing, io::Error::from_raw_os_error(libc::EPERM));
        }
        if !reason.is_empty() {
            reason.push_str(": ");
        }
        reason.push_str(&error.to_string());
        cause = error.source();
    }
    OpenError::Unsupported {
        doing: doing.to_owned(),
        reason,
    }
}
