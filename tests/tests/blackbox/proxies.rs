//! Two proxies of one node share what its sandboxes take, and the one that is left gets all of it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use miren_blackbox::http::Connection;
use miren_blackbox::{AppFolder, Mixed, Node, SecondProxy, wait_until};
use nix::time::{ClockId, clock_gettime};

const HOST: &str = "shared.example.com";
const BESIDE: &str = "beside.example.com";
/// Concurrent requests that one sandbox takes, an even number: two proxies have half of it each.
const CAPACITY: usize = 4;
const SANDBOXES: usize = 2;
/// Clients of each proxy, each with a request under way at all times: more than all sandboxes take together.
const CLIENTS: usize = 12;
/// For how long a sandbox holds each request, milliseconds.
const HOLD: u32 = 100;
/// Requests in a row to one sandbox that must find the shares settled.
const IN_A_ROW: usize = 100;
/// Twice the time for which a lease holds that nobody renews.
const LIMIT: Duration = Duration::from_secs(60);

/// One request that a sandbox has held, by the app's own clock, which is this machine's. A proxy counts it in flight for
/// longer, never for less.
#[derive(Clone, Debug)]
struct Held {
    sandbox: String,
    began: u64,
    ended: u64,
}

/// Clients of one proxy, each sending its next request when it has the answer to the last one.
struct Clients {
    held: Arc<Mutex<Vec<Held>>>,
    running: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Result<(), String>>>,
}

impl Clients {
    fn start(proxy: SocketAddr) -> Self {
        let (held, running) = (Arc::<Mutex<Vec<Held>>>::default(), Arc::new(AtomicBool::new(true)));
        let client = |_| {
            let (held, running) = (held.clone(), running.clone());
            thread::spawn(move || {
                while running.load(Ordering::Relaxed) {
                    let one = hold(proxy)?;
                    held.lock().unwrap_or_else(PoisonError::into_inner).push(one);
                }
                Ok(())
            })
        };
        let threads = (0..CLIENTS).map(client).collect();
        Self { held, running, threads }
    }

    fn held(&self) -> Vec<Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What was answered, and what failed.
    fn stop(self) -> (Vec<Held>, Vec<String>) {
        self.running.store(false, Ordering::Relaxed);
        let ended = self
            .threads
            .into_iter()
            .map(|thread| thread.join().expect("a client ends"));
        let failures = ended.filter_map(Result::err).collect();
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner).clone();
        (held, failures)
    }
}

fn hold(proxy: SocketAddr) -> Result<Held, String> {
    let exchange = || {
        let mut connection = Connection::open(proxy)?;
        connection.request("GET", HOST, &format!("/sleep?ms={HOLD}"), "Connection: close\r\n")?;
        connection.response()
    };
    let response = exchange().map_err(|error| error.to_string())?;
    let time = |name: &str| response.field(name).parse::<u64>();
    match (response.status, time("began_ns"), time("ended_ns")) {
        (200, Ok(began), Ok(ended)) => Ok(Held {
            sandbox: response.field("sandbox"),
            began,
            ended,
        }),
        _ => Err(format!("{} {}: {}", response.status, response.code(), response.text())),
    }
}

/// For each sandbox, how many requests it held when it began with another one, that one included; in order of time.
fn at_once(held: &[Held]) -> BTreeMap<String, Vec<usize>> {
    let mut by_sandbox: BTreeMap<String, Vec<&Held>> = BTreeMap::new();
    for one in held {
        by_sandbox.entry(one.sandbox.clone()).or_default().push(one);
    }
    let counts = |mut held: Vec<&Held>| {
        held.sort_by_key(|one| one.began);
        let mut ends: BTreeSet<(u64, usize)> = BTreeSet::new();
        let mut counts = Vec::new();
        for (number, one) in held.into_iter().enumerate() {
            ends = ends.split_off(&(one.began + 1, 0));
            ends.insert((one.ended, number));
            counts.push(ends.len());
        }
        counts
    };
    by_sandbox
        .into_iter()
        .map(|(sandbox, held)| (sandbox, counts(held)))
        .collect()
}

/// Whether each sandbox had a long row of requests of which none found it with more than it takes, and one found it full.
fn shared_in_peace(at_once: &BTreeMap<String, Vec<usize>>) -> bool {
    let in_peace = |counts: &Vec<usize>| {
        let mut rows = counts.split(|count| *count > CAPACITY);
        rows.any(|row| row.len() >= IN_A_ROW && row.contains(&CAPACITY))
    };
    at_once.len() == SANDBOXES && at_once.values().all(in_peace)
}

/// The most that each sandbox held at once.
fn highest(held: &[Held]) -> BTreeMap<String, usize> {
    let highest = |counts: Vec<usize>| counts.into_iter().max().unwrap_or_default();
    let counted = at_once(held).into_iter();
    counted.map(|(sandbox, counts)| (sandbox, highest(counts))).collect()
}

/// The clock of the app's times.
fn now() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("the clock can be read");
    Duration::from(now).as_nanos() as u64
}

#[test]
fn r5_two_proxies_share_each_sandbox_and_the_survivor_of_a_kill_gets_all_of_it() {
    let node = Node::start();
    let app = AppFolder::rust("shared").and(&format!(
        "[services.web.concurrency]\nmode = \"auto\"\nrequests_per_instance = {CAPACITY}\n\
         min_instances = {SANDBOXES}\nmax_instances = {SANDBOXES}"
    ));
    node.deploy_at(&app, HOST);
    node.deploy_at(&AppFolder::rust("beside").fixed(1), BESIDE);
    node.wait_running("shared", SANDBOXES);
    let mixed = Mixed::start(&node, BESIDE);
    let mut second = SecondProxy::start(&node);
    let [ours, theirs] = [node.http, second.http].map(Clients::start);

    wait_until("the shares to be kept to", LIMIT, || {
        let counts = at_once(&[ours.held(), theirs.held()].concat());
        if shared_in_peace(&counts) {
            Ok(())
        } else {
            Err(format!("held at once: {counts:?}"))
        }
    });
    second.kill();
    let killed = now();
    let full = |most: usize| most == CAPACITY;
    let since = wait_until("the whole capacity for the survivor", LIMIT, || {
        let mut since = ours.held();
        since.retain(|one| one.began > killed);
        let most = highest(&since);
        if most.len() == SANDBOXES && most.values().copied().all(full) {
            Ok(most)
        } else {
            Err(format!("held at once: {most:?}"))
        }
    });

    let (ours, failures) = ours.stop();
    assert_eq!(failures, Vec::<String>::new(), "requests through the survivor");
    let (theirs, _) = theirs.stop();
    println!(
        "{} and {} requests, {since:?} at once after the kill",
        ours.len(),
        theirs.len()
    );
    // Half of it each, the one that came later too.
    for (who, held) in [("the node's own", &ours), ("the second", &theirs)] {
        let most = highest(held);
        assert!(most.values().all(|most| *most <= CAPACITY), "{who}: {most:?}");
        assert!(held.len() >= IN_A_ROW / 2, "{who} got {} requests answered", held.len());
    }
    // A share shrinks when its proxy is told so, and what was sent under it goes on for a moment beside what the other
    // one may send from then on: half of the capacity each time. Two that do not share would be at twice of it.
    let most = highest(&[ours, theirs].concat());
    println!("at once, of both: {most:?}");
    assert!(most.values().all(|most| *most < 2 * CAPACITY), "{most:?}");
    mixed.stop().assert_none_failed();
    node.stop();
}
