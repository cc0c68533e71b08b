//! Decides how work is begun beside what goes on: with a name, and never so that its death goes unnoticed.

use crate::death::{Working, died, message};
use futures_util::FutureExt;
use pin_project_lite::pin_project;
use std::any::Any;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::task::JoinHandle;

#[cfg(test)]
mod tests;

pin_project! {
    /// A future whose name is known to whoever asks why its thread panics.
    struct Named<F> {
        name: Option<Arc<str>>,
        #[pin]
        work: F,
    }
}

impl<F: Future> Future for Named<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let _working = Working::on(this.name);
        this.work.poll(context)
    }
}

/// A piece of work that panicked.
#[derive(Debug, thiserror::Error)]
#[error("{name} failed by a fault in this program: {message}")]
pub struct Panicked {
    name: Arc<str>,
    message: String,
    payload: Box<dyn Any + Send>,
}

/// Does work whose panic is nobody's but its caller's: it is told in the log and returned, and nothing else ends.
///
/// # Errors
/// When it panicked.
pub fn caught<T>(
    name: impl Into<Arc<str>> + 'static,
    work: impl Future<Output = T>,
) -> impl Future<Output = Result<T, Panicked>> {
    let name = name.into();
    let named = Named {
        name: Some(Arc::clone(&name)),
        work,
    };
    let panicked = |payload: Box<dyn Any + Send>| Panicked {
        message: message(&*payload).to_owned(),
        name,
        payload,
    };
    AssertUnwindSafe(named)
        .catch_unwind()
        .map(|done| done.map_err(panicked))
}

/// Begins a task of the process's own, which others rely on: should it panic, the process ends.
pub fn spawn<T: Send + 'static>(
    name: impl Into<Arc<str>> + 'static,
    work: impl Future<Output = T> + Send + 'static,
) -> JoinHandle<T> {
    tokio::spawn(supervised(name, work))
}

/// As [`spawn`], for one that is begun by somebody who counts or joins what he began.
pub fn supervised<T>(name: impl Into<Arc<str>> + 'static, work: impl Future<Output = T>) -> impl Future<Output = T> {
    caught(name, work).map(|done| done.unwrap_or_else(|panicked| panicked.end()))
}

/// As [`spawn`], for one that is to go on for as long as the process does: its end is no less a death than its panic.
pub fn spawn_endless(
    name: impl Into<Arc<str>> + 'static,
    work: impl Future<Output = ()> + Send + 'static,
) -> JoinHandle<()> {
    tokio::spawn(endless(name, work))
}

/// As [`spawn_endless`], for one that is begun by somebody who counts or joins what he began.
pub fn endless(name: impl Into<Arc<str>> + 'static, work: impl Future<Output = ()>) -> impl Future<Output = ()> {
    let name = name.into();
    let done = supervised(Arc::clone(&name), work);
    done.map(move |()| died(&name, "it ended although nothing asked it to"))
}

/// Begins a thread of the process's own, which others rely on: should it panic, the process ends.
///
/// # Errors
/// When there can be no further thread.
pub fn thread(name: &'static str, work: impl FnOnce() + Send + 'static) -> io::Result<std::thread::JoinHandle<()>> {
    let supervised = move || {
        let mut working = Some(Arc::from(name));
        let _working = Working::on(&mut working);
        if let Err(payload) = catch_unwind(AssertUnwindSafe(work)) {
            died(name, message(&*payload));
            resume_unwind(payload);
        }
    };
    std::thread::Builder::new().name(name.into()).spawn(supervised)
}

impl Panicked {
    /// The end of the process; where that is not to end, of the task.
    fn end<T>(self) -> T {
        died(&self.name, &self.message);
        resume_unwind(self.payload)
    }
}
