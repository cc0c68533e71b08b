//! Decides that starting and noticing an end stay fast; prints what was measured.

use crate::node::with_node;
use miren_api::resource::SandboxState;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::time::{Duration, Instant};

const ROUNDS: usize = 11;
/// Far above what is measured (about 60 ms and 5 ms): a busy machine must not fail the test, a poll of a second must.
const START_LIMIT: Duration = Duration::from_secs(2);
const END_LIMIT: Duration = Duration::from_millis(500);

#[test]
fn starting_and_ending_are_noticed_at_once() {
    with_node(async |node| {
        let (mut starts, mut ends) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let order = node.order("listen 0.0.0.0");
            let asked = Instant::now();
            let running = node.run(&order).await;
            starts.push(asked.elapsed());
            let pid = i32::try_from(running.facts.pid.expect("a pid")).expect("a pid");
            let killed = Instant::now();
            kill(Pid::from_raw(pid), Signal::SIGKILL).expect("a signal");
            node.until(&order.id, SandboxState::Dead).await;
            ends.push(killed.elapsed());
        }
        let (start, end) = (median(starts), median(ends));
        println!("create → RUNNING: median {start:?}; kill → announced: median {end:?}; {ROUNDS} rounds");
        assert!(start < START_LIMIT, "create → RUNNING takes {start:?}");
        assert!(end < END_LIMIT, "kill → announced takes {end:?}");
    });
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}
