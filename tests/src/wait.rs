//! Waiting: on a condition, with a deadline that tells what was seen last.

use std::fmt::Display;
use std::thread;
use std::time::{Duration, Instant};

/// Pause between two looks.
const PAUSE: Duration = Duration::from_millis(10);

/// Looks until `look` succeeds; panics with its last refusal once `limit` has passed.
#[track_caller]
pub fn wait_until<T, E: Display>(what: &str, limit: Duration, mut look: impl FnMut() -> Result<T, E>) -> T {
    let start = Instant::now();
    loop {
        match look() {
            Ok(found) => return found,
            Err(seen) if start.elapsed() >= limit => panic!("waited {limit:?} for {what}; last seen: {seen}"),
            Err(_) => thread::sleep(PAUSE),
        }
    }
}
