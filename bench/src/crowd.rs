//! Decides what clients do while something is replaced or taken away: short requests over kept connections and over new ones,
//! GETs and POSTs that take two seconds, and WebSockets that are held.
//!
//! Nothing is sent twice, and nobody waits for an answer before the next request leaves: what is lost is seen.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::{HeaderName, HeaderValue, Method};

use crate::load::{Check, Load, Options, Report, Seen};
use streams::Streams;

mod pace;
mod streams;
#[cfg(test)]
mod tests;
mod websocket;

pub use pace::{Answer, Pace};
pub use streams::StreamCounts;

/// How long a long request is answered.
pub const LONG: Duration = Duration::from_secs(2);
/// Long requests a second, of each method: eight of both are under way at any time.
const LONG_RATE: f64 = 2.0;

/// Where to, and as which host.
#[derive(Clone, Debug)]
pub struct Target {
    /// `ADDRESS:PORT` of the ingress.
    pub http: String,
    pub host: String,
}

impl Target {
    /// A peer leads every host to its app.
    #[must_use]
    pub fn of_peer(http: SocketAddr) -> Self {
        Self {
            http: http.to_string(),
            host: "peer.example.test".to_owned(),
        }
    }
}

/// The clients while they go on; dropped, they stop.
pub struct Crowd {
    /// Over connections that are kept, and over a connection for each.
    short: [Load; 2],
    /// GETs, which an ingress may ask of another copy of the app, and POSTs, which it may not.
    long: [Load; 2],
    streams: Streams,
    answers: Arc<Mutex<Vec<Answer>>>,
}

/// What became of it all.
pub struct Left {
    /// Over connections that were kept, and over a connection for each.
    pub short: [Report; 2],
    /// GETs and POSTs.
    pub long: [Report; 2],
    pub streams: StreamCounts,
    /// To short requests, in the order received.
    pub answers: Vec<Answer>,
}

impl Crowd {
    /// `rate` short requests a second, half of them over kept connections, and so many WebSockets.
    ///
    /// # Errors
    /// When a load cannot be started.
    pub fn start(target: &Target, rate: f64, websockets: usize) -> anyhow::Result<Self> {
        let answers = Arc::default();
        let kept = short(target, rate / 2.0, &answers)?;
        let mut fresh = short(target, rate / 2.0, &answers)?;
        fresh.headers.push(close());
        let mut get = options(target, &format!("/sleep?ms={}", LONG.as_millis()), LONG_RATE)?;
        get.headers.push(close());
        let mut post = get.clone();
        (post.method, post.body) = (Method::POST, "wait for it".into());
        Ok(Self {
            short: [Load::start(kept)?, Load::start(fresh)?],
            long: [Load::start(get)?, Load::start(post)?],
            streams: Streams::open(target, websockets)?,
            answers,
        })
    }

    /// Begins nothing more, lets what is under way end, and sums up.
    ///
    /// # Errors
    /// When a load ended otherwise than by this.
    pub fn leave(self) -> anyhow::Result<Left> {
        let ([kept, fresh], [get, post]) = (self.short, self.long);
        for load in [&kept, &fresh, &get, &post] {
            load.stopper()();
        }
        let short = [kept.wait()?, fresh.wait()?];
        let long = [get.wait()?, post.wait()?];
        let streams = self.streams.close()?;
        let answers = std::mem::take(&mut *self.answers.lock().unwrap_or_else(PoisonError::into_inner));
        Ok(Left {
            short,
            long,
            streams,
            answers,
        })
    }
}

fn options(target: &Target, path: &str, rate: f64) -> anyhow::Result<Options> {
    let mut options = Options::get(&format!("http://{}{path}", target.http), rate)?;
    options.host = Some(target.host.clone());
    Ok(options)
}

fn short(target: &Target, rate: f64, answers: &Arc<Mutex<Vec<Answer>>>) -> anyhow::Result<Options> {
    let mut options = options(target, "/info", rate)?;
    let answers = Arc::clone(answers);
    options.check = Some(Check::new(move |seen: &Seen<'_>| {
        let answer = Answer {
            due: seen.due,
            received: seen.received,
        };
        answers.lock().unwrap_or_else(PoisonError::into_inner).push(answer);
        Ok(())
    }));
    Ok(options)
}

fn close() -> (HeaderName, HeaderValue) {
    (HeaderName::from_static("connection"), HeaderValue::from_static("close"))
}

impl Left {
    /// How it went for short requests that were due in this time.
    #[must_use]
    pub fn pace(&self, from: Instant, to: Instant) -> Pace {
        Pace::of(&self.answers, from, to)
    }
}
