//! Wrong answers of apps, many at once: what the client of each gets, and that the next request gets its own.

use super::{ROOM, serves_on};
use crate::echo::{Asked, Echo, Step, text};
use crate::stage::HOST;
use crate::wire::{Wire, told};
use std::net::SocketAddr;
use std::sync::Arc;

/// One answer of an app.
pub struct Case {
    pub what: &'static str,
    pub steps: Vec<Step>,
    /// What the client may get of it, in short; what ends with `…` may go on.
    pub wanted: &'static [&'static str],
    /// Whether another request may follow on the app's connection.
    pub again: bool,
}

/// It was too late to say anything but by breaking off, or it was not.
pub const FAILS: &[&str] = &["502", "broken…"];
pub const BAD_GATEWAY: &[&str] = &["502"];

impl Case {
    /// An answer after which no other request may follow on its connection, which the app leaves open.
    pub fn last(what: &'static str, bytes: &[u8], wanted: &'static [&'static str]) -> Self {
        Self {
            what,
            steps: vec![Step::Send(bytes.to_vec())],
            wanted,
            again: false,
        }
    }

    pub fn then(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }

    /// The app may be asked again on this connection.
    pub fn again(mut self) -> Self {
        self.again = true;
        self
    }

    pub fn allows(&self, found: &str) -> bool {
        let fits = |wanted: &&str| match wanted.strip_suffix('…') {
            Some(begin) => found.starts_with(begin),
            None => found == *wanted,
        };
        self.wanted.iter().any(fits)
    }
}

pub fn script(cases: Arc<Vec<Case>>) -> impl Fn(&Asked) -> Vec<Step> {
    move |asked| {
        let number = String::from_utf8_lossy(&asked.target()[1..]).parse::<usize>();
        match number {
            Ok(number) => cases[number].steps.clone(),
            Err(_) => vec![Step::Send(text("/canary"))],
        }
    }
}

pub fn request(method: &str, target: &str) -> String {
    let body = if method == "POST" {
        "Content-Length: 4\r\n\r\nbody"
    } else {
        "\r\n"
    };
    format!("{method} {target} HTTP/1.1\r\nHost: {HOST}\r\n{body}")
}

/// The last answer to a request, in short, after whatever came before it.
pub async fn outcome(stage_at: SocketAddr, method: &str, target: &str) -> String {
    let mut wire = Wire::connect(stage_at).await;
    wire.send(request(method, target)).await;
    let mut found = wire.tell_of(method).await;
    while found.starts_with('1') && found != "101" {
        found = wire.tell_of(method).await;
    }
    found
}

/// Lets an app give all these answers, at once, and asks for something ordinary after each.
pub async fn check(method: &'static str, settings: &str, cases: Vec<Case>) {
    let cases = Arc::new(cases);
    let app = Echo::start(script(Arc::clone(&cases))).await;
    let stage = app.on_stage(settings, ROOM).await;
    let address = stage.address();
    let ask = |number: usize| {
        tokio::spawn(async move {
            let found = outcome(address, method, &format!("/{number}")).await;
            (found, told(address, request("GET", "/canary")).await)
        })
    };
    let asked: Vec<_> = (0..cases.len()).map(ask).collect();
    let mut wrong = Vec::new();
    for (case, asked) in cases.iter().zip(asked) {
        let (found, canary) = asked
            .await
            .unwrap_or_else(|error| (format!("unreadable: {error}"), String::new()));
        if !case.allows(&found) || canary != "200 /canary" {
            wrong.push(format!(
                "{}: {found}, not {:?}; the next one: {canary}",
                case.what, case.wanted
            ));
        }
    }
    wrong.extend(used_again(&app, &cases));
    assert!(
        wrong.is_empty(),
        "{method}, {} of {}:\n{}",
        wrong.len(),
        cases.len(),
        wrong.join("\n")
    );
    serves_on(&stage).await;
}

/// Answers that were the last on their connection, and were not.
fn used_again(app: &Echo, cases: &[Case]) -> Vec<String> {
    let asked = app.state.asked.lock();
    let mut wrong = Vec::new();
    for (number, case) in cases.iter().enumerate().filter(|(_, case)| !case.again) {
        let target = format!("/{number}");
        let mut after = asked.iter().skip_while(|asked| asked.target() != target.as_bytes());
        let connection = after.next().map(|asked| asked.connection);
        if after.any(|asked| Some(asked.connection) == connection) {
            wrong.push(format!("{}: its connection was used again", case.what));
        }
    }
    wrong
}
