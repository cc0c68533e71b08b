//! Following what a node tells over time: slot transitions as they happen, and the apps' own request logs.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use miren_api::resource::{LogLine, SlotTransition};

use crate::cli::Cli;

/// `miren fastpath watch`, read in the background until dropped.
pub struct Follow {
    child: Child,
    lines: Receiver<SlotTransition>,
    seen: Vec<SlotTransition>,
}

impl Follow {
    /// Starts watching a node in which something runs: the slots in use are told first, and from then on nothing is missed.
    #[track_caller]
    pub fn transitions(cli: &Cli) -> Self {
        let mut command = cli.command(&["fastpath", "watch", "--format", "json"]);
        let mut child = command
            .stdout(Stdio::piped())
            .spawn()
            .expect("starting `miren fastpath watch`");
        let stdout = child.stdout.take().expect("its output is piped");
        let (send, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let transition =
                    serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error} in transition {line:?}"));
                if send.send(transition).is_err() {
                    break;
                }
            }
        });
        let mut follow = Self {
            child,
            lines,
            seen: Vec::new(),
        };
        follow.expect("the slots in use", |_| true);
        follow
    }

    /// The first transition that fits, also among those seen before.
    #[track_caller]
    pub fn expect(&mut self, what: &str, fits: impl Fn(&SlotTransition) -> bool) -> SlotTransition {
        let limit = Duration::from_secs(10);
        let start = Instant::now();
        if let Some(found) = self.seen.iter().find(|seen| fits(seen)) {
            return found.clone();
        }
        loop {
            let Ok(next) = self.lines.recv_timeout(limit.saturating_sub(start.elapsed())) else {
                panic!("waited {limit:?} for {what}; seen: {:#?}", self.seen);
            };
            self.seen.push(next.clone());
            if fits(&next) {
                return next;
            }
        }
    }
}

impl Drop for Follow {
    fn drop(&mut self) {
        // Its end is of no interest: it may have ended with the server.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One request as the app that served it logged it.
#[derive(Clone, Debug)]
pub struct RequestLine {
    /// Of control's record of the line, not the app's word.
    pub sandbox: String,
    /// `CLOCK_MONOTONIC` of the app.
    pub at_ns: u64,
    pub version: String,
    /// Method and path.
    pub request: String,
}

/// Every request that any sandbox of `app` has logged in the last hour.
#[track_caller]
pub fn request_lines(cli: &Cli, app: &str) -> Vec<RequestLine> {
    let output = cli.call_json(&["logs", "-a", app, "--last", "1h"]);
    assert_eq!(output.code, 0, "{output}");
    let parse = |text: &str| -> Option<RequestLine> {
        let line: LogLine = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error} in log line {text:?}"));
        let (facts, request) = line.line.split_once(" request ")?;
        let fact = |key: &str| {
            facts
                .split(' ')
                .find_map(|fact| fact.strip_prefix(key))
                .unwrap_or_default()
                .to_owned()
        };
        Some(RequestLine {
            sandbox: line.sandbox.to_string(),
            at_ns: fact("at_ns=").parse().ok()?,
            version: fact("version="),
            request: request.to_owned(),
        })
    };
    output.stdout.lines().filter_map(parse).collect()
}
