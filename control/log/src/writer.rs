//! Decides what becomes of lines when they cannot be written: they are counted, and said to be missing later.

use crate::stderr::Stderr;
use parking_lot::{Condvar, Mutex, MutexGuard};
use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

#[cfg(test)]
mod tests;

/// Bytes of lines that may wait for a slow reader. At 200 bytes a line some five thousand: what a busy daemon says in
/// minutes.
const WAITING_MAX: usize = 1 << 20;

/// The one writer of a process's log. Taking a line never fails and, once [`Writer::on_thread`] was called, never waits for whoever reads.
pub(crate) struct Writer {
    name: &'static str,
    lines: Mutex<Lines>,
    more: Condvar,
    written: Condvar,
    dropped: AtomicU64,
    out: Mutex<Box<dyn Write + Send>>,
}

#[derive(Default)]
struct Lines {
    waiting: Vec<u8>,
    /// Dropped since the last time that was said.
    unsaid: u64,
    has_thread: bool,
    is_writing: bool,
    /// What was written last is part of a line.
    is_cut: bool,
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Writer")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

static OF_PROCESS: OnceLock<Arc<Writer>> = OnceLock::new();

/// The writer to stderr.
pub(crate) fn of_process(name: &'static str) -> Arc<Writer> {
    Arc::clone(OF_PROCESS.get_or_init(|| Arc::new(Writer::new(name, Box::new(Stderr)))))
}

/// The writer to stderr, if there is one already.
pub(crate) fn existing() -> Option<&'static Arc<Writer>> {
    OF_PROCESS.get()
}

/// Lines of this process's log that nobody will ever read: they could not be written, or too many waited.
pub fn dropped() -> u64 {
    existing().map_or(0, |writer| writer.dropped.load(Ordering::Relaxed))
}

impl Writer {
    pub(crate) fn new(name: &'static str, out: Box<dyn Write + Send>) -> Self {
        Self {
            name,
            lines: Mutex::default(),
            more: Condvar::new(),
            written: Condvar::new(),
            dropped: AtomicU64::new(0),
            out: Mutex::new(out),
        }
    }

    /// Takes one line, with its newline.
    pub(crate) fn line(&self, bytes: &[u8]) {
        let mut lines = self.lines.lock();
        if lines.waiting.len() + bytes.len() > WAITING_MAX {
            lines.unsaid += 1;
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        lines.waiting.extend_from_slice(bytes);
        if lines.has_thread {
            self.more.notify_one();
        } else if !lines.is_writing {
            // And what others say meanwhile.
            while !lines.waiting.is_empty() {
                self.write_waiting(&mut lines);
            }
        }
    }

    pub(crate) fn on_thread(self: &Arc<Self>) -> std::io::Result<()> {
        let mut lines = self.lines.lock();
        if !lines.has_thread {
            let writer = Arc::clone(self);
            // Nothing in it can panic but memory that has run out, and then nobody could be told.
            std::thread::Builder::new()
                .name("log".into())
                .spawn(move || writer.write_forever())?;
            lines.has_thread = true;
        }
        Ok(())
    }

    fn write_forever(&self) {
        let mut lines = self.lines.lock();
        loop {
            while lines.waiting.is_empty() {
                self.more.wait(&mut lines);
            }
            self.write_waiting(&mut lines);
        }
    }

    /// Waits until everything is written, but no longer than `limit`.
    pub(crate) fn flush(&self, limit: Duration) {
        let until = Instant::now() + limit;
        let mut lines = self.lines.lock();
        while !lines.waiting.is_empty() || lines.is_writing {
            if self.written.wait_until(&mut lines, until).timed_out() {
                return;
            }
        }
    }

    /// Writes what waits, with the lock let go meanwhile.
    fn write_waiting(&self, lines: &mut MutexGuard<'_, Lines>) {
        let unsaid = std::mem::take(&mut lines.unsaid);
        let mut bytes = Vec::new();
        if lines.is_cut {
            bytes.push(b'\n');
        }
        if unsaid > 0 {
            bytes.extend(format!("{}: {unsaid} log lines could not be written\n", self.name).into_bytes());
        }
        let own = bytes.len();
        bytes.append(&mut lines.waiting);
        lines.is_writing = true;
        let done = MutexGuard::unlocked(lines, || write_until_refused(&mut *self.out.lock(), &bytes));
        lines.is_writing = false;
        if done > 0 {
            lines.is_cut = bytes[done - 1] != b'\n';
        }
        if done < bytes.len() {
            let lost = bytes[done.max(own)..].iter().filter(|byte| **byte == b'\n').count() as u64;
            self.dropped.fetch_add(lost, Ordering::Relaxed);
            lines.unsaid += lost + if done < own { unsaid } else { 0 };
        }
        self.written.notify_all();
    }
}

/// How many bytes were written.
fn write_until_refused(out: &mut (dyn Write + Send), bytes: &[u8]) -> usize {
    let mut done = 0;
    while done < bytes.len() {
        match out.write(&bytes[done..]) {
            Ok(0) => break,
            Ok(count) => done += count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
    done
}
