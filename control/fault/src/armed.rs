//! Decides who meets a fault: the first to come to a point that is armed, in whichever process.
//!
//! A point is armed by a file of its name in the folder that [`FOLDER`] names, with the kind in it. Whoever takes it renames it to
//! `NAME.hit`: the kernel lets one win, and the test sees that the point was reached. What hangs does so until that file is gone.

use crate::{Kind, Point};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;
use std::{env, fs, thread};

/// The variable that names the folder. Without it no point is armed.
pub const FOLDER: &str = "MIREN_FAULTS";
/// How often what hangs looks whether it still does.
const LOOK: Duration = Duration::from_millis(10);
/// By how much limits in time are shorter, so that a walk through all of them ends.
const SHORTER: u32 = 10;

/// A step that was told to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault(Point);

impl std::fmt::Display for Fault {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "fail point {}", self.0.name())
    }
}

impl std::error::Error for Fault {}

/// Before a step that waits: it may fail, and it may be given up while it hangs.
///
/// # Errors
/// When it is armed so.
pub async fn at(point: Point) -> Result<(), Fault> {
    let Some((kind, hit)) = take(point) else { return Ok(()) };
    match kind {
        Kind::Hang => {
            while hit.exists() {
                tokio::time::sleep(LOOK).await;
            }
            Ok(())
        }
        kind => strike(point, kind),
    }
}

/// Before a step that holds up its thread.
///
/// # Errors
/// When it is armed so.
pub fn blocking(point: Point) -> Result<(), Fault> {
    let Some((kind, hit)) = take(point) else { return Ok(()) };
    match kind {
        Kind::Hang => {
            while hit.exists() {
                thread::sleep(LOOK);
            }
            Ok(())
        }
        kind => strike(point, kind),
    }
}

/// Between two steps, where nothing can fail: only the task or the process can end.
pub fn pass(point: Point) {
    if let Some((kind, _)) = take(point) {
        // It has no kind but those two.
        let _ = strike(point, kind);
    }
}

/// A limit in time, shorter where points can be armed.
pub fn deadline(limit: Duration) -> Duration {
    match folder() {
        Some(_) => limit / SHORTER,
        None => limit,
    }
}

fn folder() -> Option<&'static Path> {
    static FOUND: OnceLock<Option<PathBuf>> = OnceLock::new();
    let found = FOUND.get_or_init(|| env::var_os(FOLDER).map(PathBuf::from));
    found.as_deref()
}

/// What was armed, and the file that says that it was met.
fn take(point: Point) -> Option<(Kind, PathBuf)> {
    let armed = folder()?.join(point.name());
    let hit = armed.with_file_name(format!("{}.hit", point.name()));
    fs::rename(&armed, &hit).ok()?;
    let kind = fs::read_to_string(&hit).ok()?;
    Some((Kind::parse(kind.trim())?, hit))
}

fn strike(point: Point, kind: Kind) -> Result<(), Fault> {
    match kind {
        Kind::Error | Kind::Hang => Err(Fault(point)),
        Kind::Panic => panic!("fail point {}", point.name()),
        Kind::Kill => {
            // SAFETY: both take and return integers; the signal ends this process before anything goes on.
            unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
            loop {
                thread::sleep(LOOK);
            }
        }
    }
}
