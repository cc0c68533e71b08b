//! A drain of the whole node, and the way back, with a fault in it.

use std::{io, thread};

use miren_api::node::{NodePhase, NodeStatus};
use miren_blackbox::{Output, http, request_lines, wait_until};
use miren_fault::{Kind, Point};

use crate::bed::{APP, Bed, HOST, LIMIT};
use crate::walk::Operation;

const DRAIN: &[&str] = &["node", "drain", "--allow-outage"];
/// With less time than what is in flight takes.
const FORCED: &[&str] = &["node", "drain", "--allow-outage", "--timeout", "1s"];
const UNDRAIN: &[&str] = &["node", "undrain"];

/// The operation, and where.
pub struct Draining(Bed);

impl Operation for Draining {
    fn begin() -> Self {
        Self(Bed::new())
    }

    fn run(&mut self, point: Point, kind: Kind) -> String {
        let bed = &self.0;
        let before = bed.pids();
        let fault = |wanted: bool| wanted.then_some((point, kind));
        let undoing = point == Point::DrainUndo;
        let held = (point == Point::DrainForced).then(|| self.held());
        let drain = if held.is_some() { FORCED } else { DRAIN };
        let first = self.asked(drain, fault(!undoing));
        let mut said = format!("drain: exit code {}", first.code);
        let ended = (first.code, self.over());
        if ended.1 == NodePhase::Active && kind == Kind::Error {
            // What could not be kept has not begun, and whoever asked was told so.
            assert_ne!(first.code, 0, "it was said to be drained: {first}");
            self.succeeds(drain);
            said.push_str(", drained when asked again");
        } else {
            let right = (0, NodePhase::Empty);
            assert_eq!(ended, right, "whoever asks is told of the end: {first}");
        }
        if let Some(held) = held {
            // However that ended: its sandbox was killed.
            let _ = held.join().expect("whoever waits for the answer");
        }
        let counted = bed.node.census("hello-rust");
        let is_empty = counted.values().all(|count| *count == 0);
        assert!(is_empty, "EMPTY, and there are {counted:?}");
        let back = self.asked(UNDRAIN, fault(undoing));
        if back.code != 0 {
            assert_eq!(kind, Kind::Error, "{back}");
            self.succeeds(UNDRAIN);
            said.push_str(", back when asked again");
        }
        bed.settle();
        bed.arms.disarm(point);
        format!("{said}{}", bed.who_died(kind, before))
    }

    fn end(self) {
        self.0.end();
    }
}

impl Draining {
    /// Asks until it is done; that it is over then is part of it.
    #[track_caller]
    fn succeeds(&self, arguments: &[&str]) {
        wait_until(&format!("miren {arguments:?} to succeed"), LIMIT, || {
            let output = self.0.node.cli.call(arguments);
            match output.code {
                0 => Ok(()),
                _ => Err(output),
            }
        });
    }

    /// A request that is in flight for longer than the drain may take.
    #[track_caller]
    fn held(&self) -> thread::JoinHandle<io::Result<http::Response>> {
        let address = self.0.node.http;
        let held = thread::spawn(move || http::get(address, HOST, "/sleep?ms=60000"));
        wait_until("a request to be in flight", LIMIT, || {
            let lines = request_lines(&self.0.node.cli, APP);
            match lines.iter().any(|line| line.request.contains("/sleep")) {
                true => Ok(()),
                false => Err(format!("{} lines", lines.len())),
            }
        });
        held
    }

    /// Asks for it, and arms what it is to meet, if that is anything.
    #[track_caller]
    fn asked(&self, arguments: &[&str], fault: Option<(Point, Kind)>) -> Output {
        let bed = &self.0;
        if let Some((point, kind)) = fault {
            bed.arms.arm(point, kind);
        }
        thread::scope(|scope| {
            let asked = scope.spawn(|| bed.node.cli.call(arguments));
            if let Some((point, kind)) = fault {
                bed.wait_hit(point);
                let status = bed.node.cli.call(&["node", "status"]);
                assert!(kind != Kind::Hang || status.code == 0, "{status}");
                if kind == Kind::Hang && point != Point::DrainLook {
                    bed.arms.disarm(point);
                }
            }
            asked.join().expect("who asks")
        })
    }

    /// The phase in which the node comes to rest.
    #[track_caller]
    fn over(&self) -> NodePhase {
        wait_until("the drain to be over, or not to have begun", LIMIT, || {
            let output = self.0.node.cli.call_json(&["node", "status"]);
            if output.code != 0 {
                return Err(output.to_string());
            }
            let status: NodeStatus = output.parsed();
            match status.phase {
                NodePhase::Empty | NodePhase::Active => Ok(status.phase),
                _ => Err(format!("{status:?}")),
            }
        })
    }
}
