//! In which order the runs are made, and on how many nodes at once: what a run broke is of no use to the next one.

use std::any::Any;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Mutex;
use std::thread;
use std::time::Instant;

use miren_fault::{Kind, Point};

use crate::deploying::Deploying;
use crate::draining::Draining;
use crate::handing::Handing;
use crate::report::{Outcome, Report, runs_of};

/// A node on which an operation can be done again and again, with a fault in it.
pub trait Operation: Sized {
    fn begin() -> Self;

    /// Does it with this fault, and waits until everything is as it should be. What came of it.
    fn run(&mut self, point: Point, kind: Kind) -> String;

    /// Takes down what it has, of which nothing may be left.
    fn end(self);
}

/// What a point is a part of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Deploy,
    Drain,
    HandOver,
}

fn part(point: Point) -> Part {
    match point.name().split('.').next() {
        Some("drain") => Part::Drain,
        Some("give" | "take") => Part::HandOver,
        _ => Part::Deploy,
    }
}

/// Nodes for each part. Most of a run is waiting, for a daemon that its supervisor starts again above all.
const NODES: [(Part, usize); 3] = [(Part::Deploy, 10), (Part::Drain, 3), (Part::HandOver, 4)];

type Runs = Mutex<VecDeque<(Point, Kind)>>;

pub fn all(report: &Report, only: &str) {
    let queues = NODES.map(|(of, _)| Runs::new(runs_of(only).filter(|(point, _)| part(*point) == of).collect()));
    thread::scope(|scope| {
        for ((part, nodes), runs) in NODES.into_iter().zip(&queues) {
            let nodes = nodes.min(runs.lock().expect("nobody has it yet").len());
            for _ in 0..nodes {
                scope.spawn(move || match part {
                    Part::Deploy => walk::<Deploying>(runs, report),
                    Part::Drain => walk::<Draining>(runs, report),
                    Part::HandOver => walk::<Handing>(runs, report),
                });
            }
        }
    });
}

fn walk<O: Operation>(runs: &Runs, report: &Report) {
    let next = || runs.lock().expect("no run panics with it").pop_front();
    let mut last = None;
    while let Some(first) = next() {
        let mut operation = O::begin();
        let mut run = Some(first);
        while let Some((point, kind)) = run {
            let begun = Instant::now();
            let made = catch_unwind(AssertUnwindSafe(|| operation.run(point, kind)));
            let is_violation = made.is_err();
            let said = made.unwrap_or_else(|panic| message(&*panic));
            let took = begun.elapsed();
            report.note(
                point,
                kind,
                Outcome {
                    said,
                    is_violation,
                    took,
                },
            );
            last = Some((point, kind));
            if is_violation {
                break;
            }
            run = next();
        }
        if run.is_some() {
            abandon(operation);
            continue;
        }
        let begun = Instant::now();
        if let (Err(panic), Some((point, kind))) = (catch_unwind(AssertUnwindSafe(|| operation.end())), last) {
            let said = format!("the last one on its node: {}", message(&*panic));
            let outcome = Outcome {
                said,
                is_violation: true,
                took: begun.elapsed(),
            };
            report.note(point, kind, outcome);
        }
    }
}

/// It is not as it was: what there is is removed, and its node tells what it knows, as after any panic.
fn abandon(operation: impl Operation) {
    let ended = catch_unwind(AssertUnwindSafe(move || {
        let _operation = operation;
        resume_unwind(Box::new(()));
    }));
    assert!(ended.is_err(), "it goes on");
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
    text.unwrap_or_else(|| "a panic without a message".to_owned())
}
