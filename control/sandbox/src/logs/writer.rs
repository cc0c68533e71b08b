//! Decides how lines are appended to a log file of bounded size, and what happens when the disk refuses them.

use super::part;
use jiff::Timestamp;
use miren_api::id::SandboxId;
use miren_api::resource::{LinePart, LogLine, LogStream};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

#[cfg(test)]
mod tests;

/// Room that is kept for lines between two writes. Most need less; what the longest needed is given back.
const ROOM: usize = 256 * 1024;

/// The one writer of a sandbox's log. Never waits for anything but the disk, and never fails: what cannot be written is
/// counted and, as soon as something can be written again, said.
#[derive(Debug)]
pub(crate) struct LogWriter {
    path: PathBuf,
    file: File,
    /// Bytes of whole lines in the file.
    size: u64,
    limit: u64,
    files: u32,
    service: String,
    sandbox: SandboxId,
    /// Lines for the next [`LogWriter::flush`].
    pending: Vec<u8>,
    dropped: u64,
}

impl LogWriter {
    /// Appends to the file at `path`, whose folder is made. `limit` is in bytes; `files` includes the one being written.
    pub(crate) fn open(path: &Path, limit: u64, files: u32, service: String, sandbox: SandboxId) -> io::Result<Self> {
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir)?;
        }
        let file = append(path)?;
        Ok(Self {
            path: path.to_owned(),
            size: file.metadata()?.len(),
            file,
            limit,
            files,
            service,
            sandbox,
            pending: Vec::new(),
            dropped: 0,
        })
    }

    /// Takes one line, without its newline.
    pub(crate) fn line(&mut self, stream: LogStream, bytes: &[u8]) {
        self.piece(stream, bytes, None);
    }

    /// Takes one line, or a part of one.
    pub(crate) fn piece(&mut self, stream: LogStream, bytes: &[u8], part: Option<LinePart>) {
        let text = String::from_utf8_lossy(bytes);
        let text = match part {
            Some(LinePart { last: false, .. }) => &text,
            _ => text.trim_end_matches('\r'),
        };
        let line = self.encode(stream, text.to_owned(), part);
        self.pending.extend(line);
    }

    /// Writes the lines taken since the last time.
    pub(crate) fn flush(&mut self) {
        if self.pending.is_empty() {
            return;
        }
        let mut lines = std::mem::take(&mut self.pending);
        if self.say_dropped().is_ok() {
            self.dropped = self.append_all(&lines);
        } else {
            self.dropped += count(&lines);
        }
        lines.clear();
        lines.shrink_to(ROOM);
        self.pending = lines;
    }

    fn say_dropped(&mut self) -> io::Result<()> {
        if self.dropped == 0 {
            return Ok(());
        }
        let said = format!("{} lines were dropped: the log could not be written", self.dropped);
        let said = self.encode(LogStream::System, said, None);
        self.append(&said)
    }

    /// How many lines could not be written.
    fn append_all(&mut self, mut lines: &[u8]) -> u64 {
        while !lines.is_empty() {
            let (now, later) = lines.split_at(self.room_for(lines));
            if self.append(now).is_err() {
                break;
            }
            lines = later;
        }
        count(lines)
    }

    /// Bytes of those lines that fit into the file that is being written; where not even one does, of those that fit into the next one.
    fn room_for(&self, lines: &[u8]) -> usize {
        let here = self.limit.saturating_sub(self.size);
        let whole = |limit: u64| {
            let within = lines.len().min(usize::try_from(limit).unwrap_or(usize::MAX));
            let end = lines[..within].iter().rposition(|byte| *byte == b'\n');
            end.map(|end| end + 1)
        };
        let longer = || lines.iter().position(|byte| *byte == b'\n').map(|end| end + 1);
        let fits = whole(here).or_else(|| whole(self.limit)).or_else(longer);
        fits.unwrap_or(lines.len())
    }

    fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        if self.size > 0 && self.size + lines.len() as u64 > self.limit {
            self.rotate()?;
        }
        let written = self.file.write_all(lines);
        match written {
            Ok(()) => self.size += lines.len() as u64,
            // Half a line would spoil the next one.
            Err(_) => drop(self.file.set_len(self.size)),
        }
        written
    }

    /// `x.log` becomes `x.log.1`, that one `x.log.2`, and the oldest goes.
    fn rotate(&mut self) -> io::Result<()> {
        for number in (0..self.files.saturating_sub(1)).rev() {
            match fs::rename(part(&self.path, number), part(&self.path, number + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        if self.files <= 1 {
            fs::remove_file(&self.path)?;
        }
        self.file = append(&self.path)?;
        self.size = 0;
        Ok(())
    }

    fn encode(&self, stream: LogStream, line: String, part: Option<LinePart>) -> Vec<u8> {
        let line = LogLine {
            at: Timestamp::now(),
            stream,
            service: self.service.clone(),
            sandbox: self.sandbox.clone(),
            line,
            part,
        };
        let mut bytes = serde_json::to_vec(&line).unwrap_or_default();
        bytes.push(b'\n');
        bytes
    }
}

fn count(lines: &[u8]) -> u64 {
    lines.iter().filter(|byte| **byte == b'\n').count() as u64
}

fn append(path: &Path) -> io::Result<File> {
    File::options().create(true).append(true).open(path)
}
