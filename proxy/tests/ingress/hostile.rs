//! What hostile clients and broken apps may do to others: nothing. Each case says what is sent, and what becomes of it.

use crate::client::{Response, ask, get};
use crate::raw::{RawApp, Request};
use crate::stage::{HOST, Stage};

mod answers;
mod chunks;
mod closing;
mod crowds;
mod forwarded;
mod framing;
mod heads;
mod holding;
mod hops;
mod hosts;
mod paced;
mod readers;
mod reuse;
mod syntax;
mod unended;
mod upgrades;

/// Limits of time that end what would otherwise hang, and nothing that is right.
const BOUNDED: &str = "timeouts.idle = \"5s\"\ntimeouts.header = \"5s\"\ntimeouts.upstream_first_byte = \"5s\"\n\
    timeouts.wait_for_capacity = \"20s\"";

/// What has to become of something that a client sends.
#[derive(Clone, Copy, Debug)]
enum Fate {
    /// One of these statuses, the end of the connection, and nothing for the app.
    Refused(&'static [u16]),
    /// The app gets it with this body, and its answer comes back.
    Served(&'static str),
    /// The standard leaves the choice of the two.
    Open(&'static [u16], &'static str),
}

use Fate::{Open, Refused, Served};

const BAD: Fate = Refused(&[400]);

/// A proxy before a server that goes by the letter.
struct Bench {
    stage: Stage,
    app: RawApp,
    wrong: Vec<String>,
}

impl Bench {
    async fn new() -> Self {
        let stage = Stage::new(BOUNDED).await;
        let app = RawApp::strict().await;
        app.granted(&stage, 100);
        Self {
            stage,
            app,
            wrong: Vec::new(),
        }
    }

    /// Sends `bytes`, which ask for `/case` if for anything, and two requests after it that must be answered as if it had not
    /// been there: on its own connection if that stays open, and on another one.
    async fn case(&mut self, bytes: &[u8], fate: Fate) {
        let before = self.app.seen().len();
        let mut client = self.stage.client().await;
        client.push(bytes).await;
        let answer = client.answer().await;
        // One of HTTP/1.0 ends with its answer, which need not say so.
        let is_old = bytes.windows(10).any(|window| window == b" HTTP/1.0\r");
        let is_kept = answer
            .as_ref()
            .is_some_and(|answer| answer.status == 200 && !says_close(answer))
            && !is_old;
        if is_kept {
            client.push(get(HOST, "/same").as_bytes()).await;
            match client.answer().await {
                Some(next) if (next.status, next.body.as_str()) == (200, "/same") => {}
                other => self.blame(bytes, &format!("the next request on its connection got {other:?}")),
            }
        } else {
            client.closed().await;
        }
        let other = ask(self.stage.address(), &get(HOST, "/other")).await;
        if (other.status, other.body.as_str()) != (200, "/other") {
            self.blame(bytes, &format!("somebody else got {other:?}"));
        }
        let mut seen = self.app.seen().split_off(before);
        seen.retain(|request| !["/same", "/other"].contains(&request.path()));
        if let Err(why) = verdict(answer.as_ref(), &seen, fate) {
            self.blame(bytes, &why);
        }
    }

    fn blame(&mut self, bytes: &[u8], why: &str) {
        let shown: String = bytes.escape_ascii().to_string().chars().take(300).collect();
        self.wrong.push(format!("{shown}\n    {why}"));
    }

    /// Panics with everything that went wrong.
    fn done(self) {
        let broken = self.app.log.broken.lock().clone();
        assert!(
            self.wrong.is_empty(),
            "{} of the cases:\n{}",
            self.wrong.len(),
            self.wrong.join("\n")
        );
        assert!(broken.is_empty(), "the app was sent what is no request: {broken:#?}");
    }
}

fn says_close(answer: &Response) -> bool {
    answer
        .header("connection")
        .is_some_and(|value| value.eq_ignore_ascii_case("close"))
}

fn verdict(answer: Option<&Response>, seen: &[Request], fate: Fate) -> Result<(), String> {
    let status = answer.map_or(0, |answer| answer.status);
    match fate {
        Refused(statuses) => refused(status, seen, statuses),
        Served(body) => served(answer, seen, body),
        Open(statuses, body) => refused(status, seen, statuses).or_else(|_| served(answer, seen, body)),
    }
}

fn refused(status: u16, seen: &[Request], statuses: &[u16]) -> Result<(), String> {
    if !statuses.contains(&status) {
        return Err(format!(
            "was answered {status}, not one of {statuses:?}; the app saw {seen:?}"
        ));
    }
    if !seen.is_empty() {
        return Err(format!("was answered {status}, but the app saw {seen:?}"));
    }
    Ok(())
}

fn served(answer: Option<&Response>, seen: &[Request], body: &str) -> Result<(), String> {
    let got = answer.map(|answer| (answer.status, answer.body.as_str()));
    if got != Some((200, "/case")) {
        return Err(format!("was answered {got:?}; the app saw {seen:?}"));
    }
    match seen {
        [request] if request.body == body.as_bytes() => Ok(()),
        _ => Err(format!("the app saw {seen:?}")),
    }
}
