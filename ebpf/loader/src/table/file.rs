//! Decides how a slot table is kept in a file where the kernel does not keep it.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Write},
    os::{
        fd::AsFd,
        unix::fs::{FileExt, MetadataExt, OpenOptionsExt},
    },
    path::Path,
};

use miren_abi::{AbiRecord, FILE_HEADER_BYTES, Slot};

use super::{Slots, Table};
use crate::{error::OpenError, identity::TableId, mapping::Mapping};

/// Where in the header the id is that was drawn for the table, after the record; zero in one of an earlier release.
const ID_AT: usize = 64;
const _: () = assert!(AbiRecord::BYTES <= ID_AT && ID_AT + 16 <= FILE_HEADER_BYTES);

/// Opens the table for control, or makes it. A table of an earlier boot is made anew: its processes are gone.
pub(crate) fn open_or_create(path: &Path, capacity: u32) -> Result<Table, OpenError> {
    let wanted = AbiRecord::new(capacity, 0, boot_id()?);
    if let Some(file) = open_existing(path, true)? {
        let found = read_record(&file, path)?;
        if found.boot_id == wanted.boot_id {
            check(path, &wanted, &found)?;
            return map(&file, path, capacity, true).map(Table::new);
        }
        tracing::info!(table = %path.display(), "the slot table is of an earlier boot; making a new one");
    }
    let file = create(path, &wanted).map_err(OpenError::io("creating the slot table", path))?;
    map(&file, path, capacity, true).map(Table::new)
}

/// Opens the table for a reader.
pub(crate) fn open_read_only(path: &Path) -> Result<Slots, OpenError> {
    let file = open_existing(path, false)?.ok_or_else(|| OpenError::NoTable(path.to_owned()))?;
    let found = read_record(&file, path)?;
    check(path, &AbiRecord::new(found.capacity, 0, found.boot_id), &found)?;
    map(&file, path, found.capacity, false)
}

/// Refuses a table this build cannot read, or one of another size.
pub(crate) fn check(place: &Path, wanted: &AbiRecord, found: &AbiRecord) -> Result<(), OpenError> {
    if !wanted.fits(found) {
        let describe = |record: &AbiRecord| match record.magic == miren_abi::MAGIC {
            true => format!("{} with {}-byte slots", record.version, record.slot_bytes),
            false => "unknown".to_owned(),
        };
        let (found, wanted) = (describe(found), describe(wanted));
        return Err(OpenError::OtherLayout {
            place: place.to_owned(),
            found,
            wanted,
        });
    }
    if found.capacity != wanted.capacity {
        let (found, wanted) = (found.capacity, wanted.capacity);
        return Err(OpenError::OtherCapacity {
            place: place.to_owned(),
            found,
            wanted,
        });
    }
    Ok(())
}

/// This boot, as 16 bytes.
pub(crate) fn boot_id() -> Result<[u8; 16], OpenError> {
    const PATH: &str = "/proc/sys/kernel/random/boot_id";
    uuid(PATH).map_err(OpenError::io("reading", PATH))
}

/// A UUID that the kernel tells, as 16 bytes.
fn uuid(path: &str) -> io::Result<[u8; 16]> {
    let text = std::fs::read_to_string(path)?;
    let digits: String = text.chars().filter(char::is_ascii_hexdigit).collect();
    let id = u128::from_str_radix(&digits, 16).map_err(io::Error::other)?;
    Ok(id.to_be_bytes())
}

/// What tells this table from the one that was there before under the same name.
fn table_id(file: &File) -> io::Result<TableId> {
    let mut drawn = [0; 16];
    file.read_exact_at(&mut drawn, ID_AT as u64)?;
    match u128::from_be_bytes(drawn) {
        0 => file
            .metadata()
            .map(|metadata| TableId::of_inode(metadata.dev(), metadata.ino())),
        drawn => Ok(TableId::of_file(drawn)),
    }
}

fn open_existing(path: &Path, write: bool) -> Result<Option<File>, OpenError> {
    match OpenOptions::new().read(true).write(write).open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(OpenError::io("opening the slot table", path)(error)),
    }
}

fn read_record(mut file: &File, path: &Path) -> Result<AbiRecord, OpenError> {
    let mut bytes = [0; AbiRecord::BYTES];
    file.read_exact(&mut bytes)
        .map_err(OpenError::io("reading the slot table", path))?;
    Ok(AbiRecord::from_bytes(bytes))
}

/// A complete table appears under its name at once, so that no reader maps half of one.
fn create(path: &Path, record: &AbiRecord) -> io::Result<File> {
    let new = path.with_extension("new");
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&new)?;
    file.write_all(&record.to_bytes())?;
    file.write_all_at(&uuid("/proc/sys/kernel/random/uuid")?, ID_AT as u64)?;
    file.write_all_at(&[0], (bytes(record.capacity) - 1) as u64)?;
    std::fs::rename(&new, path)?;
    Ok(file)
}

fn map(file: &File, path: &Path, capacity: u32, write: bool) -> Result<Slots, OpenError> {
    let open = if write { Mapping::writable } else { Mapping::read_only };
    let length = file.metadata().map(|metadata| metadata.len());
    let slots = length.and_then(|length| match length >= bytes(capacity) as u64 {
        true => open(file.as_fd(), 0, bytes(capacity)),
        false => Err(io::Error::other(format!(
            "{length} bytes are too few for {capacity} slots"
        ))),
    });
    slots
        .and_then(|mapping| Slots::new(table_id(file)?, mapping, FILE_HEADER_BYTES, capacity))
        .map_err(OpenError::io("mapping the slot table", path))
}

fn bytes(capacity: u32) -> usize {
    FILE_HEADER_BYTES + capacity as usize * Slot::BYTES
}
