//! Decides where each program is attached and how it is replaced while traffic and exits go on.

use std::{
    ffi::CString,
    fs::File,
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd, RawFd},
        unix::fs::MetadataExt,
    },
    path::{Path, PathBuf},
};

use super::sys;
use crate::status::ProgramStatus;

/// Attach types of linux/bpf.h.
const CGROUP_INET4_CONNECT: u32 = 10;
const CGROUP_INET6_CONNECT: u32 = 11;
const TCX_EGRESS: u32 = 47;

/// Pins of links start with this.
const LINK: &str = "link_";
/// Pins of packet hooks: the interface follows, with ':' for '.', which bpffs does not allow and interfaces cannot have.
const PACKET: &str = "link_packet_";

/// A place a program is attached to.
#[derive(Clone, Copy, Debug)]
pub(super) enum Hook<'a> {
    /// Every exit on the machine.
    Exit,
    /// IPv4 connects of the processes in a cgroup.
    Connect4(&'a Path),
    /// IPv6 connects of the processes in a cgroup.
    Connect6(&'a Path),
    /// Packets that leave through an interface of this thread's network namespace.
    Packet(&'a str),
}

impl Hook<'_> {
    pub(super) fn describe(&self) -> String {
        match self {
            Self::Exit => "exit hook to the sched_process_exit tracepoint".into(),
            Self::Connect4(cgroup) => format!("IPv4 connect hook to {}", cgroup.display()),
            Self::Connect6(cgroup) => format!("IPv6 connect hook to {}", cgroup.display()),
            Self::Packet(interface) => format!("packet hook to {interface}"),
        }
    }

    fn pin(&self, pin_dir: &Path) -> PathBuf {
        match self {
            Self::Exit => pin_dir.join("link_exit"),
            Self::Connect4(_) => pin_dir.join("link_connect4"),
            Self::Connect6(_) => pin_dir.join("link_connect6"),
            Self::Packet(interface) => pin_dir.join(format!("{PACKET}{}", interface.replace('.', ":"))),
        }
    }

    /// Puts `program` here. A link that is already here gets the new program in one step; where that is not possible the
    /// new link exists before the old one goes, and for a moment both programs run, which the compare-and-swap allows.
    pub(super) fn install(&self, pin_dir: &Path, program: BorrowedFd<'_>) -> io::Result<()> {
        let pin = self.pin(pin_dir);
        if let Ok(link) = sys::open_pin(&pin)
            && self.is_here(link.as_fd())?
            && sys::update_link(link.as_fd(), program).is_ok()
        {
            return Ok(());
        }
        let link = self.attach(program)?;
        let new = pin_dir.join("new_link");
        match std::fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        sys::pin(link.as_fd(), &new)?;
        std::fs::rename(&new, &pin)
    }

    fn attach(&self, program: BorrowedFd<'_>) -> io::Result<OwnedFd> {
        let to_cgroup = |cgroup: &Path, attach_type| {
            let cgroup = File::open(cgroup)?;
            let place: RawFd = std::os::fd::AsRawFd::as_raw_fd(&cgroup);
            sys::create_link(program, place.unsigned_abs(), attach_type)
        };
        match self {
            Self::Exit => sys::attach_raw_tracepoint(c"sched_process_exit", program),
            Self::Connect4(cgroup) => to_cgroup(cgroup, CGROUP_INET4_CONNECT),
            Self::Connect6(cgroup) => to_cgroup(cgroup, CGROUP_INET6_CONNECT),
            Self::Packet(interface) => {
                let index = interface_index(interface).ok_or_else(|| io::Error::from_raw_os_error(libc::ENODEV))?;
                sys::create_link(program, index, TCX_EGRESS)
            }
        }
    }

    /// Whether a link is attached to this very place: a cgroup or an interface of the same name may be another one.
    fn is_here(&self, link: BorrowedFd<'_>) -> io::Result<bool> {
        let attached_to = sys::link_info(link)?.attached_to;
        Ok(match self {
            Self::Exit => true,
            // The id of a cgroup is the inode number of its folder.
            Self::Connect4(cgroup) | Self::Connect6(cgroup) => attached_to == std::fs::metadata(cgroup)?.ino(),
            Self::Packet(interface) => {
                interface_index(interface).is_some_and(|index| interface_of(attached_to) == index)
            }
        })
    }
}

/// Index of an interface in this thread's network namespace.
pub(super) fn interface_index(interface: &str) -> Option<u32> {
    let name = CString::new(interface).ok()?;
    // SAFETY: a terminated string that lives through the call.
    match unsafe { libc::if_nametoindex(name.as_ptr()) } {
        0 => None,
        index => Some(index),
    }
}

/// Puts `program` behind every packet hook that is still on an interface and removes the pins of those that are not:
/// deleting an interface severs its link but leaves the pin.
pub(super) fn renew_packet_hooks(pin_dir: &Path, program: BorrowedFd<'_>) -> io::Result<()> {
    for pin in pins(pin_dir)? {
        if !file_name(&pin).starts_with(PACKET) {
            continue;
        }
        let link = sys::open_pin(&pin)?;
        if interface_of(sys::link_info(link.as_fd())?.attached_to) == 0 {
            tracing::info!(pin = %pin.display(), "removing a packet hook whose interface is gone");
            std::fs::remove_file(&pin)?;
        } else {
            sys::update_link(link.as_fd(), program)?;
        }
    }
    Ok(())
}

/// What is attached through the pins of a table whose connect hooks cover `cgroup`.
pub(super) fn attached(pin_dir: &Path, cgroup: &Path) -> io::Result<Vec<ProgramStatus>> {
    pins(pin_dir)?.iter().map(|pin| describe(pin, cgroup)).collect()
}

/// The pins of links, sorted.
pub(super) fn pins(pin_dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut pins = Vec::new();
    for entry in std::fs::read_dir(pin_dir)? {
        let path = entry?.path();
        if file_name(&path).starts_with(LINK) {
            pins.push(path);
        }
    }
    pins.sort();
    Ok(pins)
}

fn describe(pin: &Path, cgroup: &Path) -> io::Result<ProgramStatus> {
    let link = sys::link_info(sys::open_pin(pin)?.as_fd())?;
    let program = sys::program_info(sys::open_program(link.program_id)?.as_fd())?;
    let attached_to = match file_name(pin) {
        "link_exit" => "sched_process_exit".to_owned(),
        name => match name.strip_prefix(PACKET) {
            Some(interface) if interface_of(link.attached_to) == 0 => format!("{} (gone)", interface.replace(':', ".")),
            Some(interface) => interface.replace(':', "."),
            None => cgroup.display().to_string(),
        },
    };
    let tag = program.tag.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(ProgramStatus {
        name: program.name,
        id: link.program_id,
        tag,
        attached_to,
    })
}

/// In the answer about a tcx link the interface index is the first of two 32-bit fields.
fn interface_of(attached_to: u64) -> u32 {
    let [a, b, c, d, ..] = attached_to.to_ne_bytes();
    u32::from_ne_bytes([a, b, c, d])
}

fn file_name(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
}
