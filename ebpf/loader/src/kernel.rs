//! Decides how the table, its maps and its hooks are made, adopted and found again in the kernel.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

use miren_abi::{AbiRecord, RING_BYTES, Slot, SlotRef, Stat, maps};

use crate::{
    config::FastPathConfig,
    error::{AttachError, EventError, OpenError},
    identity::TableId,
    mapping::Mapping,
    ring::Ring,
    status::ProgramStatus,
    table::{Slots, Table, file},
};

mod btf;
pub(crate) mod cost;
mod first;
mod hook;
mod netns;
mod object;
mod pins;
mod sys;

use hook::Hook;
use netns::Namespaces;

/// Control's hold on the kernel side. Dropping it detaches nothing: the pins keep all of it.
#[derive(Debug)]
pub(crate) struct Kernel {
    pin_dir: PathBuf,
    cgroup: PathBuf,
    by_addr: OwnedFd,
    by_pid: OwnedFd,
    namespaces: Namespaces,
    stats: OwnedFd,
    packet_hook: OwnedFd,
    events_taken: AtomicBool,
}

/// The counters of the programs, summed over the CPUs.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counters {
    /// Words the exit hook moved.
    pub(crate) transitions: u64,
    /// Words control's own watch moved.
    pub(crate) by_watch: u64,
    pub(crate) refused_connects: u64,
    pub(crate) reset_packets: u64,
    pub(crate) dropped_events: u64,
}

impl Kernel {
    /// Makes or adopts the maps, then puts this build's programs in the place of whatever is attached. What it cannot
    /// finish making it takes away again; what it could not adopt stays.
    pub(crate) fn open(config: &FastPathConfig) -> Result<(Self, Table), OpenError> {
        let is_new = !config.pin_dir.exists();
        let opened = Self::make_or_adopt(config);
        if opened.is_err() && is_new {
            // The first error is the one to tell.
            let _ = Self::remove_pins(&config.pin_dir);
        }
        opened
    }

    fn make_or_adopt(config: &FastPathConfig) -> Result<(Self, Table), OpenError> {
        let bytes = object::bytes()?;
        first::check()?;
        let cgroup = config.cgroup.clone().map_or_else(pins::cgroup_root, Ok)?;
        let pin_dir = config.pin_dir.as_path();
        pins::prepare(pin_dir)?;
        let node_netns = netns::own_cookie().map_err(|error| {
            OpenError::from_kernel("asking which network namespace this is (SO_NETNS_COOKIE)", error)
        })?;
        let settings = object::Settings::find(config.capacity, node_netns)?;
        let record = AbiRecord::new(config.capacity, settings.hash(bytes), file::boot_id()?);
        match read_record(pin_dir)? {
            Some(found) => file::check(pin_dir, &record, &found)?,
            // The record is written last: maps without one were never in use.
            None => pins::remove_all(pin_dir).map_err(OpenError::io("removing half-made pins in", pin_dir))?,
        }
        let programs = object::load(bytes, &settings, pin_dir)?;
        let table = Table::new(map_slots(pin_dir, config.capacity, Mapping::writable)?);
        let by_netns = open_map(pin_dir, maps::BY_NETNS, SlotRef::BYTES, config.capacity)?;
        let kernel = Self {
            pin_dir: pin_dir.to_owned(),
            cgroup,
            by_addr: open_map(pin_dir, maps::BY_ADDR, SlotRef::BYTES, config.capacity)?,
            by_pid: open_map(pin_dir, maps::BY_PID, SlotRef::BYTES, config.capacity)?,
            namespaces: Namespaces::adopt(by_netns, node_netns, &table)
                .map_err(|error| OpenError::from_kernel(format!("taking over {}", maps::BY_NETNS), error))?,
            stats: open_map(pin_dir, maps::STATS, 8, Stat::COUNT)?,
            packet_hook: programs.packet,
            events_taken: AtomicBool::new(false),
        };
        for ring in [maps::EVENTS, maps::EVENTS_PROXY] {
            open_map(pin_dir, ring, 0, RING_BYTES)?;
        }
        write_record(pin_dir, &record)?;
        for (hook, program) in [
            (Hook::Exit, &programs.exit),
            (Hook::Connect4(&kernel.cgroup), &programs.connect4),
            (Hook::Connect6(&kernel.cgroup), &programs.connect6),
        ] {
            let doing = || format!("attaching the {}", hook.describe());
            hook.install(pin_dir, program.as_fd())
                .map_err(|error| OpenError::from_kernel(doing(), error))?;
        }
        hook::renew_packet_hooks(pin_dir, kernel.packet_hook.as_fd())
            .map_err(OpenError::io("renewing the packet hooks in", pin_dir))?;
        Ok((kernel, table))
    }

    /// Makes the address stand for a generation.
    pub(crate) fn set_address(&self, key: [u8; 16], owner: SlotRef) -> io::Result<()> {
        sys::map_update(self.by_addr.as_fd(), &key, &owner.to_bytes())
    }

    /// Makes the process stand for a generation.
    pub(crate) fn set_pid(&self, tgid: u32, owner: SlotRef) -> io::Result<()> {
        sys::map_update(self.by_pid.as_fd(), &tgid.to_ne_bytes(), &owner.to_bytes())
    }

    /// Makes the network namespace the process is in stand for a generation, unless it is the node's own.
    pub(crate) fn set_namespace(&self, pidfd: &OwnedFd, owner: SlotRef) -> io::Result<()> {
        self.namespaces.set(pidfd, owner)
    }

    /// Removes whichever network namespace stands for the slot's last life.
    pub(crate) fn forget_namespace(&self, slot: u32) -> io::Result<()> {
        self.namespaces.forget(slot)
    }

    /// Removes the address if it still stands for `owner`.
    pub(crate) fn forget_address(&self, key: [u8; 16], owner: SlotRef) -> io::Result<()> {
        sys::map_delete_if(self.by_addr.as_fd(), &key, &owner.to_bytes())
    }

    /// Removes the process if it still stands for `owner`.
    pub(crate) fn forget_pid(&self, tgid: u32, owner: SlotRef) -> io::Result<()> {
        sys::map_delete_if(self.by_pid.as_fd(), &tgid.to_ne_bytes(), &owner.to_bytes())
    }

    pub(crate) fn attach_packet_hook(&self, interface: &str) -> Result<(), AttachError> {
        hook::interface_index(interface).ok_or_else(|| AttachError::NoInterface(interface.to_owned()))?;
        Hook::Packet(interface)
            .install(&self.pin_dir, self.packet_hook.as_fd())
            .map_err(|source| AttachError::Kernel {
                interface: interface.to_owned(),
                source,
            })
    }

    pub(crate) fn take_events(&self) -> Result<Ring, EventError> {
        if self.events_taken.swap(true, Ordering::Relaxed) {
            return Err(EventError::AlreadyRead);
        }
        let map = sys::open_pin(&self.pin_dir.join(maps::EVENTS))?;
        Ok(Ring::new(map.as_fd(), RING_BYTES)?)
    }

    pub(crate) fn counters(&self) -> Counters {
        let read = |stat: Stat| {
            sys::per_cpu_sum(self.stats.as_fd(), stat as u32).unwrap_or_else(|error| {
                tracing::warn!(%error, ?stat, "a counter of the fast path cannot be read");
                0
            })
        };
        Counters {
            transitions: read(Stat::Transitions),
            by_watch: 0,
            refused_connects: read(Stat::RefusedConnects),
            reset_packets: read(Stat::ResetPackets),
            dropped_events: read(Stat::DroppedEvents),
        }
    }

    /// What is attached, read from the pins.
    pub(crate) fn programs(&self) -> Vec<ProgramStatus> {
        hook::attached(&self.pin_dir, &self.cgroup).unwrap_or_else(|error| {
            tracing::warn!(%error, "the attached programs cannot be read");
            Vec::new()
        })
    }

    /// Whether a table was ever finished there, as far as this process may see.
    pub(crate) fn has_table(pin_dir: &Path) -> bool {
        pin_dir.join(maps::ABI).exists()
    }

    /// Detaches every hook, then forgets every map.
    pub(crate) fn remove_pins(pin_dir: &Path) -> io::Result<()> {
        pins::remove_folder(pin_dir)
    }
}

/// Maps the pinned slots for a reader; every descriptor is closed when this returns.
pub(crate) fn open_read_only(pin_dir: &Path) -> Result<Slots, OpenError> {
    let found = check_reader(pin_dir)?;
    map_slots(pin_dir, found.capacity, Mapping::read_only)
}

/// Maps the proxy's ring buffer; every BPF descriptor is closed when this returns.
pub(crate) fn open_proxy_ring(pin_dir: &Path) -> Result<Ring, OpenError> {
    check_reader(pin_dir)?;
    let map = open_map(pin_dir, maps::EVENTS_PROXY, 0, RING_BYTES)?;
    Ring::new(map.as_fd(), RING_BYTES).map_err(OpenError::io("mapping the ring buffer in", pin_dir))
}

fn check_reader(pin_dir: &Path) -> Result<AbiRecord, OpenError> {
    let found = read_record(pin_dir)?.ok_or_else(|| OpenError::NoTable(pin_dir.to_owned()))?;
    file::check(pin_dir, &AbiRecord::new(found.capacity, 0, found.boot_id), &found)?;
    Ok(found)
}

type MapSlots = fn(std::os::fd::BorrowedFd<'_>, usize, usize) -> io::Result<Mapping>;

fn map_slots(pin_dir: &Path, capacity: u32, map: MapSlots) -> Result<Slots, OpenError> {
    let fd = open_map(pin_dir, maps::SLOTS, Slot::BYTES, capacity)?;
    let info = sys::map_info(fd.as_fd()).map_err(|error| OpenError::from_kernel("asking about SLOTS", error))?;
    let id = TableId::of_map(info.id, file::boot_id()?);
    map(fd.as_fd(), 0, capacity as usize * Slot::BYTES)
        .and_then(|mapping| Slots::new(id, mapping, 0, capacity))
        .map_err(OpenError::io("mapping the slots in", pin_dir))
}

/// Opens a pinned map and refuses one of another size: whoever creates maps over pins takes any map that is there.
fn open_map(pin_dir: &Path, name: &str, value_bytes: usize, entries: u32) -> Result<OwnedFd, OpenError> {
    let fd =
        sys::open_pin(&pin_dir.join(name)).map_err(|error| OpenError::from_kernel(format!("opening {name}"), error))?;
    let info =
        sys::map_info(fd.as_fd()).map_err(|error| OpenError::from_kernel(format!("asking about {name}"), error))?;
    if info.value_bytes as usize != value_bytes || info.entries != entries {
        let found = format!("{name} with {} entries of {} bytes", info.entries, info.value_bytes);
        let wanted = format!("{entries} of {value_bytes}");
        return Err(OpenError::OtherLayout {
            place: pin_dir.to_owned(),
            found,
            wanted,
        });
    }
    Ok(fd)
}

fn read_record(pin_dir: &Path) -> Result<Option<AbiRecord>, OpenError> {
    let pin = pin_dir.join(maps::ABI);
    let map = match sys::open_pin(&pin) {
        Ok(map) => map,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(OpenError::from_kernel(format!("opening {}", pin.display()), error)),
    };
    let info = sys::map_info(map.as_fd()).map_err(|error| OpenError::from_kernel("asking about ABI", error))?;
    if info.value_bytes as usize != AbiRecord::BYTES {
        let found = format!("with a record of {} bytes", info.value_bytes);
        let wanted = format!("{} with one of {}", miren_abi::VERSION, AbiRecord::BYTES);
        return Err(OpenError::OtherLayout {
            place: pin_dir.to_owned(),
            found,
            wanted,
        });
    }
    let mut bytes = [0; AbiRecord::BYTES];
    match sys::map_lookup(map.as_fd(), &0_u32.to_ne_bytes(), &mut bytes) {
        Ok(_) => Ok(Some(AbiRecord::from_bytes(bytes))),
        Err(error) => Err(OpenError::from_kernel("reading ABI", error)),
    }
}

fn write_record(pin_dir: &Path, record: &AbiRecord) -> Result<(), OpenError> {
    let pin = pin_dir.join(maps::ABI);
    let failed = |error| OpenError::from_kernel(format!("writing {}", pin.display()), error);
    let key = 0_u32.to_ne_bytes();
    match sys::open_pin(&pin) {
        Ok(map) => sys::map_update(map.as_fd(), &key, &record.to_bytes()).map_err(failed),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let map = sys::create_array(AbiRecord::BYTES, 1).map_err(failed)?;
            sys::map_update(map.as_fd(), &key, &record.to_bytes()).map_err(failed)?;
            sys::pin(map.as_fd(), &pin).map_err(failed)
        }
        Err(error) => Err(failed(error)),
    }
}
