//! Decides how far a log file has been read, and notices when another file took its place.

use miren_api::resource::LogLine;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A log file, open, and the place up to which its whole lines have been read.
#[derive(Debug)]
pub(super) struct Tail {
    path: PathBuf,
    file: File,
    inode: u64,
    read: u64,
}

impl Tail {
    /// Opens a log at its beginning; `None` if there is no such file.
    pub(super) fn open(path: &Path) -> io::Result<Option<Self>> {
        match File::open(path) {
            Ok(file) => Self::of(path, file).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(super) fn of(path: &Path, file: File) -> io::Result<Self> {
        let inode = file.metadata()?.ino();
        let path = path.to_owned();
        Ok(Self {
            path,
            file,
            inode,
            read: 0,
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether this is the file that is being read.
    pub(super) fn is(&self, file: &File) -> io::Result<bool> {
        Ok(file.metadata()?.ino() == self.inode)
    }

    /// The whole lines that were added since the last time.
    pub(super) fn new_lines(&mut self) -> io::Result<Vec<LogLine>> {
        let mut bytes = Vec::new();
        self.file.seek(SeekFrom::Start(self.read))?;
        self.file.read_to_end(&mut bytes)?;
        let whole = bytes
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |newline| newline + 1);
        self.read += whole as u64;
        let lines = bytes[..whole].split(|byte| *byte == b'\n');
        Ok(lines.filter_map(|line| serde_json::from_slice(line).ok()).collect())
    }

    /// As [`Tail::new_lines`], and on through the files that have followed it if it was rotated.
    pub(super) fn follow(&mut self) -> io::Result<Vec<LogLine>> {
        let mut lines = self.new_lines()?;
        if fs::metadata(&self.path).is_ok_and(|now| now.ino() == self.inode) {
            return Ok(lines);
        }
        // Its last lines may have come between the reading and the renaming.
        lines.extend(self.new_lines()?);
        let all = super::parts(&self.path);
        let own = all
            .iter()
            .position(|part| fs::metadata(part).is_ok_and(|part| part.ino() == self.inode));
        for part in &all[own.map_or(0, |own| own + 1)..] {
            if let Some(mut next) = Self::open(part)? {
                lines.extend(next.new_lines()?);
                next.path.clone_from(&self.path);
                *self = next;
            }
        }
        Ok(lines)
    }
}
