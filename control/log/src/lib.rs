//! Decides how a daemon speaks and how its tasks die: no line can stop work, and no task ends without being named.

#![deny(clippy::unwrap_used)]

mod death;
mod stderr;
pub mod supervisor;
mod task;
mod writer;

pub use death::{EXIT_CODE, Whole, panics};
pub use task::{Panicked, caught, endless, spawn, spawn_endless, supervised, thread};
pub use writer::dropped;

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::time::Duration;
use tracing_subscriber::EnvFilter;
use writer::Writer;

/// How long the last lines may take to be written when a process ends.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// The log of this process. What is still to be written is written when it is dropped, if that takes no longer than half
/// a second.
#[derive(Debug)]
pub struct Log(Arc<Writer>);

/// Sends what is traced to stderr, as `RUST_LOG` says or from `info` on; and makes the death of a task of ours the end of
/// the process, with [`EXIT_CODE`]. `name` is the program's own.
///
/// Until [`Log::on_thread`] is called, whoever traces something writes it, too.
pub fn start(name: &'static str) -> Log {
    let writer = writer::of_process(name);
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let traced = Arc::clone(&writer);
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(io::stderr().is_terminal())
        // It would say so with `eprintln!`, which panics where stderr cannot be written.
        .log_internal_errors(false)
        .with_writer(move || Lines(Arc::clone(&traced)));
    // Only a second log of one process is refused: the first one goes on.
    let _ = log.try_init();
    death::end_process();
    Log(writer)
}

impl Log {
    /// From now on a thread writes: nobody else waits for stderr, whoever reads it.
    ///
    /// # Errors
    /// When there can be no further thread.
    pub fn on_thread(&self) -> io::Result<()> {
        self.0.on_thread()
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.0.flush(LAST_WORDS);
    }
}

/// One traced event, as it is written.
struct Lines(Arc<Writer>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.line(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Stderr for whoever may not wait for it: a thread writes, and flushing takes half a second at most. Lines that nobody takes
/// are dropped, and said to be missing later. `name` is the program's own.
///
/// # Errors
/// When there can be no further thread.
pub fn stderr_on_thread(name: &'static str) -> io::Result<impl Write + Send> {
    let writer = writer::of_process(name);
    writer.on_thread()?;
    Ok(Patient(writer))
}

struct Patient(Arc<Writer>);

impl Write for Patient {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.line(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush(LAST_WORDS);
        Ok(())
    }
}

/// Says something on stdout, where somebody asked for it.
///
/// # Errors
/// When nobody reads it any more.
pub fn say(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// Says on stderr why a program ends. One that cannot be told has nobody to tell.
pub fn complain(text: &str) {
    let _ = stderr::Stderr.write_all(format!("{text}\n").as_bytes());
}
