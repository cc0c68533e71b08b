//! Decides how the bpf(2) calls are made that the eBPF library does not offer.

use std::{
    ffi::CString,
    io,
    os::{
        fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
};

/// `enum bpf_cmd` of linux/bpf.h.
mod command {
    pub(super) const MAP_CREATE: u32 = 0;
    pub(super) const MAP_LOOKUP_ELEM: u32 = 1;
    pub(super) const MAP_UPDATE_ELEM: u32 = 2;
    pub(super) const MAP_DELETE_ELEM: u32 = 3;
    pub(super) const MAP_GET_NEXT_KEY: u32 = 4;
    pub(super) const OBJ_PIN: u32 = 6;
    pub(super) const OBJ_GET: u32 = 7;
    pub(super) const PROG_GET_FD_BY_ID: u32 = 13;
    pub(super) const OBJ_GET_INFO_BY_FD: u32 = 15;
    pub(super) const RAW_TRACEPOINT_OPEN: u32 = 17;
    pub(super) const LINK_CREATE: u32 = 28;
    pub(super) const LINK_UPDATE: u32 = 29;
    pub(super) const ENABLE_STATS: u32 = 32;
}

/// `BPF_MAP_TYPE_ARRAY`.
const MAP_TYPE_ARRAY: u32 = 2;
/// `BPF_STATS_RUN_TIME`.
const STATS_RUN_TIME: u64 = 0;

/// A map, as the kernel describes it.
pub(crate) struct MapShape {
    /// Number of the map; not given again in this boot.
    pub(crate) id: u32,
    pub(crate) value_bytes: u32,
    pub(crate) entries: u32,
}

/// A link, as the kernel describes it.
pub(crate) struct AttachedLink {
    pub(crate) program_id: u32,
    /// What it is attached to, by the kind of link: an interface index, a cgroup id, or an address without meaning.
    pub(crate) attached_to: u64,
}

/// A program, as the kernel describes it.
pub(crate) struct LoadedProgram {
    pub(crate) name: String,
    pub(crate) tag: [u8; 8],
    pub(crate) run_time_ns: u64,
    pub(crate) runs: u64,
}

/// One call. `attributes` is the member of `union bpf_attr` for the command, in 8-byte words.
fn bpf<const N: usize>(command: u32, attributes: [u64; N]) -> io::Result<i32> {
    // SAFETY: the kernel reads `size_of_val` bytes, and every pointer among them is of a value that lives in the caller.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attributes.as_ptr(), size_of_val(&attributes)) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    i32::try_from(result).map_err(io::Error::other)
}

fn bpf_fd<const N: usize>(command: u32, attributes: [u64; N]) -> io::Result<OwnedFd> {
    let fd = bpf(command, attributes)?;
    // SAFETY: the kernel just returned this descriptor; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Two 32-bit attributes that follow each other.
fn pair(first: u32, second: u32) -> u64 {
    let [a, b, c, d] = first.to_ne_bytes();
    let [e, f, g, h] = second.to_ne_bytes();
    u64::from_ne_bytes([a, b, c, d, e, f, g, h])
}

fn raw(fd: BorrowedFd<'_>) -> u32 {
    fd.as_raw_fd().unsigned_abs()
}

fn c_path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(io::Error::other)
}

/// Opens whatever is pinned there.
pub(crate) fn open_pin(path: &Path) -> io::Result<OwnedFd> {
    let path = c_path(path)?;
    bpf_fd(command::OBJ_GET, [path.as_ptr() as u64, 0])
}

/// Pins a map, program or link, readable by root only.
pub(crate) fn pin(object: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let path = c_path(path)?;
    bpf(command::OBJ_PIN, [path.as_ptr() as u64, pair(raw(object), 0)]).map(drop)
}

/// A new array map without a name.
pub(crate) fn create_array(value_bytes: usize, entries: u32) -> io::Result<OwnedFd> {
    let value_bytes = u32::try_from(value_bytes).map_err(io::Error::other)?;
    bpf_fd(
        command::MAP_CREATE,
        [pair(MAP_TYPE_ARRAY, 4), pair(value_bytes, entries), 0],
    )
}

pub(crate) fn map_update(map: BorrowedFd<'_>, key: &[u8], value: &[u8]) -> io::Result<()> {
    bpf(
        command::MAP_UPDATE_ELEM,
        [raw(map).into(), key.as_ptr() as u64, value.as_ptr() as u64, 0],
    )
    .map(drop)
}

/// Fills `value`, which must be as long as the map's values; `false` if there is no such key.
pub(crate) fn map_lookup(map: BorrowedFd<'_>, key: &[u8], value: &mut [u8]) -> io::Result<bool> {
    match bpf(
        command::MAP_LOOKUP_ELEM,
        [raw(map).into(), key.as_ptr() as u64, value.as_mut_ptr() as u64, 0],
    ) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Deletes a key unless it stands for something else by now. The caller is the only user-space writer of the map.
pub(crate) fn map_delete_if<const N: usize>(map: BorrowedFd<'_>, key: &[u8], value: &[u8; N]) -> io::Result<()> {
    let mut found = [0; N];
    if !map_lookup(map, key, &mut found)? || found != *value {
        return Ok(());
    }
    match bpf(command::MAP_DELETE_ELEM, [raw(map).into(), key.as_ptr() as u64, 0, 0]) {
        // The exit hook was faster.
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The keys that are in a map now. The caller is its only writer.
pub(crate) fn map_keys<const N: usize>(map: BorrowedFd<'_>) -> io::Result<Vec<[u8; N]>> {
    let (mut keys, mut next) = (Vec::new(), [0; N]);
    loop {
        let last = keys.last().map_or(0, |key: &[u8; N]| key.as_ptr() as u64);
        match bpf(
            command::MAP_GET_NEXT_KEY,
            [raw(map).into(), last, next.as_mut_ptr() as u64, 0],
        ) {
            Ok(_) => keys.push(next),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(keys),
            Err(error) => return Err(error),
        }
    }
}

/// One counter of a per-CPU array.
pub(crate) fn per_cpu_sum(map: BorrowedFd<'_>, index: u32) -> io::Result<u64> {
    let cpus = aya::util::nr_cpus().map_err(|(_, error)| error)?;
    let mut values = vec![0; cpus * 8];
    map_lookup(map, &index.to_ne_bytes(), &mut values)?;
    Ok(values
        .as_chunks::<8>()
        .0
        .iter()
        .map(|value| u64::from_ne_bytes(*value))
        .sum())
}

/// The first `N` words of what the kernel says about an object; the rest of a shorter answer is zero.
fn object_info<const N: usize>(object: BorrowedFd<'_>) -> io::Result<[u64; N]> {
    let mut info = [0; N];
    let length = u32::try_from(size_of_val(&info)).map_err(io::Error::other)?;
    bpf(
        command::OBJ_GET_INFO_BY_FD,
        [pair(raw(object), length), info.as_mut_ptr() as u64],
    )?;
    Ok(info)
}

/// The two 32-bit fields in a word of an answer.
fn halves(word: u64) -> (u32, u32) {
    let [a, b, c, d, e, f, g, h] = word.to_ne_bytes();
    (u32::from_ne_bytes([a, b, c, d]), u32::from_ne_bytes([e, f, g, h]))
}

pub(crate) fn map_info(map: BorrowedFd<'_>) -> io::Result<MapShape> {
    let info: [u64; 3] = object_info(map)?;
    Ok(MapShape {
        id: halves(info[0]).1,
        value_bytes: halves(info[1]).1,
        entries: halves(info[2]).0,
    })
}

pub(crate) fn link_info(link: BorrowedFd<'_>) -> io::Result<AttachedLink> {
    let info: [u64; 8] = object_info(link)?;
    Ok(AttachedLink {
        program_id: halves(info[1]).0,
        attached_to: info[2],
    })
}

pub(crate) fn program_info(program: BorrowedFd<'_>) -> io::Result<LoadedProgram> {
    let info: [u64; 26] = object_info(program)?;
    let name: Vec<u8> = info[8..10]
        .iter()
        .flat_map(|word| word.to_ne_bytes())
        .take_while(|byte| *byte != 0)
        .collect();
    Ok(LoadedProgram {
        name: String::from_utf8_lossy(&name).into_owned(),
        tag: info[1].to_ne_bytes(),
        run_time_ns: info[24],
        runs: info[25],
    })
}

pub(crate) fn open_program(id: u32) -> io::Result<OwnedFd> {
    bpf_fd(command::PROG_GET_FD_BY_ID, [pair(id, 0), 0])
}

/// Attaches a raw tracepoint program; the link detaches when the last descriptor and pin are gone.
pub(crate) fn attach_raw_tracepoint(name: &std::ffi::CStr, program: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    bpf_fd(
        command::RAW_TRACEPOINT_OPEN,
        [name.as_ptr() as u64, pair(raw(program), 0)],
    )
}

/// Attaches to a cgroup (`place` is its descriptor) or to an interface (its index).
pub(crate) fn create_link(program: BorrowedFd<'_>, place: u32, attach_type: u32) -> io::Result<OwnedFd> {
    bpf_fd(
        command::LINK_CREATE,
        [pair(raw(program), place), pair(attach_type, 0), 0, 0],
    )
}

/// Puts another program behind a link, in one step. Raw tracepoint links answer EINVAL.
pub(crate) fn update_link(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    bpf(command::LINK_UPDATE, [pair(raw(link), raw(program)), 0]).map(drop)
}

/// The kernel counts run times of programs while the descriptor is open.
pub(crate) fn enable_stats() -> io::Result<OwnedFd> {
    bpf_fd(command::ENABLE_STATS, [STATS_RUN_TIME])
}
