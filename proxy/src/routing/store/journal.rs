//! How changes are kept that came after a copy: added to a file, each whole or not there.

use crate::file::{self, checksum};
use crate::routing::RouteTable;
use miren_api::routing::RoutingDelta;
use miren_fault::Point;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// What a journal of this layout begins with.
const HEADER: &str = "miren-routing-changes 1\n";
/// A journal may be as large as its copy, so that writing copies costs no more than writing changes; and this large in any case.
const LEAST_ROOM: usize = 64 << 10;

/// Only added to.
#[derive(Debug)]
pub(super) struct Journal {
    file: File,
    /// Bytes that still fit.
    room: usize,
}

impl Journal {
    /// An empty one for a copy of so many bytes.
    pub(super) fn begin(path: &Path, copy: usize) -> io::Result<Self> {
        file::write_new(path, HEADER.as_bytes())?;
        Ok(Self {
            file: File::options().append(true).open(path)?,
            room: copy.max(LEAST_ROOM),
        })
    }

    /// Adds changes, for good; false if there is no room, and then it has none of them.
    ///
    /// # Errors
    /// When they cannot be written. It may have some of them then, and must not be added to again.
    pub(super) fn add(&mut self, changes: &[RoutingDelta]) -> io::Result<bool> {
        let mut lines = Vec::new();
        for change in changes {
            let body = serde_json::to_vec(change)?;
            lines.extend_from_slice(checksum(&body).as_bytes());
            lines.push(b' ');
            lines.extend_from_slice(&body);
            lines.push(b'\n');
        }
        // Another proxy that keeps its copies here may have removed it.
        let is_there = self.file.metadata()?.nlink() > 0;
        let Some(room) = self.room.checked_sub(lines.len()).filter(|_| is_there) else {
            return Ok(false);
        };
        miren_fault::blocking(Point::JournalWrite)?;
        self.file.write_all(&lines)?;
        miren_fault::blocking(Point::JournalSync)?;
        self.file.sync_data()?;
        self.room = room;
        Ok(true)
    }
}

#[cfg(test)]
impl Journal {
    pub(super) fn over(file: File) -> Self {
        Self { file, room: usize::MAX }
    }
}

/// Takes the table of the copy through the changes after it. The last one counts if it is whole.
///
/// # Errors
/// What is wrong with the journal; the table is that of the changes before.
pub(super) fn replay(path: &Path, table: &mut RouteTable) -> Result<(), String> {
    let journal = match fs::read(path) {
        Ok(journal) => journal,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error.to_string()),
    };
    let lines = journal.strip_prefix(HEADER.as_bytes()).ok_or("is of another layout")?;
    for line in lines.split_inclusive(|byte| *byte == b'\n') {
        let Some(line) = line.strip_suffix(b"\n") else {
            // It was not finished.
            break;
        };
        let change = read(line)?;
        let next = table.after(&change);
        *table = next.ok_or_else(|| {
            let (at, from) = (table.generation(), change.from);
            format!("goes on from generation {from} where {at} was reached")
        })?;
    }
    Ok(())
}

fn read(line: &[u8]) -> Result<RoutingDelta, String> {
    let end = line.iter().position(|byte| *byte == b' ');
    let (expected, body) = line.split_at(end.ok_or("has a line without a checksum")?);
    let body = &body[1..];
    if expected != checksum(body).as_bytes() {
        return Err("has a line that does not match its checksum".into());
    }
    serde_json::from_slice(body).map_err(|error| format!("has a line that cannot be decoded: {error}"))
}
