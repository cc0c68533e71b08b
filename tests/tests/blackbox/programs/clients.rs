//! Load by programs that others wrote, one after the other and round and round, and what each of them says of it.

use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};

use miren_bench::load::{Load, Options};
use miren_blackbox::{Output, wait_until};

use super::PATIENCE;

/// Requests of one call of a client that counts them.
const REQUESTS: &str = "150";
/// A second, beside the clients, on a fixed timetable.
const RATE: f64 = 50.0;

/// A program, with what it is told before the URL, and whether it says that all was well.
struct Client {
    command: fn(address: SocketAddr, host: &str) -> Command,
    all_well: fn(&str) -> bool,
}

const CLIENTS: [Client; 5] = [
    Client {
        command: |address, host| {
            called(
                "ab -q -k -s 60 -c 4 -n",
                &[REQUESTS, "-H", &header(host)],
                &url(address),
            )
        },
        all_well: |told| {
            let is = |name: &str, count: &str| {
                let mut lines = told.lines().filter_map(|line| line.strip_prefix(name));
                lines.next().map(str::trim) == Some(count)
            };
            is("Complete requests:", REQUESTS) && is("Failed requests:", "0") && !told.contains("Non-2xx")
        },
    },
    Client {
        command: |address, host| {
            called(
                "wrk -t 1 -c 4 -d 1s --timeout 60s",
                &["-H", &header(host)],
                &url(address),
            )
        },
        all_well: |told| told.contains("Requests/sec:") && !told.contains("Socket errors") && !told.contains("Non-2xx"),
    },
    Client {
        command: |address, host| {
            let to = address.to_string();
            called("h2load --h1 -c 4 -n", &[REQUESTS, "--connect-to", &to], &url(host))
        },
        all_well: |told| told.contains(&format!("{REQUESTS} succeeded, 0 failed, 0 errored, 0 timeout")),
    },
    Client {
        command: |address, host| called("hey -t 60 -c 3 -n", &[REQUESTS, "-host", host], &url(address)),
        all_well: |told| told.contains(&format!("[200]\t{REQUESTS} responses")) && !told.contains("Error distribution"),
    },
    Client {
        command: |address, host| {
            called(
                "curl -fsS",
                &["-w", "\n", "-H", &header(host)],
                &format!("{}?[1-20]", url(address)),
            )
        },
        all_well: |told| told.lines().count() >= 20,
    },
];

fn called(program: &str, more: &[&str], url: &str) -> Command {
    let mut words = program.split(' ');
    let mut command = Command::new(words.next().expect("a program"));
    command.args(words).args(more).arg(url);
    command
}

fn header(host: &str) -> String {
    format!("Host: {host}")
}

fn url(authority: impl std::fmt::Display) -> String {
    format!("http://{authority}/info")
}

/// The load while it runs; dropped, it stops.
pub struct Clients {
    timetable: Load,
    running: Arc<AtomicBool>,
    /// Calls of clients that have ended.
    ended: Arc<AtomicUsize>,
    calls: JoinHandle<Vec<String>>,
}

impl Clients {
    /// `GET /info` of a host, from now on.
    #[track_caller]
    pub fn start(address: SocketAddr, host: &str) -> Self {
        let mut options = Options::get(&url(address), RATE).expect("an address is one");
        options.host = Some(host.to_owned());
        options.timeout = PATIENCE;
        let (running, ended) = (Arc::new(AtomicBool::new(true)), Arc::default());
        Self {
            timetable: Load::start(options).expect("a load starts"),
            running: Arc::clone(&running),
            ended: Arc::clone(&ended),
            calls: {
                let host = host.to_owned();
                thread::spawn(move || call_by_turns(address, &host, &running, &ended))
            },
        }
    }

    /// Waits until each client was called, and has ended, from now on.
    #[track_caller]
    pub fn wait_for_a_round(&self) {
        // One may be under way.
        let enough = self.ended.load(Ordering::SeqCst) + CLIENTS.len() + 1;
        wait_until("a call of each client", PATIENCE, || {
            match self.ended.load(Ordering::SeqCst) {
                ended if ended >= enough || self.calls.is_finished() => Ok(()),
                ended => Err(format!("{ended} of {enough} calls have ended")),
            }
        });
    }

    /// Ends it; anything that failed fails the test.
    #[track_caller]
    pub fn stop(self) {
        self.running.store(false, Ordering::SeqCst);
        let failures = self.calls.join().expect("the clients end");
        assert!(failures.is_empty(), "{}", failures.join("\n"));
        let report = self.timetable.stop().expect("a load ends");
        assert!(report.requests > 0 && report.failed == 0, "{:#?}", report.failures);
    }
}

/// What those calls said that were not all well: it ends with the first.
fn call_by_turns(address: SocketAddr, host: &str, running: &AtomicBool, ended: &AtomicUsize) -> Vec<String> {
    for client in CLIENTS.iter().cycle() {
        if !running.load(Ordering::SeqCst) {
            break;
        }
        let output = Output::of(&mut (client.command)(address, host));
        if output.code != 0 || !(client.all_well)(&output.stdout) {
            return vec![output.to_string()];
        }
        ended.fetch_add(1, Ordering::SeqCst);
    }
    Vec::new()
}
