//! What came of the runs: one line each, and whether all of it was walked.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Mutex;
use std::time::Duration;

use miren_fault::{Kind, Point};

/// What a run led to.
pub struct Outcome {
    /// What whoever asked was told, or what was broken.
    pub said: String,
    pub is_violation: bool,
    pub took: Duration,
}

/// Of runs on several nodes at once.
#[derive(Default)]
pub struct Report(Mutex<BTreeMap<(Point, Kind), Outcome>>);

/// Longest part of what was said in a line of the table.
const SHOWN: usize = 110;

impl Report {
    pub fn note(&self, point: Point, kind: Kind, outcome: Outcome) {
        self.0
            .lock()
            .expect("no run panics with it")
            .insert((point, kind), outcome);
    }

    /// Every run there is was made, and none broke anything.
    pub fn assert_whole(&self, only: &str) {
        let runs = self.0.lock().expect("no run panics with it");
        let broken: Vec<String> = runs
            .iter()
            .filter(|(_, outcome)| outcome.is_violation)
            .map(|((point, kind), outcome)| format!("{}={}: {}", point.name(), kind.name(), outcome.said))
            .collect();
        assert!(
            broken.is_empty(),
            "{} violations:\n{}",
            broken.len(),
            broken.join("\n\n")
        );
        let missing: Vec<_> = runs_of(only).filter(|run| !runs.contains_key(run)).collect();
        assert!(missing.is_empty(), "these were not walked: {missing:?}");
    }
}

/// All there are to make, with that word in their names.
pub fn runs_of(only: &str) -> impl Iterator<Item = (Point, Kind)> {
    let all = Point::ALL
        .iter()
        .flat_map(|point| point.kinds().iter().map(|kind| (*point, *kind)));
    all.filter(move |(point, kind)| format!("{}={}", point.name(), kind.name()).contains(only))
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let runs = self.0.lock().expect("no run panics with it");
        writeln!(out, "{:<24} {:<6} {:>8}  OUTCOME", "POINT", "KIND", "SECONDS")?;
        for ((point, kind), outcome) in runs.iter() {
            let said = outcome.said.replace('\n', " ");
            let said: String = said.chars().take(SHOWN).collect();
            let mark = if outcome.is_violation { "VIOLATION: " } else { "" };
            let seconds = outcome.took.as_secs_f64();
            writeln!(
                out,
                "{:<24} {:<6} {seconds:>8.1}  {mark}{said}",
                point.name(),
                kind.name()
            )?;
        }
        let violations = runs.values().filter(|outcome| outcome.is_violation).count();
        write!(out, "{} runs, {violations} violations", runs.len())
    }
}
