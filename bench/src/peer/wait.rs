//! Decides how something is waited for, and that an operator who interrupts is heard meanwhile.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use tokio::signal::unix::{SignalKind, signal};

/// Between two looks: as exact as the times that are told.
const LOOK_AGAIN: Duration = Duration::from_millis(2);

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// From now on SIGINT and SIGTERM make waiting fail, so that whatever was started is ended on the way out.
///
/// # Errors
/// When the signals cannot be had.
pub fn heed_signals() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (mut interrupt, mut terminate) = {
        let _inside = runtime.enter();
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?)
    };
    let either = async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    };
    let heed = move || {
        runtime.block_on(either);
        INTERRUPTED.store(true, Ordering::Relaxed);
    };
    let thread = std::thread::Builder::new().name("signals".into()).spawn(heed);
    thread.map(drop).context("starting the thread that heeds signals")
}

fn go_on() -> anyhow::Result<()> {
    if INTERRUPTED.load(Ordering::Relaxed) {
        bail!("interrupted");
    }
    Ok(())
}

/// Lets time pass.
///
/// # Errors
/// When interrupted.
pub fn pause(time: Duration) -> anyhow::Result<()> {
    let end = Instant::now() + time;
    loop {
        go_on()?;
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        std::thread::sleep(left.min(Duration::from_millis(50)));
    }
}

/// Waits until there is something; none when `limit` has passed.
///
/// # Errors
/// When a look fails, or when interrupted.
pub fn until_or<T>(limit: Duration, mut look: impl FnMut() -> anyhow::Result<Option<T>>) -> anyhow::Result<Option<T>> {
    let end = Instant::now() + limit;
    loop {
        if let Some(found) = look()? {
            return Ok(Some(found));
        }
        if Instant::now() > end {
            return Ok(None);
        }
        go_on()?;
        std::thread::sleep(LOOK_AGAIN);
    }
}

/// Waits until there is something.
///
/// # Errors
/// When `limit` has passed, a look fails, or when interrupted.
pub fn until<T>(what: &str, limit: Duration, look: impl FnMut() -> anyhow::Result<Option<T>>) -> anyhow::Result<T> {
    until_or(limit, look)?.with_context(|| format!("{what}: not within {limit:?}"))
}
