//! Decides that a start and an end are noticed by what happens and not by a look that is due; prints what was measured.

use crate::node::with_config;
use miren_api::resource::SandboxState;
use miren_sandbox::Budgets;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::time::{Duration, Instant};

const ROUNDS: usize = 11;
/// Longer than anybody waits for anything here.
const NEVER: Duration = Duration::from_secs(24 * 3600);

#[test]
fn starting_and_ending_are_noticed_without_a_look_that_is_due() {
    let never_looks = |config: &mut miren_sandbox::NodeConfig| config.health.interval = NEVER;
    with_config(never_looks, async |node| {
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
    });
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

/// So long for what is under way, and an hour for the end.
pub fn within(time: Duration) -> Budgets {
    Budgets {
        requests: time,
        tunnels: time,
        grace: Duration::from_secs(3600),
    }
}
