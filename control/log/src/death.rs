//! Decides what a panic leads to: it is named in the log, and the process ends where one of its own tasks is dead.
//!
//! What a daemon knows is in its store or with its peers, and what it runs outlives it: a process that ends is taken over
//! by the next one within moments. One that goes on without a task of its own serves nobody (ADR 0023).

use crate::{LAST_WORDS, complain, writer};
use std::any::Any;
use std::cell::Cell;
use std::panic::PanicHookInfo;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// With which a process ends whose own task has died: EX_SOFTWARE of sysexits(3).
pub const EXIT_CODE: i32 = 70;

static ENDS_PROCESS: AtomicBool = AtomicBool::new(false);
static PANICS: AtomicU64 = AtomicU64::new(0);

thread_local! {
    /// What this thread works on.
    static WORK: Cell<Option<Arc<str>>> = const { Cell::new(None) };
}

/// Panics of this process so far.
pub fn panics() -> u64 {
    PANICS.load(Ordering::Relaxed)
}

/// From now on each panic is told in the log, and a dead task of ours ends the process.
pub(crate) fn end_process() {
    if !ENDS_PROCESS.swap(true, Ordering::SeqCst) {
        std::panic::set_hook(Box::new(tell));
    }
}

/// What many share, while one changes it: should that one panic, the process ends, since nobody could rely on the rest.
#[derive(Debug)]
pub struct Whole {
    name: &'static str,
    /// Begun by a destructor, after something else had panicked.
    in_unwinding: bool,
}

impl Whole {
    /// `name` is what is changed, until this is dropped.
    pub fn begin(name: &'static str) -> Self {
        Self {
            name,
            in_unwinding: std::thread::panicking(),
        }
    }
}

impl Drop for Whole {
    fn drop(&mut self) {
        if std::thread::panicking() && !self.in_unwinding {
            died(self.name, "whoever changed it panicked");
        }
    }
}

fn tell(panic: &PanicHookInfo<'_>) {
    PANICS.fetch_add(1, Ordering::Relaxed);
    let work = current();
    let thread = std::thread::current();
    tracing::error!(
        task = work.as_deref().unwrap_or("a task without a name"),
        thread = thread.name().unwrap_or("without a name"),
        at = panic.location().map(tracing::field::display),
        "panicked: {}",
        message(panic.payload())
    );
}

/// What a panic says.
pub(crate) fn message(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| payload.downcast_ref::<&str>().copied())
        .unwrap_or("without a message")
}

/// A task of the process's own is over. Ends the process; returns only where [`end_process`] was never called, as in
/// tests.
pub(crate) fn died(name: &str, why: &str) {
    tracing::error!(
        task = name,
        why,
        "a task of this process is dead: it ends, and its supervisor starts the next one"
    );
    if !ENDS_PROCESS.load(Ordering::SeqCst) {
        return;
    }
    match writer::existing() {
        Some(writer) => writer.flush(LAST_WORDS),
        None => complain(&format!("{name} is dead: {why}")),
    }
    // Not `exit`: handlers and destructors may wait for what is dead.
    // SAFETY: it takes an integer and does not return.
    unsafe { libc::_exit(EXIT_CODE) }
}

pub(crate) fn current() -> Option<Arc<str>> {
    let work = WORK.take();
    WORK.set(work.clone());
    work
}

/// Names what this thread works on, until it is dropped.
pub(crate) struct Working<'n> {
    name: &'n mut Option<Arc<str>>,
}

impl<'n> Working<'n> {
    /// Swaps `name` for the one before; no reference is counted, as it is done for each poll.
    pub(crate) fn on(name: &'n mut Option<Arc<str>>) -> Self {
        *name = WORK.replace(name.take());
        Self { name }
    }
}

impl Drop for Working<'_> {
    fn drop(&mut self) {
        *self.name = WORK.replace(self.name.take());
    }
}
