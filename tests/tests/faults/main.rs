//! The walk through every fail point with all that can happen at it: whatever it is, what was promised holds when it is over.
//!
//! It needs daemons that have the points, so it is built and run by `cargo xtask faults` alone. `MIREN_FAULTS_ONLY=WORD` narrows it
//! down to points whose names, or `NAME=KIND`, contain the word.

mod arms;
mod bed;
mod deploying;
mod draining;
mod handing;
mod report;
mod steady;
mod walk;

use miren_blackbox::Binaries;
use miren_fault::{FOLDER, Point};
use report::Report;

#[test]
fn i2_i7_i9_d3_every_fault_at_every_fail_point_breaks_no_promise() {
    let only = std::env::var("MIREN_FAULTS_ONLY").unwrap_or_default();
    let report = Report::default();
    walk::all(&report, &only);
    println!("{report}");
    report.assert_whole(&only);
}

#[test]
fn the_daemons_under_test_have_the_points() {
    for name in ["miren-control", "miren-proxy"] {
        let program = std::fs::read(Binaries::find().path(name)).expect("reading a program");
        let has = |word: &str| program.windows(word.len()).any(|window| window == word.as_bytes());
        assert!(has(FOLDER), "{name} has no fail points: run `cargo xtask faults`");
    }
}

#[test]
fn no_two_points_have_one_name() {
    let names: std::collections::BTreeSet<&str> = Point::ALL.iter().map(|point| point.name()).collect();
    assert_eq!(names.len(), Point::ALL.len());
}
