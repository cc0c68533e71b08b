//! When memory is given back to the system: an allocator keeps what each thread has freed until that thread allocates again, and after a
//! crowd of connections it may not for hours.

use crate::listen::House;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// What the allocator of this process does to give back what the calling thread has freed.
static GIVE_BACK: OnceLock<fn()> = OnceLock::new();

/// How long those who left may take to free what they had.
const SETTLE: Duration = Duration::from_millis(200);
/// How long a worker is held, so that each of them has one of as many tasks.
const HELD: Duration = Duration::from_millis(2);

/// Says how the allocator of this process gives memory back. The first word counts.
pub fn is_given_back_by(give_back: fn()) {
    // A second one would be the same.
    let _ = GIVE_BACK.set(give_back);
}

/// Has each of the runtime's `threads` give memory back whenever a crowd has left.
pub(super) async fn after_crowds(house: Arc<House>, threads: usize) {
    loop {
        house.crowd_left().await;
        tokio::time::sleep(SETTLE).await;
        let Some(give_back) = GIVE_BACK.get() else { continue };
        for _ in 0..threads {
            miren_log::spawn("giving memory back", async move {
                give_back();
                std::thread::sleep(HELD);
            });
        }
    }
}
