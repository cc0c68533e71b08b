//! Decides how WebSockets are held, and what an end of one is: said before, or a cut.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, anyhow};
use serde::Serialize;

use super::Target;
use super::websocket::{Heard, WebSocket};

/// Between two words, and before the next attempt after a cut.
const PAUSE: Duration = Duration::from_millis(100);
/// Cuts told one by one; further ones are only counted.
const CUTS_TOLD: usize = 20;

/// What became of WebSockets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct StreamCounts {
    /// Attempts to open one; each client opens another after an end that was not its own.
    pub opened: u64,
    /// The other side said that it goes (a close frame).
    pub told: u64,
    /// Not to be opened, or ended without a word.
    pub cut: u64,
    /// Of the first cuts, why.
    #[serde(skip)]
    pub cuts: Vec<String>,
}

impl StreamCounts {
    pub fn add(&mut self, other: Self) {
        self.opened += other.opened;
        self.told += other.told;
        self.cut += other.cut;
        self.cuts.extend(other.cuts);
        self.cuts.truncate(CUTS_TOLD);
    }

    fn cut(&mut self, error: &std::io::Error) {
        self.cut += 1;
        if self.cuts.len() < CUTS_TOLD {
            let why = match error.kind() {
                ErrorKind::UnexpectedEof => "it ended without a word".to_owned(),
                _ => error.to_string(),
            };
            self.cuts.push(format!("WebSocket, {why}"));
        }
    }
}

/// Clients that each hold one; dropped, they leave.
pub(super) struct Streams {
    clients: Vec<JoinHandle<StreamCounts>>,
    going_on: Arc<AtomicBool>,
}

impl Streams {
    pub fn open(target: &Target, count: usize) -> anyhow::Result<Self> {
        let address: SocketAddr = target.http.parse().context("reading the address of the ingress")?;
        let going_on = Arc::new(AtomicBool::new(true));
        // Made first: whoever has begun is told to leave when another cannot.
        let mut streams = Self {
            clients: Vec::new(),
            going_on,
        };
        for _ in 0..count {
            let (host, going_on) = (target.host.clone(), Arc::clone(&streams.going_on));
            let client = thread::Builder::new().name("websocket".into());
            let client = client.spawn(move || hold(address, &host, &going_on));
            streams.clients.push(client.context("starting a client")?);
        }
        Ok(streams)
    }

    pub fn close(mut self) -> anyhow::Result<StreamCounts> {
        self.going_on.store(false, Ordering::Relaxed);
        let mut counts = StreamCounts::default();
        for client in std::mem::take(&mut self.clients) {
            counts.add(client.join().map_err(|_| anyhow!("a client of a WebSocket panicked"))?);
        }
        Ok(counts)
    }
}

impl Drop for Streams {
    fn drop(&mut self) {
        self.going_on.store(false, Ordering::Relaxed);
    }
}

fn hold(address: SocketAddr, host: &str, going_on: &AtomicBool) -> StreamCounts {
    let mut counts = StreamCounts::default();
    let mut open = None;
    loop {
        let is_last = !going_on.load(Ordering::Relaxed);
        open = match open {
            None if is_last => return counts,
            None => {
                counts.opened += 1;
                let opened = WebSocket::open(address, host);
                opened.inspect_err(|error| counts.cut(error)).ok()
            }
            Some(socket) if is_last => {
                let closed = WebSocket::close(socket);
                let _ = closed.inspect_err(|error| counts.cut(error));
                return counts;
            }
            Some(mut socket) => match socket.echo() {
                Ok(Heard::Echo) => Some(socket),
                Ok(Heard::Goodbye) => {
                    counts.told += 1;
                    None
                }
                Err(error) => {
                    counts.cut(&error);
                    None
                }
            },
        };
        thread::sleep(PAUSE);
    }
}
