//! No descriptors are left. The limit is the whole process's, so these tests are processes of their own.

use super::*;
use crate::listen::accept::PAUSE;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::collections::HashSet;
use std::io::Write;

/// Leaves this process room for `count` further descriptors.
fn leave(count: u64) {
    let open: HashSet<u64> = std::fs::read_dir("/proc/self/fd")
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap().parse().unwrap())
        .collect();
    let mut free = 0;
    let mut limit = 0;
    while free < count {
        // That of the folder that was read is free again, whatever is counted here.
        free += u64::from(!open.contains(&limit));
        limit += 1;
    }
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, limit, hard).unwrap();
}

#[test]
fn f13_without_descriptors_the_oldest_silent_ones_give_theirs_up() {
    alone(async {
        let stage = Stage::new(ROOMY);
        let clients = stage.connect(40);
        leave(5);
        stage.accepted(40).await;
        assert!(stage.metrics.crowds.accept_errors.get() > 0);
        assert!(
            stage.metrics.crowds.evicted.get() >= 34,
            "{}",
            stage.metrics.crowds.evicted.get()
        );
        assert_eq!(stage.metrics.connections_refused.get(), 0);
        drop(clients);
    });
}

#[test]
fn f13_without_descriptors_and_all_busy_others_wait_and_nothing_spins() {
    alone(async {
        let stage = Stage::new(ROOMY);
        let mut clients = stage.connect(6);
        for client in &mut clients {
            client.write_all(b"b").unwrap();
        }
        let begun = Instant::now();
        leave(3);
        becomes("shortages", || {
            let seen = stage.metrics.crowds.accept_errors.get();
            (seen >= 8, seen)
        })
        .await;
        // Each of the three may have been asked to go before its request began: that it stays is tried at once.
        let most = begun.elapsed().as_millis() / PAUSE.as_millis() + 1 + 3;
        let seen = stage.metrics.crowds.accept_errors.get();
        assert!(u128::from(seen) <= most, "{seen} tries, at most {most} in this time");
        assert!(stage.metrics.connections.get() <= 4);
        let accepted = stage.metrics.connections.get() as usize;
        clients.remove(0);
        stage.accepted(accepted + 1).await;
    });
}
