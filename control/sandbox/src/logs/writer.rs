//! Decides how lines are appended to a log file of bounded size, and what happens when the disk refuses them.

use super::part;
use jiff::Timestamp;
use miren_api::id::SandboxId;
use miren_api::resource::{LogLine, LogStream};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

#[cfg(test)]
mod tests;

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
    pending_lines: u64,
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
            pending_lines: 0,
            dropped: 0,
        })
    }

    /// Takes one line, without its newline.
    pub(crate) fn line(&mut self, stream: LogStream, bytes: &[u8]) {
        let text = String::from_utf8_lossy(bytes);
        let line = self.encode(stream, text.trim_end_matches('\r').to_owned());
        self.pending.extend(line);
        self.pending_lines += 1;
    }

    /// Writes the lines taken since the last time.
    pub(crate) fn flush(&mut self) {
        if self.pending.is_empty() {
            return;
        }
        let mut lines = std::mem::take(&mut self.pending);
        let count = std::mem::take(&mut self.pending_lines);
        if self.dropped > 0 {
            let said = format!("{} lines were dropped: the log could not be written", self.dropped);
            let mut first = self.encode(LogStream::System, said);
            first.append(&mut lines);
            lines = first;
        }
        match self.append(&lines) {
            Ok(()) => self.dropped = 0,
            Err(_) => {
                // Half a line would spoil the next one.
                let _ = self.file.set_len(self.size);
                self.dropped += count;
            }
        }
        lines.clear();
        self.pending = lines;
    }

    fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        if self.size > 0 && self.size + lines.len() as u64 > self.limit {
            self.rotate()?;
        }
        self.file.write_all(lines)?;
        self.size += lines.len() as u64;
        Ok(())
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

    fn encode(&self, stream: LogStream, line: String) -> Vec<u8> {
        let line = LogLine {
            at: Timestamp::now(),
            stream,
            service: self.service.clone(),
            sandbox: self.sandbox.clone(),
            line,
        };
        let mut bytes = serde_json::to_vec(&line).unwrap_or_default();
        bytes.push(b'\n');
        bytes
    }
}

fn append(path: &Path) -> io::Result<File> {
    File::options().create(true).append(true).open(path)
}
