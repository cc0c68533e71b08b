//! What users do, all at once and without a pause: GETs, POSTs, chunked uploads, event streams and WebSockets.
//!
//! Each kind is counted by itself. Streams and WebSockets last a fraction of a second, far less than any drain timeout,
//! so that there is no excuse for one that is cut.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use miren_bench::load::{Check, Load, Options, Seen};

use crate::node::Node;
use crate::wait::wait_until;

mod answers;
mod clients;
mod report;
#[cfg(test)]
mod tests;

pub use answers::{Answer, Floor};
pub use report::{Kind, KindReport, MixedReport};

use clients::{Target, Turn};

/// Requests a second.
const GETS: f64 = 200.0;
const POSTS: f64 = 20.0;
const POSTED: &str = "the body of a POST, which comes back as it went\n";
/// Each of the slower kinds has so many clients, which begin one exchange in each period.
const CLIENTS: usize = 2;
const PERIOD: Duration = Duration::from_millis(150);
/// Longest wait for an answer that is to come.
const LIMIT: Duration = Duration::from_secs(60);

/// The load of all kinds while it runs; dropped, it stops.
pub struct Mixed {
    get: Load,
    post: Load,
    answers: Arc<Mutex<Vec<Answer>>>,
    clients: Vec<JoinHandle<KindReport>>,
    running: Running,
}

/// Tells the clients to go on until it is dropped.
struct Running(Arc<AtomicBool>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

impl Mixed {
    /// Begins at once. The host must lead to one of the sample apps.
    #[track_caller]
    pub fn start(node: &Node, host: &str) -> Self {
        Self::start_at(node.http, host)
    }

    /// The same, through another proxy than the node's own.
    #[track_caller]
    pub fn start_at(address: SocketAddr, host: &str) -> Self {
        let target = Target {
            address,
            host: host.to_owned(),
        };
        let answers = Arc::default();
        let running = Running(Arc::new(AtomicBool::new(true)));
        let turns: [(Kind, Turn); 3] = [
            (Kind::Upload, clients::upload),
            (Kind::Events, clients::events),
            (Kind::WebSocket, clients::websocket),
        ];
        let start = Instant::now();
        let client = |number: usize| {
            let ((kind, turn), target, running) = (turns[number / CLIENTS], target.clone(), running.0.clone());
            // Clients of one kind take turns, so that at any time one of them has something under way.
            let first = start + PERIOD * (number % CLIENTS) as u32 / CLIENTS as u32;
            thread::spawn(move || {
                let mut report = KindReport::new(kind);
                each_period(first, &running, |round| {
                    let begin = start.elapsed();
                    let outcome = turn(&target, &format!("client {number} round {round}"));
                    report.book(begin..start.elapsed(), outcome.map_err(|error| error.to_string()));
                });
                report
            })
        };
        Self {
            get: gets(&target, &answers),
            post: posts(&target),
            answers,
            clients: (0..turns.len() * CLIENTS).map(client).collect(),
            running,
        }
    }

    /// Waits until a GET was answered by that release.
    #[track_caller]
    pub fn wait_for(&self, release: &str) {
        wait_until(&format!("a GET to be answered by {release}"), LIMIT, || {
            let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
            match answers.iter().rfind(|answer| answer.release == release) {
                Some(_) => Ok(()),
                None => Err(format!("{} answers, the last {:?}", answers.len(), answers.last())),
            }
        });
    }

    /// Ends what is under way in peace, and sums up.
    #[track_caller]
    pub fn stop(self) -> MixedReport {
        drop(self.running);
        let mut kinds = vec![
            KindReport::of_load(Kind::Get, &self.get.stop().expect("a load ends")),
            KindReport::of_load(Kind::Post, &self.post.stop().expect("a load ends")),
        ];
        for client in self.clients {
            let report = client.join().expect("a client ends");
            match kinds.iter_mut().find(|kind| kind.kind == report.kind) {
                Some(kind) => kind.add(report),
                None => kinds.push(report),
            }
        }
        let answers = std::mem::take(&mut *self.answers.lock().unwrap_or_else(PoisonError::into_inner));
        MixedReport { kinds, answers }
    }
}

/// Calls `turn` with 0, 1, 2…, one in each period and one at least; one that takes longer only delays its successors.
fn each_period(first: Instant, running: &AtomicBool, mut turn: impl FnMut(u64)) {
    let mut due = first;
    for round in 0.. {
        thread::sleep(due.saturating_duration_since(Instant::now()));
        turn(round);
        if !running.load(Ordering::Relaxed) {
            return;
        }
        due = (due + PERIOD).max(Instant::now());
    }
}

fn options(target: &Target, path: &str, rate: f64, check: Check) -> Options {
    let url = format!("http://{}{path}", target.address);
    let mut options = Options::get(&url, rate).expect("the address of a node is one");
    options.host = Some(target.host.clone());
    options.check = Some(check);
    options
}

/// GETs of `/info`, whose answers are kept.
fn gets(target: &Target, answers: &Arc<Mutex<Vec<Answer>>>) -> Load {
    let answers = answers.clone();
    let keep = move |seen: &Seen<'_>| {
        let answer = Answer::read(seen)?;
        answers.lock().unwrap_or_else(PoisonError::into_inner).push(answer);
        Ok(())
    };
    Load::start(options(target, "/info", GETS, Check::new(keep))).expect("a load starts")
}

fn posts(target: &Target) -> Load {
    let echoed = |seen: &Seen<'_>| {
        let right = seen.status == 200 && seen.body == POSTED.as_bytes();
        right
            .then_some(())
            .ok_or_else(|| format!("{:?} came back", String::from_utf8_lossy(seen.body)))
    };
    let mut options = options(target, "/echo", POSTS, Check::new(echoed));
    options.method = "POST".parse().expect("POST is a method");
    options.body = POSTED.into();
    Load::start(options).expect("a load starts")
}
